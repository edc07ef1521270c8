import dataclasses

import numpy as np
import pytest
from inline import drive, stored
from pictures import picture, write_png, write_slide
from volumes import save, save_ome

import pipeline
from pipeline.cli.main import run as command
from pipeline.config import CheckJob, SegmentJob
from pipeline.errors import InputError, PlanError, RunMismatchError
from pipeline.jobs.planning import plan
from pipeline.jobs.result import open_result
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.checkpoint import CheckpointHeader, Normalisation
from pipeline.model.unet import UNet
from pipeline.model.weights import save_checkpoint
from pipeline.predict.planner import make_plan
from pipeline.run.machine import this_machine
from pipeline.volume.resampled import ResampledImage
from pipeline.volume.sources.units import parse_pixel_size


def model(path, size=None, unit="micrometer", channels=1, dims=2):
    """Save a tiny network that was trained on voxels of a size."""
    architecture = UNetArchitecture(in_channels=channels, classes=2, depth=1, width=2, padding="same", dims=dims)
    header = CheckpointHeader(
        architecture=architecture,
        normalisation=Normalisation(mean=(120.0,) * channels, std=(50.0,) * channels),
        classes=("background", "cell"),
        axes="zyx"[-dims:],
        voxel_size=size,
        unit=unit if size else None,
    )
    save_checkpoint(path, UNet(architecture), header)
    return str(path)


@pytest.fixture
def pyramid(tmp_path):
    """An image with levels of 1, 2 and 4 micrometres."""
    full = picture(1, (80, 120))[0]
    save_ome(tmp_path / "in.zarr", [full[::f, ::f] for f in (1, 2, 4)], "yx", version="0.5")
    return str(tmp_path / "in.zarr")


def job(tmp_path, source, size=None, **settings):
    if not (tmp_path / "m.safetensors").exists():
        model(tmp_path / "m.safetensors", size)
    paths = {"input": source, "output": str(tmp_path / "out.zarr"), "model": str(tmp_path / "m.safetensors")}
    return SegmentJob(**paths, workers=1, pyramid=False, **settings)


@pytest.mark.parametrize(
    ("size", "asked", "level", "factor"),
    [
        (None, None, 0, None),  # the model does not know
        ((1.0, 1.0), None, 0, None),
        ((1.2, 1.0), None, 0, None),  # 20 % is allowed
        ((0.84, 1.0), None, 0, None),
        ((9.0, 9.0), "any", 0, None),
        ((1.0, 1.0), "model", 0, None),
        ((2.03, 1.97), "model", 1, None),  # within 2 %
        ((4.0, 4.0), "model", 2, None),
        ((3.0, 3.0), "model", 1, (1.5, 1.5)),  # from the next finer level
        ((8.0, 6.0), "model", 2, (2.0, 1.5)),
        ((2.0, 5.0), "model", 1, (1.0, 2.5)),
        (None, "0.5um", 0, (0.5, 0.5)),
        (None, "250nm", 0, (0.25, 0.25)),  # four times finer is the most
        (None, "0.5,3um", 0, (0.5, 3.0)),
        (None, "2um,3000nm", 1, (1.0, 1.5)),
    ],
)
def test_which_voxels_are_segmented(tmp_path, pyramid, size, asked, level, factor):
    made = plan(job(tmp_path, pyramid, size, pixel_size=asked))
    told = made.describe()["resolution"]
    full = [float(f) for f in factor or (1, 1)]
    assert told["level"] == made.volume.level == level
    assert told["resampled"] == (factor is not None) == isinstance(made.volume, ResampledImage)
    assert told["factor"] == pytest.approx(full)
    assert told["voxel_size"] == pytest.approx([2**level * f for f in full])
    assert told["finest"] == pytest.approx([2**level * f for f in full])
    assert told["unit"] == "micrometer"
    assert ("resolution" in made.identity["input"]) == (factor is not None)
    assert made.array.space.voxel_size == made.volume.space.voxel_size
    assert made.describe()["bytes_read"] >= 80 * 120 / 4**level * 0.9
    if factor is None:
        assert made.describe()["read_amplification"] == 1


