"""Every network of the zoo through a whole run: exact ones equal the whole image, the others any other cut."""

import itertools

import numpy as np
import pytest
import torch
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


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    job = blended(specimen, image, tmp_path)
    results = []
    for number, (chunk, backwards) in enumerate(itertools.product(CUTS[specimen.dims], (False, True))):
        plan = pipeline.plan(job.model_copy(update={"chunk": chunk, "output": str(tmp_path / f"{number}.zarr")}))
        assert plan.describe()["reasons"]
        processor = Segmentation(plan, Silent()).work().open(1)
        result = np.full((plan.output.outputs, *plan.region.shape), np.nan, np.float32)
        for index in sorted(range(len(plan.grid)), reverse=backwards):
            result[processor.stored_box(index).slices] = processor.predict(index)[0].voxels
        results.append(result)
    assert np.isfinite(results[0]).all()
    assert len({result.tobytes() for result in results}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("what", ["dropout", "InstanceNorm"])
def test_one_and_two_workers_give_the_same_bytes(what, image, tmp_path):
    specimen = next(s for s in ZOO if not s.exact and what.lower() in s.name.lower())
    job = blended(specimen, image, tmp_path)
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


def blended(specimen, image, place):
    architecture = save_specimen(place / "model.safetensors", specimen)
    tile = tuple(_usual_tile(40 if specimen.dims == 2 else 12, reach) for reach in architecture.reaches())
    return SegmentJob(
        input=str(image(specimen)), output=str(place / "out.zarr"), model=str(place / "model.safetensors"),
        kind="logits", tile=tile, workers=1, pyramid=False,
    )  # fmt: skip
