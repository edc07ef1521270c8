"""What a plan decides beside its sums: the tile that does the least work, and the fingerprint's every part."""

import json

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import make_checkpoint, make_image

from pipeline.config import SegmentJob
from pipeline.errors import ModelError, PlanError, VolumeError
from pipeline.geometry import Grid, TileLayout
from pipeline.model.architecture import UNetArchitecture
from pipeline.predict.choose import candidate_tiles, work_of
from pipeline.predict.planner import make_plan
from pipeline.run.fingerprint import differences
from pipeline.run.machine import Machine

MACHINE = Machine(cores=2, memory=8 << 30, gpus=(), processor="test")
GPU = Machine(cores=2, memory=8 << 30, gpus=("0",), processor="test")
SIZES = {"chunk": (64, 64), "tile": (32, 32)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("plan")
    for name in ("image", "same"):
        make_image(root / f"{name}.zarr", (100, 90))
    make_image(root / "other.zarr", (100, 90), shard=(50, 30))
    make_image(root / "stack.zarr", (1, 40, 50))
    for name, shape in {
        "zyx": (1, 64, 64),
        "square": (600, 600),
        "thin": (2100, 2100),
        "strip": (3, 5000),
    }.items():
        zarr.create_array(str(root / f"{name}.zarr"), shape=shape, chunks=shape, dtype="u1")
    make_checkpoint(root / "model.safetensors", depth=2, width=2, padding="same")
    make_checkpoint(root / "seed.safetensors", seed=7, depth=2, width=2, padding="same")
    make_checkpoint(root / "deep.safetensors", depth=4, width=2)
    make_checkpoint(root / "solid.safetensors", dims=3, depth=2, width=2, padding="same")
    make_checkpoint(root / "many.safetensors", depth=1, width=1, classes=257)
    return root


@pytest.fixture
def planned(place):
    def build(image="image", model="model", machine=MACHINE, recorded=None, **options):
        job = SegmentJob(
            input=str(place / f"{image}.zarr"),
            output="out.zarr",
            model=str(place / f"{model}.safetensors"),
            **options,
        )
        return make_plan(job, machine, recorded)

    return build


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"model": "many"}, PlanError, "257 classes do not fit the class ids of a uint8 map; store --kind prob"),
        (
            {"kind": "labels", "dtype": "uint8"},
            PlanError,
            "--dtype uint8 is for --kind probabilities; labels have",
        ),
        ({"kind": "logits", "dtype": "float32"}, PlanError, "--dtype float32 is for --kind probabilities; logits"),
        ({"model": "solid"}, PlanError, r"spatial axes yx, but .* is a 3-D network \(zyx\)"),
        ({"image": "stack", "axes": "cyx", "model": "solid"}, PlanError, "is a 3-D network"),
        ({"image": "stack", "axes": "zy"}, VolumeError, "axes"),
        ({"level": 1}, VolumeError, "there is no level 1"),
        ({"model": "none"}, ModelError, "no checkpoint file"),
        ({"image": "none"}, VolumeError, "no such file"),
        ({"region": ((0, 50), (0, 50), (0, 1))}, PlanError, "3 ranges, but the volume has the axes y,x"),
        ({"region": ((-1, 50), (0, 50))}, PlanError, "-1:50 along y is not inside the volume's 0:100"),
        ({"region": ((0, 50), (40, 91))}, PlanError, "40:91 along x is not inside the volume's 0:90"),
        ({"region": ((7, 7), (0, 50))}, PlanError, "7:7 along y"),
        ({"region": ((9, 7), (0, 50))}, PlanError, "9:7 along y"),
        ({"chunk": (64,)}, PlanError, "--chunk 64 has 1 axes, the volume 2"),
        ({"shard": (64, 64, 64)}, PlanError, "--shard 64,64,64 has 3 axes, the volume 2"),
        ({"tile": (1, 32, 32)}, PlanError, "--tile 1,32,32 has 3 axes, the volume 2"),
        (
            {"chunk": (64, 64), "shard": (64, 48)},
            PlanError,
            "--chunk 64,64 is not a whole multiple of the shard 64,48",
        ),
        ({"chunk": (32, 32), "shard": (64, 64)}, PlanError, "not a whole multiple"),
        ({"tile": (32, 31)}, PlanError, "--tile 31 along x .* stride 2.* use 30 or 32$"),
        ({"tile": (1, 32)}, PlanError, "--tile 1 along y .* stride 2.* use 2$"),
        ({"tile": (36, 32), "model": "deep"}, PlanError, "--tile 36 along y .* stride 8.* use 32 or 40$"),
        ({"memory_limit": 1 << 20}, PlanError, "a worker of 1 MiB is too small even for tiles of .*MiB or more$"),
        (
            {"memory_limit": 1 << 20, **SIZES},
            PlanError,
            "tiles of 32,32 in chunks of 64,64.*or a smaller --chunk or",
        ),
        ({"workers": 1, "scheduler": "tcp://h:1"}, PlanError, "--workers is for workers on this machine"),
        ({"workers": 2, "machine": GPU}, PlanError, "--workers 2: one worker a GPU"),
        ({"device": "cuda"}, PlanError, "--device cuda: there is no GPU here"),
    ],
)
def test_what_cannot_be_done_is_refused(planned, options, error, said):
    with pytest.raises(error, match=said):
        planned(**options)


