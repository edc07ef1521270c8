"""The main job over files of every kind, without an ingest: the same bytes, and all that goes with a run."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from inline import drive, stored
from networks import make_checkpoint
from pictures import SHAPE, UTM, WRITERS, picture, write_geotiff, write_png, write_raster, write_slide
from PIL import Image

import pipeline
from pipeline.cli.main import run as command
from pipeline.config import CheckJob, IngestJob, SegmentJob
from pipeline.errors import InputError, PlanError, RunMismatchError, VolumeError
from pipeline.jobs.listener import Silent
from pipeline.jobs.place import place_attributes
from pipeline.jobs.planning import plan
from pipeline.jobs.recording import segment_work
from pipeline.jobs.replay import replay
from pipeline.jobs.result import open_result
from pipeline.jobs.segmentation import Segmentation
from pipeline.run.verify import verify
from pipeline.volume.geo import read_georeference

NETWORK = {"depth": 2, "width": 2, "padding": "same"}


def model(root, channels):
    path = root / "model.safetensors"
    return path if path.exists() else make_checkpoint(path, in_channels=channels, **NETWORK)


def job(root, source, channels, *, output="out.zarr", flat=0, **settings):
    sizes = {"chunk": (1,) * flat + (32, 32), "tile": (1,) * flat + (32, 32)}
    return SegmentJob(
        input=source,
        output=str(root / output),
        model=str(model(root, channels)),
        workers=1,
        pyramid=False,
        **(sizes | settings),
    )


@pytest.fixture(params=WRITERS)
def written(request, tmp_path):
    writer, channels = WRITERS[request.param]
    return job(tmp_path, writer(tmp_path), channels, flat=int(request.param == "stack"))


def test_every_kind_gives_the_bytes_of_its_ingest(written, tmp_path):
    drive(written)
    assert verify(written.output).ok
    assert replay(written.output, 2, seed=0)["differ"] == 0
    pipeline.ingest(IngestJob(source=written.input, output=str(tmp_path / "in.zarr"), pyramid=False))
    drive(written.model_copy(update={"input": str(tmp_path / "in.zarr"), "output": str(tmp_path / "b.zarr")}))
    assert stored(written.output) == stored(tmp_path / "b.zarr")
    assert len(stored(written.output)) == (27 if "*" in written.input else 9)


def test_every_kind_can_be_shown_in_a_report(written, tmp_path):
    drive(written)
    made = pipeline.report(written.output, out=tmp_path / "report.html")
    assert "not shown" not in (tmp_path / "report.html").read_text(), made


def test_a_level_and_a_region_of_a_slide(tmp_path):
    at = job(tmp_path, write_slide(tmp_path), 3, level=1, region=((3, 35), (5, 45)))
    drive(at)
    pipeline.ingest(IngestJob(source=at.input, output=str(tmp_path / "in.zarr"), level=1, pyramid=False))
    same = at.model_copy(
        update={"input": str(tmp_path / "in.zarr"), "output": str(tmp_path / "b.zarr"), "level": 0}
    )
    drive(same)
    assert stored(at.output) == stored(same.output)
    assert open_result(at.output, None).transform == (2.0, 0, 10.0, 0, 2.0, 6.0)


def test_bands_are_chosen_in_files_and_in_zarr(tmp_path):
    source = write_geotiff(tmp_path)
    direct = job(tmp_path, source, 1, bands=(2,))
    drive(direct)
    pipeline.ingest(IngestJob(source=source, output=str(tmp_path / "in.zarr"), pyramid=False))
    drive(direct.model_copy(update={"input": str(tmp_path / "in.zarr"), "output": str(tmp_path / "b.zarr")}))
    assert stored(direct.output) == stored(tmp_path / "b.zarr")
    assert np.array_equal(plan(direct).volume.read(plan(direct).volume.box), picture(3)[1:2])
    with pytest.raises(VolumeError, match="there is no band 4"):
        plan(direct.model_copy(update={"bands": (4,), "input": str(tmp_path / "in.zarr")}))
    with pytest.raises(VolumeError, match="--crs is for raster files"):
        plan(direct.model_copy(update={"crs": "EPSG:4326", "input": str(tmp_path / "in.zarr")}))


def test_a_result_lies_where_its_raster_does(tmp_path):
    made = plan(job(tmp_path, write_geotiff(tmp_path), 3, region=((10, 50), (20, 60))))
    found = read_georeference(place_attributes(made))
    assert found.transform[2] == UTM.c + 20 * 0.5
    assert found.transform[5] == UTM.f - 10 * 0.5


def rewritten(path):
    """Change a file's voxels, and its time where the clock is too coarse to tell."""
    before = os.stat(path).st_mtime_ns
    write_raster(path, 255 - picture(3)[..., 50:], UTM @ UTM.translation(50, 0))
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_only_chunks_over_a_changed_file_are_stale(tmp_path):
    writer, channels = WRITERS["mosaic"]
    base = job(tmp_path, writer(tmp_path), channels)
    drive(base)
    changed = tmp_path / "scenes" / "b.tif"
    rewritten(changed)
    with pytest.raises(RunMismatchError, match=rf"6 of 9 finished chunks.*{changed}.*--stale"):
        drive(base)
    run = Segmentation(plan(base), Silent())
    with run.opened(stale=True) as found:
        assert sorted(found.stale) == [1, 2, 4, 5, 7, 8]
    drive(base)
    drive(base.model_copy(update={"output": str(tmp_path / "anew.zarr")}))
    assert stored(base.output) == stored(tmp_path / "anew.zarr")


