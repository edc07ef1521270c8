"""A chunk that is tried again in little memory comes out with the same bytes."""

import math

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from networks import make_checkpoint, make_image

from pipeline.config import SegmentJob
from pipeline.geometry import BlendLayout, Box, Reach, TileLayout
from pipeline.jobs.listener import Silent
from pipeline.jobs.planning import plan
from pipeline.jobs.recording import ARRAY
from pipeline.jobs.segmentation import Segmentation
from pipeline.predict.engine import Engine, lean_layout

NETWORKS = {
    "valid": {"in_channels": 2, "depth": 3, "width": 4},
    "same": {"in_channels": 2, "depth": 4, "width": 4, "padding": "same", "norm": "batch"},
    "solid": {"dims": 3, "depth": 2, "width": 4},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("lean")
    make_image(root / "2d.zarr", (150, 131), channels=2)
    make_image(root / "3d.zarr", (18, 37, 30))
    for name, settings in NETWORKS.items():
        make_checkpoint(root / f"{name}.safetensors", **settings)
    return root


def job(place, tmp_path, network, **settings):
    solid = network == "solid"
    cut = {"chunk": (16, 32, 32), "tile": (16, 32, 32)} if solid else {"chunk": (96, 96), "tile": (96, 96)}
    return SegmentJob(
        input=str(place / ("3d.zarr" if solid else "2d.zarr")),
        output=str(tmp_path / "out.zarr"),
        model=str(place / f"{network}.safetensors"),
        **(
            {"kind": "logits", "precision": "float32", "threads": 1, "workers": 1, "pyramid": False}
            | cut
            | settings
        ),
    )


def engine(made):
    work = Segmentation(made, Silent()).work()
    return Engine(work.engine, work.layout, work.output, worker_threads=1)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("settings", [{}, {"precision": "float64"}, {"tta": "flips"}, {"batch": 4}], ids=str)
def test_lean_chunks_have_the_same_bytes(place, tmp_path, network, settings):
    made = plan(job(place, tmp_path, network, **settings))
    run = Segmentation(made, Silent())
    stored = []
    with run.opened():
        processor = run.work().open(1)
        for lean in (False, True):
            for chunk in range(len(made.grid)):
                processor.process(chunk, lean=lean)
            stored.append(zarr.open_array(str(tmp_path / "out.zarr" / ARRAY), mode="r+")[...])
            zarr.open_array(str(tmp_path / "out.zarr" / ARRAY), mode="r+")[...] = 0
    assert np.array_equal(stored[0], stored[1])
    assert stored[0].any()
    way = processor._engine.lean
    assert math.prod(way.layout.tile) * 3 < math.prod(made.layout.tile)
    assert way.batch == 1


def test_the_network_is_loaded_once_and_the_lean_way_made_once(place, tmp_path):
    made = engine(plan(job(place, tmp_path, "same")))
    assert made.lean is made.lean
    assert made.lean.forward._model is made._usual.forward._model


@pytest.mark.parametrize(
    "settings",
    [{"precision": "bfloat16"}, {"mode": "blend", "tile": None, "chunk": (96, 96)}],
    ids=["bfloat16", "blended"],
)
def test_where_another_tile_gives_other_bits_lean_keeps_it(place, tmp_path, settings):
    made = plan(job(place, tmp_path, "same", **settings))
    way = engine(made).lean
    assert way.layout == made.layout
    assert way.batch == 1


def test_blended_tiles_stay():
    layout = BlendLayout((Reach(4, (6, 6), 0, 0, 4),) * 2, (32, 32), (8, 8))
    assert lean_layout(layout) is layout


@pytest.mark.parametrize(
    ("tile", "stride", "expected"),
    [
        ((96, 96), 8, (48, 48)),
        ((1, 64, 64), (1, 16, 16), (1, 32, 32)),
        ((128, 32), 8, (32, 32)),
        ((16, 16), 16, (16, 16)),
        ((48, 16), 16, (16, 16)),
        ((32, 64, 64), 8, (32, 32, 32)),
    ],
)
def test_tiles_of_a_quarter(tile, stride, expected):
    strides = stride if isinstance(stride, tuple) else (stride,) * len(tile)
    reaches = tuple(Reach(s, (2 * s, 2 * s), 0, 0, s) for s in strides)
    assert lean_layout(TileLayout(reaches, tile)).tile == expected


def test_a_network_with_a_large_smallest_input_keeps_what_would_read_further():
    layout = TileLayout((Reach(8, (4, 4), 0, 0, 72),), (64,))
    assert lean_layout(layout) == layout


@st.composite
def layouts(draw):
    reaches, tile = [], []
    for _ in range(draw(st.integers(1, 3))):
        stride = draw(st.sampled_from([1, 2, 8]))
        shrink = 2 * draw(st.integers(0, 8))
        halo = draw(st.integers(0, 20))
        reaches.append(Reach(stride, (halo, halo), shrink // 2, shrink, shrink + draw(st.integers(1, 60))))
        tile.append(stride * draw(st.integers(1, 12)))
    return TileLayout(tuple(reaches), tuple(tile))


@given(layouts(), st.data())
def test_lean_tiles_cover_the_core_and_read_no_further(layout, data):
    """Law: they cover any core, and their inputs lie in what the usual tiles read of it."""
    start = tuple(data.draw(st.integers(0, 40)) for _ in layout.tile)
    core = Box(start, tuple(a + data.draw(st.integers(1, 60)) for a in start))
    lean = lean_layout(layout)
    read = layout.read_box(core)
    covered = np.zeros(core.shape, bool)
    for tile in lean.tiles(core):
        assert tile.input.intersect(read) == tile.input
        covered[tile.core.intersect(core).relative_to(core.start).slices] = True
    assert covered.all()
    assert lean.strides == layout.strides
    assert math.prod(lean.tile) <= math.prod(layout.tile)