@pytest.mark.parametrize(
    ("options", "kind", "dtype", "shape"),
    [
        ({}, "labels", "uint8", (100, 90)),
        ({"kind": "probabilities"}, "probabilities", "uint8", (2, 100, 90)),
        ({"kind": "probabilities", "dtype": "float32"}, "probabilities", "float32", (2, 100, 90)),
        ({"kind": "logits"}, "logits", "float32", (2, 100, 90)),
        ({"kind": "logits", "precision": "float64"}, "logits", "float64", (2, 100, 90)),
        ({"model": "many", "kind": "probabilities"}, "probabilities", "uint8", (257, 100, 90)),
        ({"region": ((10, None), (None, 33))}, "labels", "uint8", (90, 33)),
    ],
)
def test_what_is_stored(planned, options, kind, dtype, shape):
    plan = planned(**options)
    assert (plan.output.kind, plan.output.dtype, plan.array.stored_shape) == (kind, dtype, shape)
    assert plan.array.dtype == np.dtype(dtype)
    described = plan.describe()
    assert described["bytes_written"] == np.prod(shape) * np.dtype(dtype).itemsize
    assert json.loads(json.dumps(described)) == described
    assert described["fingerprint"] == plan.fingerprint


def test_a_region_begins_where_it_lies_in_space(planned):
    plan = planned(region=((10, 80), (5, 33)))
    assert plan.region.start == (10, 5)
    assert plan.array.space.translation == plan.volume.space.moved((10, 5)).translation
    assert plan.grid.shape == (70, 28)


BASE = SIZES | {"kind": "probabilities"}
PARTS = {
    "input.path": {"image": "same"},
    "input.region": {"region": ((0, 64), (0, 90))},
    "input.holes": {"holes": "background"},
    "model.digest": {"model": "seed"},
    "tiles.tile": {"tile": (64, 64)},
    "output.chunk": {"chunk": (128, 64), "shard": (64, 64)},
    "output.shard": {"shard": (32, 64)},
    "output.dtype": {"dtype": "float32"},
    "output.kind": {"kind": "labels"},
    "numeric.precision": {"precision": "bfloat16"},
    "numeric.device": {"machine": GPU},
}


@pytest.mark.parametrize("part", PARTS)
def test_the_fingerprint_has_a_part_for_each_thing_that_decides_the_bytes(planned, part):
    one, other = planned(**BASE), planned(**BASE | PARTS[part])
    assert one.fingerprint != other.fingerprint
    named = {line.split(":")[0] for line in differences(one.identity, other.identity)}
    assert part in named
    assert named <= {part, "output.inner"}


def test_the_stored_layout_and_the_names_of_its_axes_are_parts_too(planned):
    def named(one, other):
        return {line.split(":")[0] for line in differences(one.identity, other.identity)}

    assert named(planned(**BASE), planned("other", **BASE)) == {"input.path", "input.array"}
    as_channel, as_slice = planned("zyx", axes="cyx"), planned("zyx", axes="zyx")
    assert "input.axes" in named(as_channel, as_slice)


