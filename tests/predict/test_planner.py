"""The plan settles chunk, tile, memory and fingerprint, and its sums are those of every chunk."""

import tracemalloc

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from networks import make_checkpoint, make_image

from pipeline.config import SegmentJob
from pipeline.errors import PlanError
from pipeline.geometry import POINTWISE, Box, Grid, Reach, TileLayout, visible_box
from pipeline.predict.cost import largest_read, read_voxels, tile_count
from pipeline.predict.planner import make_plan
from pipeline.run.machine import Machine

MACHINE = Machine(cores=2, memory=8 << 30, gpus=(), processor="test")
GPUS = Machine(cores=16, memory=64 << 30, gpus=("0", "1"), processor="test")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("plans")
    zarr.create_array(str(root / "huge.zarr"), shape=(3, 100_000, 120_000), chunks=(3, 512, 512), dtype="u1",
                      dimension_names=["c", "y", "x"])  # fmt: skip
    zarr.create_array(str(root / "many.zarr"), shape=(64_000, 64_000), chunks=(64, 64), dtype="u1")
    make_checkpoint(root / "rgb.safetensors", in_channels=3, depth=4, width=8, padding="same", norm="batch")
    make_checkpoint(root / "grey.safetensors", depth=2, width=2, padding="same")
    return root


@pytest.fixture
def asked(place):
    def build(image="huge.zarr", model="rgb.safetensors", **settings):
        return SegmentJob(input=str(place / image), output="out.zarr", model=str(place / model), **settings)

    return build


def test_defaults_on_a_slide(asked):
    plan = make_plan(asked(), MACHINE)
    assert plan.grid.chunk == (2048, 2048)
    assert plan.layout.tile == (1024, 1024)
    assert plan.layout.input_shape == (1120, 1120)
    assert (plan.cluster.workers, plan.cluster.threads) == (2, 1)
    described = plan.describe()
    assert described["chunks"] == 49 * 59
    assert described["bytes_read"] == pytest.approx(
        3 * 100_000 * 120_000 * described["read_amplification"], rel=1e-3
    )
    assert described["exact"] is True


@pytest.mark.parametrize("mebibytes", [480, 520, 600, 704, 900, 1500, 4000])
def test_the_plan_fits_its_memory_limit(asked, mebibytes):
    plan = make_plan(asked(memory_limit=mebibytes << 20), MACHINE)
    assert plan.memory.peak <= 0.95 * (mebibytes << 20)
    assert all(t % 8 == 0 for t in plan.layout.tile)


def test_more_memory_never_means_more_work(asked):
    def operations(mebibytes):
        return make_plan(asked(memory_limit=mebibytes << 20), MACHINE).describe()["operations"]

    work = [operations(m) for m in (480, 600, 900, 2000)]
    assert work == sorted(work, reverse=True)


def test_a_limit_that_no_tile_fits_names_one_that_does(asked):
    with pytest.raises(PlanError, match="no tile fits") as refusal:
        make_plan(asked(memory_limit=200 << 20), MACHINE)
    needed = int(str(refusal.value).split("--memory-limit ")[1].split("MiB")[0])
    assert make_plan(asked(memory_limit=needed << 20), MACHINE).memory.peak <= needed << 20


def test_one_worker_a_gpu(asked):
    plan = make_plan(asked(), GPUS)
    assert (plan.device, plan.cluster.workers, plan.cluster.gpus) == ("cuda", 2, ("0", "1"))
    assert make_plan(asked(device="cpu"), GPUS).cluster.gpus == ()
    with pytest.raises(PlanError, match="one worker a GPU"):
        make_plan(asked(workers=3), GPUS)
    with pytest.raises(PlanError, match="no GPU here"):
        make_plan(asked(device="cuda"), MACHINE)


@pytest.mark.parametrize(
    "settings",
    [{"chunk": (1024, 1024)}, {"tile": (512, 512)}, {"kind": "logits"}, {"level": 0, "region": ((0, 64), (0, 64))},
     {"precision": "bfloat16"}, {"holes": "background"}, {"kind": "probabilities"}, {"model": "other.safetensors"}],
)  # fmt: skip
def test_the_fingerprint_changes_with_what_decides_the_bytes(asked, place, settings):
    make_checkpoint(
        place / "other.safetensors", seed=5, in_channels=3, depth=4, width=8, padding="same", norm="batch"
    )
    assert make_plan(asked(**settings), MACHINE).fingerprint != make_plan(asked(), MACHINE).fingerprint


@pytest.mark.parametrize("settings", [{"workers": 1}, {"threads": 7}, {"retries": 0}, {"batch": 3}])
def test_the_fingerprint_does_not_change_with_what_does_not(asked, settings):
    assert make_plan(asked(**settings), MACHINE).fingerprint == make_plan(asked(), MACHINE).fingerprint


def test_a_resumed_plan_takes_what_is_left_open_from_the_run(asked):
    first = make_plan(asked(memory_limit=520 << 20), MACHINE)
    again = make_plan(asked(), MACHINE, first.describe())
    assert again.fingerprint == first.fingerprint != make_plan(asked(), MACHINE).fingerprint
    assert make_plan(asked(chunk=(640, 640)), MACHINE, first.describe()).grid.chunk == (640, 640)


def test_a_stack_for_a_2d_network_is_cut_wide_in_the_plane(tmp_path, place):
    stack = make_image(tmp_path / "stack.zarr", (5, 70, 90))
    job = SegmentJob(input=str(stack), output="out.zarr", model=str(place / "grey.safetensors"))
    plan = make_plan(job, MACHINE)
    assert plan.grid.chunk == (5, 70, 90)
    assert plan.layout.tile[0] == 1
    assert plan.layout.reaches[0] == POINTWISE
    with pytest.raises(PlanError, match="give 1 along z"):
        make_plan(job.model_copy(update={"tile": (2, 16, 16)}), MACHINE)


def test_a_million_chunks_are_planned_in_little_memory(asked):
    job = asked("many.zarr", "grey.safetensors", chunk=(64, 64))
    make_plan(job, MACHINE)  # what is imported and cached is not the plan's
    tracemalloc.start()
    described = make_plan(job, MACHINE).describe()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert described["chunks"] == 1_000_000
    assert peak < 50 << 20


reaches = st.sampled_from(
    [
        POINTWISE,
        Reach(stride=4, halo=(5, 6), minimum=4),
        Reach(stride=2, halo=(3, 3), offset=3, shrink=6, minimum=8),
    ]
)
axis = st.tuples(
    reaches, st.integers(1, 3), st.integers(1, 40), st.integers(1, 17), st.integers(0, 9), st.integers(0, 9)
)


@given(st.lists(axis, min_size=1, max_size=2))
def test_sums_over_chunks_equal_the_chunks_one_by_one(axes):
    layout = TileLayout(tuple(r for r, *_ in axes), tuple(r.stride * k for r, k, *_ in axes))
    grid = Grid(tuple(n for _, _, n, *_ in axes), tuple(c for _, _, _, c, *_ in axes))
    origin = tuple(o for *_, o, _ in axes)
    shape = tuple(o + n + more for _, _, n, _, o, more in axes)
    seen: list[Box] = [core.shift(origin) for core in grid.cores()]
    boxes = [layout.read_box(core) for core in seen]
    assert read_voxels(grid, layout, origin, shape) == sum(visible_box(box, shape).size for box in boxes)
    assert tile_count(grid, layout, origin) == sum(layout.count(core) for core in seen)
    assert largest_read(grid, layout) >= max(box.size for box in boxes)
    assert np.prod(grid.counts) == len(seen)