@pytest.mark.parametrize(
    ("size", "settings", "match"),
    [
        ((2.0, 2.0), {}, r"are 1 x 1 micrometer.*trained on 2 x 2 micrometer.*Use --level 1 \(2 x 2 micrometer\)"),
        ((2.0, 2.0), {"level": 2}, "Use --level 1"),
        ((1.0, 1.21), {}, "Use --pixel-size model to bring .* or --pixel-size any"),
        ((0.5, 0.5), {}, "trained on 500 x 500 nanometer.*Use --pixel-size model"),
        ((2.0, 2.0), {"voxel_size": (0.5, 0.5), "unit": "um", "level": 1}, "voxels of level 1 are 500 x 500 nano"),
        (None, {"pixel_size": "model"}, "does not tell the size of the voxels that it was trained on"),
        (None, {"pixel_size": "2um", "level": 1}, "--level 1 and --pixel-size 2um exclude each other"),
        (None, {"pixel_size": "240nm"}, "more than 4 times as large.*ask for 250 x 250 nanometer at least"),
        (None, {"pixel_size": "1mm"}, "less than one of"),
    ],
)
def test_refusals(tmp_path, pyramid, size, settings, match):
    with pytest.raises(InputError, match=match):
        plan(job(tmp_path, pyramid, size, **settings))
    assert not (tmp_path / "out.zarr").exists()


def test_an_image_without_a_size_is_not_compared_and_not_resampled(tmp_path):
    save(tmp_path / "in.zarr", picture(1)[0], "yx")
    base = job(tmp_path, str(tmp_path / "in.zarr"), (0.5, 0.5))
    assert plan(base).resolution.factors is None
    asked = base.model_copy(update={"pixel_size": "model"})
    with pytest.raises(PlanError, match=r"does not tell the size of its voxels.*--voxel-size 0.25,0.25 --unit um"):
        plan(asked)
    said = asked.model_copy(update={"voxel_size": (0.25, 0.25), "unit": "um"})
    assert plan(said).resolution.factors == (2.0, 2.0)
    assert plan(said).volume.shape == (35, 45)
    with pytest.raises(PlanError, match="trained on"):
        plan(said.model_copy(update={"pixel_size": None}))


def test_a_size_that_the_user_says_is_that_of_level_0(tmp_path):
    model(tmp_path / "m.safetensors", (1.0, 1.0), channels=3)
    base = job(tmp_path, write_slide(tmp_path), pixel_size="0.97um", voxel_size=(0.25, 0.25), unit="um")
    made = plan(base)
    assert made.volume.level == 2  # 0.25, 0.5 and nearly 1 micrometre: 70 x 90 pixels are 18 x 23 there
    assert made.volume.space.voxel_size == pytest.approx((0.25 * 70 / 18, 0.25 * 90 / 23))
    assert made.describe()["resolution"]["finest"] == pytest.approx([70 / 18, 90 / 23])


def test_a_stack_is_resampled_in_the_plane(tmp_path):
    model(tmp_path / "m.safetensors", (5.0, 1.0, 1.0), dims=3)
    save_ome(tmp_path / "in.zarr", [picture(1, (12, 30, 40))[0]], "zyx", version="0.5")
    made = plan(job(tmp_path, str(tmp_path / "in.zarr"), pixel_size="2um"))
    assert made.volume.shape == (12, 15, 20)
    assert made.describe()["resolution"]["factor"] == [1, 2, 2]


