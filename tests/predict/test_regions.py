"""A law: any region, cut in any way, equals the same voxels of the full run, bit for bit; exact, blended and turned."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import make_checkpoint, make_image

import pipeline
from pipeline.config import SegmentJob
from pipeline.jobs.listener import Silent
from pipeline.jobs.segmentation import Segmentation

SHAPE = (61, 74)
STRIDE = 4

MODES = {
    "exact": {},
    "turned": {"tta": "all"},
    "blended": {"mode": "blend", "tile": (24, 32), "overlap": (8, 12)},
    "both": {"mode": "blend", "tile": (24, 32), "overlap": (4, 12), "tta": "flips", "blend": "mean"},
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("regions")
    make_image(root / "image.zarr", SHAPE, channels=2, shard=(32, 32))
    make_checkpoint(root / "model.safetensors", in_channels=2, depth=3, width=4, padding="same", classes=3)
    return root


@pytest.fixture(scope="module")
def full(place):
    return {mode: computed(place, **settings) for mode, settings in MODES.items()}


def computed(place, **settings):
    """A run's result, chunk by chunk, the last one first, without storing it."""
    usual = {"kind": "logits", "workers": 1, "output": str(place / "never.zarr")}
    job = SegmentJob(input=str(place / "image.zarr"), model=str(place / "model.safetensors"), **(usual | settings))
    plan = pipeline.plan(job)
    processor = Segmentation(plan, Silent()).work().open(1)
    result = np.full((plan.output.outputs, *plan.region.shape), np.nan, plan.output.dtype)
    for chunk in reversed(range(len(plan.grid))):
        result[processor.stored_box(chunk).slices] = processor.predict(chunk)[0].voxels
    return result


def ranges(length):
    return st.tuples(st.integers(0, length - 1), st.integers(1, length)).map(
        lambda found: (found[0], max(found[0] + 1, found[1]))
    )


cuts = st.tuples(ranges(SHAPE[0]), ranges(SHAPE[1]), st.integers(5, 70), st.integers(5, 70), st.integers(1, 12))


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=8)
@given(cuts)
def test_any_region_equals_the_same_voxels_of_the_full_run(place, full, mode, cut):
    y, x, height, width, tile = cut
    tiles = {} if "tile" in MODES[mode] else {"tile": (tile * STRIDE, (13 - tile) * STRIDE)}
    part = computed(place, region=(y, x), chunk=(height, width), **tiles, **MODES[mode])
    assert np.array_equal(part, full[mode][:, slice(*y), slice(*x)])
