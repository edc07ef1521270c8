import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingests import Watched, fail_in

from pipeline.errors import VolumeError
from pipeline.geometry import Box, Grid
from pipeline.store import open_place
from pipeline.volume import copying, ensure_level, open_volume, pyramid, reduce
from pipeline.volume.copier import Copier
from pipeline.volume.copying import FIRST, plan_copy, slab_shape
from pipeline.volume.pyramid import build_pyramid


def made(path, source, *, threads=2, lean=False, **settings):
    """Copy a source slab by slab, one after the other; return the plan, the copier and what each slab gave."""
    plan = plan_copy(source, **({"shard": None, "pyramid": True} | settings))
    place = open_place(path)
    ensure_level(place, "0", plan.spec)
    if plan.first is not None:
        ensure_level(place, FIRST, plan.first.spec)
    with Copier(source, place, plan, threads) as copier:
        copied = [copier.copy_lean(core) if lean else copier.copy(core) for core in plan.grid.cores()]
    return plan, copier, copied


def voxels_of(path, level="0"):
    volume = open_volume(path / level)
    return volume.read(volume.box)[0]


@pytest.mark.parametrize(
    ("piece", "factors", "limit", "expected"),
    [
        (None, (1, 1, 1), 1, (4, 16, 16)),
        ((1, 8, 8), (1, 1, 1), 1, (4, 16, 16)),
        ((1, 100, 70), (1, 1, 1), 10**9, (4, 112, 80)),
        ((1, 100, 70), (1, 1, 1), 2 * 2 * 4 * 112 * 80, (4, 112, 80)),
        ((1, 100, 70), (1, 1, 1), 2 * 2 * 4 * 112 * 80 - 1, (4, 64, 80)),
        ((1, 100, 70), (1, 1, 1), 1, (4, 16, 16)),
        ((9, 1000, 16), (1, 1, 1), 10**9, (12, 112, 16)),
        (None, (1, 2, 2), 10**9, (4, 32, 32)),
        (None, (2, 2, 2), 10**9, (8, 32, 32)),
        ((9, 17, 100), (2, 2, 2), 10**9, (16, 32, 80)),
        (None, (2, 2, 2), 1, (4, 16, 16)),
    ],
)
def test_slabs_are_whole_pieces_and_shards_of_level_1_as_far_as_memory_allows(
    monkeypatch, piece, factors, limit, expected
):
    monkeypatch.setattr(copying, "SLAB_BYTES", limit)
    assert slab_shape((50, 100, 70), (4, 16, 16), piece, 2, factors) == expected


@given(st.data())
def test_slabs_are_made_of_whole_shards(data):
    sizes = st.integers(1, 5000)
    shape, shard, piece = (tuple(data.draw(sizes) for _ in range(3)) for _ in range(3))
    factors = tuple(data.draw(st.sampled_from([1, 2])) for _ in range(3))
    slab = slab_shape(shape, shard, piece, data.draw(st.integers(1, 64)), factors)
    assert all(a % b == 0 and a >= b for a, b in zip(slab, shard, strict=True))
    assert all(a - b < n for a, b, n in zip(slab, shard, shape, strict=True))


@pytest.mark.parametrize(
    ("threads", "limit", "expected"), [(1, 10**9, 2), (3, 10**9, 6), (99, 10**9, 25), (3, 1, 1)]
)
def test_slabs_in_flight_fit_the_memory(monkeypatch, threads, limit, expected):
    plan = plan_copy(Watched(np.zeros((80, 80), "u1")), shard=(16, 16), pyramid=False)
    monkeypatch.setattr(copying, "SLAB_BYTES", limit)
    assert plan.at_once(threads) == expected


@pytest.mark.parametrize("shard", [(8,), (8, 8, 8), (0, 8), (-8, 8)])
def test_shards_that_cannot_be_are_refused(shard):
    with pytest.raises(VolumeError, match="one positive number for each of the axes y,x"):
        plan_copy(Watched(np.zeros((20, 20), "u1")), shard=shard, pyramid=True)


@pytest.mark.parametrize("shape", [(17, 26), (16, 16), (17, 5), (5, 17, 9)])
@pytest.mark.parametrize("piece", [None, 7])
@pytest.mark.parametrize("method", ["mean", "mode"])
@pytest.mark.parametrize("lean", [False, True])
def test_level_0_is_the_source_and_level_1_what_the_pyramid_would_make(
    tmp_path, monkeypatch, shape, piece, method, lean
):
    monkeypatch.setattr(pyramid, "COARSEST", 8)
    data = np.random.default_rng(0).integers(0, 5, shape).astype("u1")
    slab = None if piece is None else (piece, *shape[1:])
    shard = (4, 8, 8)[-len(shape) :]
    plan, copier, copied = made(tmp_path, Watched(data, slab=slab), shard=shard, method=method, lean=lean)
    np.testing.assert_array_equal(voxels_of(tmp_path), data)
    keys = [stored.key for each in copied for stored in each.stored]
    assert len(set(keys)) == len(keys) == len(Grid(shape, shard))
    cores = set(Grid(plan.first.spec.shape, plan.first.spec.shard).cores())
    assert copier.made == (set() if lean else cores)
    build_pyramid(tmp_path, plan.spec, method=method, threads=1, progress=None, made=copier.made)
    np.testing.assert_array_equal(voxels_of(tmp_path, FIRST), reduce(data, plan.first.factors, method))


def test_level_1_is_left_alone_where_a_slab_holds_a_part_of_its_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(pyramid, "COARSEST", 8)
    monkeypatch.setattr(copying, "SLAB_BYTES", 2 * 2 * 64)
    plan, copier, _ = made(tmp_path, Watched(np.ones((32, 32), "u1")), shard=(8, 8))
    assert plan.slab in ((8, 16), (16, 8))
    assert copier.made == set()


def test_channels_are_copied_whole(tmp_path):
    data = np.arange(3 * 600 * 20, dtype="u2").reshape(3, 600, 20)
    source = Watched(data[0])
    source.channels, source.read = 3, lambda box: data[(slice(None), *box.slices)]
    plan, _, _ = made(tmp_path, source, shard=(256, 16))
    for level, expected in (("0", data), ("1", reduce(data, plan.first.factors, "mean"))):
        volume = open_volume(tmp_path / level)
        np.testing.assert_array_equal(volume.read(volume.box), expected)


def test_cheap_reads_are_of_slabs_and_in_threads(tmp_path):
    source = Watched(np.zeros((80, 80), "u1"), slab=(16, 8))
    plan, _, _ = made(tmp_path, source, shard=(16, 16), pyramid=False)
    assert source.boxes == list(plan.grid.cores())
    assert threading.get_ident() not in source.threads


def test_a_slab_is_decoded_in_parts_of_whole_pieces_where_threads_are_to_spare(tmp_path, monkeypatch):
    data = np.arange(10 * 40 * 40, dtype="u2").reshape(10, 40, 40)
    source = Watched(data, slab=(1, 40, 40))
    made(tmp_path, source, shard=(10, 16, 16), threads=4, pyramid=False)
    assert sorted(box.start[0] for box in source.boxes) == [0, 2, 4, 6, 8]
    assert {box.shape for box in source.boxes} == {(2, 40, 40)}
    np.testing.assert_array_equal(voxels_of(tmp_path), data)


def test_an_error_of_any_thread_comes_out(tmp_path):
    source = Watched(np.zeros((40, 40), "u1"), fail=fail_in(Box((20, 20), (21, 21)), VolumeError("planned")))
    with pytest.raises(VolumeError, match="planned"):
        made(tmp_path, source, shard=(16, 16))