@pytest.mark.parametrize("text", ["0.5", "um", "0um", "-1um", "1um,2um,3um", "1parsec", "", "nanum", "1e999um"])
def test_a_size_that_is_none_is_refused_by_the_job(tmp_path, text):
    with pytest.raises(ValueError, match=r"size of a pixel|lengths"):
        parse_pixel_size(text)
    (tmp_path / "in.zarr").mkdir()
    arguments = [
        "segment",
        str(tmp_path / "in.zarr"),
        str(tmp_path / "out.zarr"),
        "--model",
        "m",
        "--pixel-size",
        text,
    ]
    assert command(arguments) == 2
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize(
    ("text", "metres"),
    [
        ("0.5um", (5e-7, 5e-7)),
        ("0.5,0.25um", (5e-7, 2.5e-7)),
        ("0.5um, 250 nm", (5e-7, 2.5e-7)),
        ("10 m", (10.0, 10.0)),
        ("1e-3mm", (1e-6, 1e-6)),
        ("0.5µm", (5e-7, 5e-7)),
    ],
)
def test_how_a_size_is_written(text, metres):
    assert parse_pixel_size(text) == pytest.approx(metres)


def test_a_resampled_run_equals_one_over_the_resampled_image(tmp_path, pyramid):
    base = job(tmp_path, pyramid, (3.0, 3.0), pixel_size="model", region=((1, 25), (3, 40)), chunk=(16, 16))
    made = plan(base)
    drive(base)
    save(tmp_path / "made.zarr", made.volume.read(made.volume.box)[0], "yx")
    drive(base.model_copy(update={"input": str(tmp_path / "made.zarr"), "output": str(tmp_path / "b.zarr"),
                                  "pixel_size": None}))  # fmt: skip
    assert stored(base.output) == stored(tmp_path / "b.zarr")
    assert open_result(base.output, None).transform == pytest.approx((3, 0, 9, 0, 3, 3))
    with pytest.raises(RunMismatchError, match="resolution"):
        plan(base.model_copy(update={"pixel_size": "2.9um"}))
    pipeline.report(base.output, out=tmp_path / "report.html")
    assert "not shown" not in (tmp_path / "report.html").read_text()


def test_a_run_that_was_begun_before_sizes_were_compared_goes_on(tmp_path, pyramid):
    base = job(tmp_path, pyramid, (9.0, 9.0), pixel_size="any")
    recorded = plan(base).describe()
    open_ended = base.model_copy(update={"pixel_size": None})
    with pytest.raises(PlanError, match="trained on"):
        make_plan(open_ended, this_machine(), recorded)
    del recorded["resolution"]
    assert make_plan(open_ended, this_machine(), recorded).resolution.factors is None


def test_check_does_not_compare_sizes(tmp_path, pyramid):
    model(tmp_path / "m.safetensors", (9.0, 9.0))
    found = pipeline.check_model(CheckJob(model=str(tmp_path / "m.safetensors"), input=pyramid))
    assert found["holds"]


def test_the_plan_says_it(tmp_path, pyramid, capsys):
    made = job(tmp_path, pyramid, (3.0, 3.0))
    arguments = ["plan", made.input, made.output, "--model", made.model, "--pixel-size"]
    assert command([*arguments, "model"]) == 0
    assert "level 1, 3 x 3 micrometer, each resampled from 1.5 x 1.5" in capsys.readouterr().out
    assert command([*arguments, "any"]) == 0
    assert "level 0, 1 x 1 micrometer\n" in capsys.readouterr().out


def test_memory_counts_what_is_resampled(tmp_path):
    model(tmp_path / "m.safetensors")
    source = write_png(tmp_path)
    settings = {"voxel_size": (1.0, 1.0), "unit": "um", "chunk": (32, 32), "tile": (16, 16)}
    plain, coarse = (plan(job(tmp_path, source, **settings, pixel_size=size)) for size in ("1um", "4um"))
    assert coarse.memory.windows > plain.memory.windows
    assert dataclasses.replace(coarse, job=plain.job).identity["input"]["resolution"] == [4.0, 4.0]
    assert np.array_equal(coarse.volume.read(coarse.volume.box).shape, (1, 17, 22))
