"""The first promise: the stitched result is what the network would have said had it seen the whole image."""

import itertools

import numpy as np
import pytest
import torch
import zarr
from networks import make_checkpoint, make_image, run_inline, stored, whole

import pipeline
from pipeline.config import SegmentJob

NETWORKS = {
    "valid-2d": {"in_channels": 3, "depth": 5, "width": 4},
    "same-2d": {"in_channels": 3, "depth": 4, "width": 4, "padding": "same", "norm": "batch"},
    "bilinear-2d": {"in_channels": 3, "depth": 3, "width": 4, "upsampling": "bilinear", "classes": 3},
    "shuffle-2d": {"in_channels": 3, "depth": 3, "width": 4, "upsampling": "pixel_shuffle", "padding": "same"},
    "unpool-2d": {
        "in_channels": 3,
        "depth": 3,
        "width": 4,
        "upsampling": "max_unpool",
        "skip": "none",
        "classes": 1,
    },
    "valid-3d": {"dims": 3, "depth": 2, "width": 4},
    "same-3d": {"dims": 3, "depth": 2, "width": 4, "padding": "same", "skip": "add"},
}

# Whole chunks, odd chunks, one chunk; tiles that divide them and tiles that do not.
CUTS_2D = [((64, 64), (64, 64), 1), ((96, 160), (96, 96), 4), ((57, 131), (64, 96), 1), ((203, 171), (96, 64), 4)]
CUTS_3D = [((12, 16, 16), (4, 16, 16), 1), ((7, 31, 16), (8, 12, 20), 4), ((24, 37, 30), (12, 16, 16), 1)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("exact")
    make_image(root / "2d.zarr", (203, 171), channels=3, shard=(64, 64))
    make_image(root / "3d.zarr", (24, 37, 30), shard=(8, 16, 16))
    for name, settings in NETWORKS.items():
        make_checkpoint(root / f"{name}.safetensors", **settings)
    return root


@pytest.fixture
def job(place, tmp_path):
    def build(network, **settings):
        image = place / ("3d.zarr" if network.endswith("3d") else "2d.zarr")
        number = itertools.count()
        output = next(p for i in number if not (p := tmp_path / f"out{i}.zarr").exists())
        settings = {
            "kind": "logits",
            "precision": "float32",
            "threads": 1,
            "workers": 1,
            "pyramid": False,
        } | settings
        return SegmentJob(
            input=str(image), output=str(output), model=str(place / f"{network}.safetensors"), **settings
        )

    return build


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("network", NETWORKS)
def test_stitched_equals_the_whole_mirrored_image_to_the_last_bit(job, network, precision):
    cuts = CUTS_3D if network.endswith("3d") else CUTS_2D
    if precision == "float64" and network not in ("valid-2d", "same-2d", "valid-3d", "same-3d"):
        pytest.skip("float64 is slow: the plain networks prove its arithmetic")
    if precision == "bfloat16":
        cuts = cuts[1:3]
    reference = None
    for chunk, tile, batch in cuts:
        settings = {"chunk": chunk, "tile": _legal(network, tile), "batch": batch, "precision": precision}
        asked = job(network, **settings)
        reference = whole(asked, precision) if reference is None else reference
        assert np.array_equal(run_inline(asked), reference), settings


def _legal(network, tile):
    stride = 2 ** (NETWORKS[network]["depth"] - 1)
    return tuple(-(-t // stride) * stride for t in tile)


@pytest.mark.parametrize("region", [((3, 100), (17, 118)), ((101, 203), (0, 171)), ((0, 1), (170, 171))])
@pytest.mark.parametrize("network", ["valid-2d", "same-2d"])
def test_any_region_gives_the_same_voxels_as_the_full_run(job, network, region):
    full = whole(job(network), "float32")
    part = run_inline(job(network, region=region, chunk=(50, 33), tile=(64, 32)))
    slices = tuple(slice(a, b) for a, b in region)
    assert np.array_equal(part, full[:, *slices])


def test_a_region_of_a_stack_gives_the_same_voxels(job):
    full = whole(job("valid-3d"), "float32")
    part = run_inline(job("valid-3d", region=((5, 20), (1, 30), (7, 29)), chunk=(6, 11, 9)))
    assert np.array_equal(part, full[:, 5:20, 1:30, 7:29])


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 300), (31, 33)])
@pytest.mark.parametrize("network", ["valid-2d", "same-2d"])
def test_volumes_smaller_than_the_halo_or_than_a_tile(place, tmp_path, network, shape):
    image = make_image(tmp_path / "small.zarr", shape, channels=3)
    asked = SegmentJob(
        input=str(image),
        output=str(tmp_path / "out.zarr"),
        model=str(place / f"{network}.safetensors"),
        kind="logits",
        threads=1,
        workers=1,
    )
    assert np.array_equal(run_inline(asked), whole(asked, "float32"))


def test_a_2d_network_takes_each_slice_of_a_stack_by_itself(place, tmp_path):
    stack = make_image(tmp_path / "stack.zarr", (5, 70, 90), channels=3)
    settings = {"model": str(place / "same-2d.safetensors"), "kind": "logits", "threads": 1, "workers": 1}
    asked = SegmentJob(input=str(stack), output=str(tmp_path / "a.zarr"), chunk=(2, 40, 90), **settings)
    assert np.array_equal(run_inline(asked), whole(asked, "float32"))


def test_class_ids_and_probabilities_are_those_of_the_whole_image(job):
    logits = whole(job("bilinear-2d"), "float32")
    assert np.array_equal(run_inline(job("bilinear-2d", kind="labels", chunk=(60, 60))), logits.argmax(0))
    softmax = torch.from_numpy(logits).softmax(0)
    found = run_inline(job("bilinear-2d", kind="probabilities", chunk=(60, 60)))
    assert np.array_equal(found, softmax.mul(255).round().byte().numpy())
    sigmoid = whole(job("unpool-2d"), "float32")
    assert np.array_equal(run_inline(job("unpool-2d", kind="labels", chunk=(60, 60))), sigmoid[0] >= 0)


def test_the_papers_own_step_is_refused_because_it_is_not_exact(job):
    with pytest.raises(pipeline.OvertileError, match=r"388 .* stride 16.*use 384 or 400"):
        pipeline.plan(job("valid-2d", tile=(388, 388)))


def test_a_step_off_the_stride_would_differ(job, tmp_path):
    """Why it is refused: an input that begins 4 voxels off the lattice gives other voxels."""
    asked = job("valid-2d")
    reference = whole(asked, "float32")
    voxels = pipeline.plan(asked).volume.array[:, 4:]
    image = make_image(tmp_path / "moved.zarr", (199, 171), channels=3)
    zarr.open_array(str(image / "0"), mode="r+")[...] = voxels
    shifted = asked.model_copy(update={"input": str(image)})
    other = whole(shifted, "float32")
    inside = (slice(None), slice(92, 100), slice(92, 100))
    assert not np.array_equal(other[inside], reference[:, 96:104, 92:100])


@pytest.mark.slow
def test_one_and_two_workers_one_and_two_threads_store_the_same_bytes(job):
    roots = set()
    for workers, threads, batch, chunk in [(1, 1, 1, (64, 64)), (2, 1, 4, (64, 64)), (1, 2, 2, (64, 64))]:
        asked = job("same-2d", workers=workers, threads=threads, batch=batch, chunk=chunk)
        found = pipeline.segment(asked)
        assert found["state"] == "sealed"
        roots.add(found["seal"]["root"])
        assert np.array_equal(stored(asked.output), whole(asked, "float32"))
    assert len(roots) == 1