def test_check_takes_files_too(tmp_path):
    found = pipeline.check_model(CheckJob(model=str(model(tmp_path, 3)), input=write_slide(tmp_path)))
    assert found["holds"]
    assert found["region"] == "0:70,0:90"


def test_a_file_that_is_decoded_in_large_pieces_is_for_an_ingest(tmp_path):
    Image.fromarray(picture(1, (400, 300))[0]).save(tmp_path / "large.png")
    with pytest.raises(PlanError, match=r"pieces of 400,300 voxels.*decode it \d+ times over.*ingest"):
        plan(job(tmp_path, str(tmp_path / "large.png"), 1))
    source = write_png(tmp_path)
    at_once = plan(job(tmp_path, source, 1, chunk=(128, 128), tile=(16, 16))).describe()
    assert at_once["read_amplification"] == 1
    nine = plan(job(tmp_path, source, 1)).describe()
    assert nine["read_amplification"] == 9
    assert nine["bytes_read"] == 9 * 70 * 90


def test_the_memory_of_whole_pieces_is_planned(tmp_path):
    np.save(tmp_path / "in.npy", picture(1)[0])
    cheap = plan(job(tmp_path, str(tmp_path / "in.npy"), 1)).memory
    whole = plan(job(tmp_path, write_png(tmp_path), 1)).memory
    assert whole.windows - cheap.windows >= 4 * 70 * 90


@pytest.mark.parametrize(
    ("source", "output", "match"),
    [
        ("in.h5::/a", "in.h5", "is the input"),
        ("slices", "slices/out.zarr", "lies in it"),
        ("in.png", "in.png/out.zarr", "lies in it"),
        ("missing.png", "out.zarr", "no such file"),
        ("missing/*.png", "out.zarr", "no slices there"),
        ("https://user:secret@host/a.tif", "out.zarr", "credentials go into the environment"),
    ],
)
def test_refusals_end_with_2_and_write_nothing(tmp_path, monkeypatch, capsys, source, output, match):
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path)
    (tmp_path / "slices").mkdir()
    model(tmp_path, 1)
    before = sorted(p.name for p in tmp_path.rglob("*"))
    assert command(["segment", source, output, "--model", "model.safetensors"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert match in told
    assert "secret" not in told
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_a_worker_that_reads_a_zarr_imports_no_other_format():
    code = (
        "import sys, pipeline.predict.work, pipeline.volume.zarr_spec, pipeline.volume.resampled;"
        " sys.exit(bool({'rasterio', 'h5py', 'tifffile', 'tensorstore', 'openslide'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("size", [None, "2um"])
def test_how_an_image_is_opened_travels_to_the_worker(tmp_path, size):
    made = plan(job(tmp_path, write_slide(tmp_path), 3, pixel_size=size))
    found = pickle.loads(pickle.dumps(segment_work(made))).source.image.open()
    assert found.shape == made.volume.shape
    assert np.array_equal(found.read(found.box), made.volume.read(made.volume.box))
    assert made.memory.base > plan(zarr_of(made, tmp_path)).memory.base


def zarr_of(made, tmp_path):
    """Return the job over the same image in Zarr."""
    pipeline.ingest(IngestJob(source=made.job.input, output=str(tmp_path / "in.zarr"), pyramid=False))
    return made.job.model_copy(update={"input": str(tmp_path / "in.zarr")})


def test_an_unknown_kind_of_file_is_refused(tmp_path):
    (tmp_path / "in.txt").write_text("hello")
    with pytest.raises(InputError, match="no format that is read"):
        plan(job(tmp_path, str(tmp_path / "in.txt"), 1))


def test_the_shape_is_the_one_that_was_written(tmp_path):
    assert plan(job(tmp_path, write_png(tmp_path), 1)).volume.shape == SHAPE
