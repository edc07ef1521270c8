"""Blended tiles: the weighted mean by its definition, and the same bytes however the volume is cut."""

import itertools

import numpy as np
import pytest
import torch
from networks import MEAN, STD, make_checkpoint, make_image, run_inline

import pipeline
from pipeline.config import SegmentJob
from pipeline.errors import PlanError
from pipeline.geometry import BlendLayout, Box
from pipeline.model.arithmetic import fix_arithmetic
from pipeline.model.weights import load_model

NETWORKS = {
    "same": {"in_channels": 3, "depth": 3, "width": 4, "padding": "same", "classes": 3},
    "valid": {"in_channels": 3, "depth": 2, "width": 4, "classes": 1},
    "solid": {"dims": 3, "depth": 2, "width": 4, "padding": "same"},
}


OVERLAPS = ("overlapped", "changed", "changed_share", "mean_spread", "largest_spread")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("blend")
    make_image(root / "2d.zarr", (83, 101), channels=3, shard=(32, 32))
    make_image(root / "3d.zarr", (14, 27, 22), shard=(8, 16, 16))
    for name, settings in NETWORKS.items():
        make_checkpoint(root / f"{name}.safetensors", **settings)
    return root


@pytest.fixture
def job(place, tmp_path):
    def build(network="same", image=None, **settings):
        image = image or ("3d.zarr" if network == "solid" else "2d.zarr")
        output = next(p for i in itertools.count() if not (p := tmp_path / f"out{i}.zarr").exists())
        tile = {"same": (32, 48), "valid": (20, 36), "solid": (8, 16, 12)}[network]
        usual = {"mode": "blend", "tile": tile, "kind": "probabilities", "dtype": "float32", "workers": 1}
        return SegmentJob(
            input=str(place / image), output=str(output), model=str(place / f"{network}.safetensors"),
            **(usual | {"pyramid": False} | settings),
        )  # fmt: skip

    return build


def by_definition(job):
    """The weighted mean over the whole volume at once: scores summed tile by tile in C order."""
    plan = pipeline.plan(job)
    layout, volume = plan.layout, plan.volume
    assert isinstance(layout, BlendLayout)
    dims = plan.header.architecture.dims
    order = torch.channels_last if dims == 2 else torch.channels_last_3d
    model = fix_arithmetic(load_model(job.model).to(memory_format=order))
    weights = layout.weights(plan.tiling.weighting)
    total, weight = 0.0, 0.0
    whole = layout.read_box(volume.box)
    total = np.zeros((plan.output.outputs, *whole.shape), np.float32)
    weight = np.zeros(whole.shape, np.float32)
    for tile in layout.tiles(volume.box):
        shown = torch.from_numpy(volume.read_shown(tile.input).astype(np.float32)).sub(MEAN).div(STD)
        with torch.inference_mode():
            raw = model(shown[None].contiguous(memory_format=order))[0]
        scores = raw.sigmoid() if len(raw) == 1 else raw.softmax(0)
        at = tile.core.relative_to(whole.start).slices
        total[:, *at] += weights * scores.numpy()
        weight[at] += weights
    inside = volume.box.relative_to(whole.start).slices
    return total[:, *inside] / weight[inside]


@pytest.mark.parametrize("weighting", ["gaussian", "mean"])
@pytest.mark.parametrize("network", NETWORKS)
def test_it_is_the_weighted_mean_of_all_tiles_over_a_voxel(job, network, weighting):
    asked = job(network, blend=weighting)
    assert np.array_equal(run_inline(asked), by_definition(asked))


@pytest.mark.parametrize("kind", ["labels", "probabilities", "logits"])
@pytest.mark.parametrize("network", ["same", "valid"])
def test_any_chunk_gives_the_same_bytes(job, network, kind):
    found = {
        run_inline(job(network, kind=kind, dtype=None, chunk=chunk)).tobytes()
        for chunk in [(83, 101), (32, 32), (17, 50), (64, 9)]
    }
    assert len(found) == 1


def test_any_chunk_gives_the_same_bytes_in_3d(job):
    found = {run_inline(job("solid", chunk=chunk)).tobytes() for chunk in [(14, 27, 22), (5, 9, 22), (8, 16, 7)]}
    assert len(found) == 1