@pytest.mark.parametrize(
    "options",
    [{"workers": 1}, {"threads": 5}, {"memory_limit": 3 << 30}, {"batch": 2}, {"retries": 0}, {"pyramid": False},
     {"scheduler": "tcp://host:8786"}, {"precision": "float32"}, {"device": "cpu"}, {"shard": (64, 64)},
     {"region": ((0, 100), (None, None))}],
)  # fmt: skip
def test_the_fingerprint_has_no_part_for_what_does_not(planned, options):
    assert planned(**BASE, **options).fingerprint == planned(**BASE).fingerprint


def test_a_resumed_plan_is_the_plan_that_was_begun(planned):
    first = planned(chunk=(64, 64), shard=(32, 32), tile=(20, 30), memory_limit=2 << 30)
    again = planned(recorded=first.describe(), machine=GPU)
    assert again.fingerprint == first.fingerprint
    assert (again.grid.chunk, again.array.shard, again.layout.tile) == ((64, 64), (32, 32), (20, 30))
    assert again.device == "cpu", "begun without a GPU, resumed without one"
    other = planned(recorded=first.describe(), tile=(40, 40))
    assert (other.layout.tile, other.grid.chunk) == ((40, 40), (64, 64)), "what is asked for wins"


@pytest.mark.parametrize(
    ("image", "options", "tile"),
    [
        ("image", {}, (100, 90)),
        ("image", {"chunk": (2048, 2048)}, (100, 90)),
        ("image", {"chunk": (2048, 2048), "region": ((3, 33), (0, 64))}, (30, 64)),
        ("square", {}, (600, 600)),
        ("strip", {}, (4, 512)),
    ],
)
def test_a_tile_is_no_larger_than_what_there_is(planned, image, options, tile):
    assert planned(image, **options).layout.tile == tile


def test_a_thin_last_chunk_counts_when_the_tile_is_chosen(planned):
    plan = planned("thin")
    wasteful = planned("thin", tile=(1024, 1024))
    assert plan.grid.chunk == wasteful.grid.chunk == (2048, 2048)
    assert plan.describe()["operations"] < 0.9 * wasteful.describe()["operations"]


@settings(max_examples=50)
@given(st.tuples(*[st.integers(1, 150)] * 2), st.tuples(*[st.integers(10, 120)] * 2))
def test_the_work_of_a_grid_is_that_of_its_chunks(shape, chunk):
    architecture = UNetArchitecture(depth=3, width=1, padding="same")
    reaches, grid = (architecture.reach(),) * 2, Grid(shape, chunk)
    core = tuple(map(min, shape, chunk))
    tiles = list(candidate_tiles(core, reaches, 2))
    assert len(set(tiles)) == len(tiles) >= 1
    for tile in tiles[:: max(1, len(tiles) // 3)]:
        assert all(t % 4 == 0 and t < c + 4 for t, c in zip(tile, core, strict=True))
        layout = TileLayout(reaches, tile)
        count = sum(np.prod([-(-n // t) for n, t in zip(c.shape, tile, strict=True)]) for c in grid.cores())
        assert work_of(architecture, layout, grid) == count * architecture.operations(layout.input_shape)


def test_stacks_keep_slices_apart_in_tiles():
    reach = UNetArchitecture(depth=3, width=1, padding="same").reach()
    reaches = UNetArchitecture(depth=2, width=1, padding="same").reach(), reach, reach
    assert {tile[0] for tile in candidate_tiles((16, 100, 90), reaches, 2)} == {1}


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_a_batch_is_kept_and_costs_memory(planned, batch):
    plan = planned(batch=batch, **SIZES)
    assert plan.batch == batch
    assert plan.memory.network == pytest.approx(batch * planned(batch=1, **SIZES).memory.network, rel=0.01)
    assert plan.memory.peak == sum(
        plan.describe()["memory"][name] for name in ("base", "weights", "network", "windows")
    )
