"""Every network of the zoo through a whole run: exact ones equal the whole image, the others any other cut."""

import itertools

import numpy as np
import pytest
from networks import make_image
from specimens import save_specimen
from zoo import ZOO

import pipeline
from pipeline.config import CheckJob, SegmentJob
from pipeline.jobs.listener import Silent
from pipeline.jobs.segmentation import Segmentation
from pipeline.model.constructors import VARIABLE
from pipeline.predict.tiling import _usual_tile

SHAPES = {2: (83, 101), 3: (14, 27, 22)}
CUTS = {2: [(83, 101), (30, 41)], 3: [(14, 27, 22), (6, 27, 9)]}


@pytest.fixture(autouse=True)
def _allowed(monkeypatch):
    monkeypatch.setenv(VARIABLE, "specimens")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Images by dimensions and channels, made when they are asked for."""
    root = tmp_path_factory.mktemp("images")

    def find(specimen):
        path = root / f"{specimen.dims}-{specimen.in_channels}.zarr"
        if not path.exists():
            make_image(path, SHAPES[specimen.dims], channels=specimen.in_channels)
        return path

    return find


def named(specimen):
    return specimen.name


@pytest.mark.parametrize("specimen", [s for s in ZOO if s.exact], ids=named)
def test_stitched_equals_the_whole_to_the_last_bit(specimen, image, tmp_path):
    save_specimen(tmp_path / "model.safetensors", specimen)
    found = pipeline.check_model(CheckJob(model=str(tmp_path / "model.safetensors"), input=str(image(specimen))))
    assert found["exact"]
    assert [cut["differing"] for cut in found["cuts"]] == [0, 0, 0], found["cuts"]


@pytest.mark.parametrize("specimen", [s for s in ZOO if not s.exact], ids=named)
def test_what_is_not_exact_gives_the_same_bytes_in_any_cut_and_order(specimen, image, tmp_path):
    job = small_tiles(specimen, image, tmp_path)
    assert pipeline.plan(job).describe()["reasons"]
    cuts = itertools.product(CUTS[specimen.dims], (False, True))
    results = [in_process(job, chunk, tmp_path, backwards=back) for chunk, back in cuts]
    assert len({result.tobytes() for result in results}) == 1


@pytest.mark.parametrize("specimen", [s for s in ZOO if s.exact], ids=named)
def test_in_bfloat16_one_shape_of_tiles_gives_the_same_bits_at_any_place(specimen, image, tmp_path):
    job = small_tiles(specimen, image, tmp_path).model_copy(update={"precision": "bfloat16"})
    cuts = itertools.product(CUTS[specimen.dims], (False, True))
    results = [in_process(job, chunk, tmp_path, backwards=back) for chunk, back in cuts]
    assert len({result.tobytes() for result in results}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("what", ["dropout", "InstanceNorm"])
def test_one_and_two_workers_give_the_same_bytes(what, image, tmp_path):
    specimen = next(s for s in ZOO if not s.exact and what.lower() in s.name.lower())
    job = small_tiles(specimen, image, tmp_path)
    roots = set()
    for workers in (1, 2):
        settings = {
            "workers": workers,
            "output": str(tmp_path / f"{workers}.zarr"),
            "chunk": CUTS[specimen.dims][1],
        }
        found = pipeline.segment(job.model_copy(update=settings))
        assert found["seams"]["overlapped"] > 0
        roots.add(found["seal"]["root"])
    assert len(roots) == 1


def small_tiles(specimen, image, place):
    """Return the job of a network over its image, in tiles that are smaller than the chunks."""
    architecture = save_specimen(place / "model.safetensors", specimen)
    usual = 40 if specimen.dims == 2 else 12
    reaches = architecture.reaches()
    if specimen.exact:
        tile = tuple(-(-usual // 2 // reach.stride) * reach.stride for reach in reaches)
    else:
        tile = tuple(_usual_tile(usual, reach) for reach in reaches)
    return SegmentJob(
        input=str(image(specimen)), output=str(place / "out.zarr"), model=str(place / "model.safetensors"),
        kind="labels" if architecture.output == "classes" else "logits", tile=tile, workers=1, pyramid=False,
    )  # fmt: skip


def in_process(job, chunk, place, *, backwards):
    """Return what a run in these chunks would store, computed here, in or against the chunks' order."""
    plan = pipeline.plan(job.model_copy(update={"chunk": chunk, "output": str(place / "planned.zarr")}))
    processor = Segmentation(plan, Silent()).work().open(1)
    chunks = {
        index: processor.predict(index)[0].voxels for index in sorted(range(len(plan.grid)), reverse=backwards)
    }
    whole = np.zeros(plan.array.stored_shape, chunks[0].dtype)
    for index, voxels in chunks.items():
        whole[processor.stored_box(index).slices] = voxels
    assert np.isfinite(whole).all()
    return whole