@pytest.mark.parametrize("region", [((3, 70), (17, 88)), ((60, 83), (0, 101)), ((0, 1), (100, 101))])
@pytest.mark.parametrize("tta", ["none", "all"])
def test_any_region_equals_the_same_voxels_of_the_full_run(job, region, tta):
    full = run_inline(job("valid", tta=tta))
    part = run_inline(job("valid", tta=tta, region=region, chunk=(20, 33)))
    assert np.array_equal(part, full[:, *(slice(a, b) for a, b in region)])


def test_disagreement_of_tiles_is_counted_once_a_voxel(job):
    sums = []
    for chunk in [(83, 101), (32, 32)]:
        asked = job("same", chunk=chunk, kind="labels", dtype=None, overlap=(16, 16))
        found = pipeline.segment(asked)["seams"]
        sums.append({key: round(found[key], 4) for key in OVERLAPS})
    assert sums[0] == sums[1]
    layout = pipeline.plan(asked).layout
    count = np.zeros((83, 101), int)
    for tile in layout.tile_cores(Box.of_shape(count.shape)):
        count[tile.intersect(Box.of_shape(count.shape)).slices] += 1
    assert sums[0]["overlapped"] == (count > 1).sum()
    assert 0 < sums[0]["mean_spread"] < sums[0]["largest_spread"] <= 1
    assert 0 < sums[0]["changed"] < sums[0]["overlapped"]


def test_tiles_without_overlap_have_nothing_to_compare(job):
    found = pipeline.segment(job("same", overlap=(0, 0)))["seams"]
    assert {key: found[key] for key in OVERLAPS} == dict.fromkeys(OVERLAPS, 0)


def test_the_plan_names_the_mode_and_fits_the_outcome(job):
    plan = pipeline.plan(job("same"))
    described = plan.describe()
    assert described["exact"] is False
    assert described["blend"] == "gaussian"
    assert described["overlap"] == [8, 12]
    assert described["tiles"] == plan.layout.count(plan.region)
    assert (plan.batch, plan.cluster.threads) == (1, 1)


def test_usual_tiles_do_not_depend_on_chunk_volume_or_memory(job):
    tiles = {
        pipeline.plan(job("valid", tile=None, **settings)).layout.tile
        for settings in ({}, {"chunk": (40, 40)}, {"memory_limit": 4 << 30}, {"region": ((0, 9), (0, 9))})
    }
    assert tiles == {(512 - 16, 512 - 16)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 4}, r"--batch 4: blended tiles are taken one by one"),
        ({"threads": 2}, r"--threads 2: blended tiles run in one thread a worker"),
        ({"tile": (33, 48)}, r"--tile 33 along y: .*use 32 or 36"),
        ({"tile": (2, 48)}, r"--tile 2 along y: .*use 8 or 12"),
        ({"overlap": (9, 12)}, r"--overlap 9 along y: tiles of 32 would step by 23, .*stride 4; use 12 or 8"),
        ({"overlap": (32, 12)}, r"--overlap 32 along y"),
        ({"overlap": (8,)}, r"--overlap 8 has 1 axes, the volume 2"),
        ({"tile": (8,)}, r"--tile 8 has 1 axes, the volume 2"),
        ({"mode": "exact", "overlap": (8, 8)}, r"--overlap is for blended tiles"),
        ({"mode": "auto", "blend": "mean"}, r"--blend is for blended tiles"),
    ],
)
def test_refusals(job, settings, message):
    with pytest.raises(PlanError, match=message):
        pipeline.plan(job("same", **settings))


def test_another_overlap_is_another_run(job):
    asked = job("same")
    run_inline(asked)
    with pytest.raises(
        pipeline.OvertileError, match=r"tiles\.overlap: the run has \[8, 12\], you ask for \[16, 12\]"
    ):
        pipeline.segment(asked.model_copy(update={"overlap": (16, 12)}))
    assert pipeline.segment(asked)["state"] == "sealed"


@pytest.mark.slow
def test_one_and_two_workers_store_the_same_bytes(job):
    roots = {pipeline.segment(job("same", workers=n, chunk=(32, 32), tta="flips"))["seal"]["root"] for n in (1, 2)}
    assert len(roots) == 1
