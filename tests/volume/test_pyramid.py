import itertools
import math

import numpy as np
import pytest
import yaozarrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from volumes import create_filled, files, small_spec

from pipeline.errors import MissingChunkError, VolumeError
from pipeline.volume import Space, build_pyramid, create_level, open_volume, plan_pyramid, publish, pyramid, reduce

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "?"]


def groups(voxels, factors):
    """Yield each coarse voxel's index and the finer voxels that exist below it."""
    shape = [-(-n // f) for n, f in zip(voxels.shape, factors, strict=True)]
    for index in itertools.product(*map(range, shape)):
        cut = tuple(slice(i * f, (i + 1) * f) for i, f in zip(index, factors, strict=True))
        yield index, voxels[cut].ravel().tolist()


def brute_force(voxels, factors, join):
    shape = [-(-n // f) for n, f in zip(voxels.shape, factors, strict=True)]
    out = np.empty(shape, voxels.dtype)
    for index, below in groups(voxels, factors):
        out[index] = join(below)
    return out


def rounded_mean(values):
    """Return the mean of integers, exactly, halves upwards."""
    return (2 * sum(int(v) for v in values) + len(values)) // (2 * len(values))


def smallest_mode(values):
    return max(sorted(set(values)), key=values.count)


@st.composite
def volumes(draw, dtypes):
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    shape = draw(arrays.array_shapes(min_dims=2, max_dims=3, max_side=6))
    few = st.integers(0, 3) if dtype.kind != "b" else st.booleans()
    elements = draw(st.sampled_from([few, None]))
    voxels = draw(arrays.arrays(dtype, shape, elements=elements))
    return voxels, tuple(draw(st.sampled_from([1, 2])) for _ in shape)


@settings(deadline=None)
@given(volumes(DTYPES))
def test_mean_of_integers_is_exact_and_rounds_halves_up(case):
    voxels, factors = case
    before = voxels.copy()
    reduced = reduce(voxels, factors, "mean")
    assert reduced.dtype == voxels.dtype
    np.testing.assert_array_equal(reduced, brute_force(voxels, factors, rounded_mean))
    np.testing.assert_array_equal(voxels, before)


@settings(deadline=None)
@given(volumes(DTYPES))
def test_mode_is_the_most_frequent_and_then_the_smallest(case):
    voxels, factors = case
    before = voxels.copy()
    reduced = reduce(voxels, factors, "mode")
    assert reduced.dtype == voxels.dtype
    np.testing.assert_array_equal(reduced, brute_force(voxels, factors, smallest_mode))
    assert set(reduced.ravel().tolist()) <= set(voxels.ravel().tolist())
    np.testing.assert_array_equal(voxels, before)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_mean_of_floats(dtype):
    voxels = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(dtype)
    reduced = reduce(voxels, (2, 1, 2), "mean")
    assert reduced.dtype == dtype
    expected = brute_force(voxels.astype("f8"), (2, 1, 2), lambda v: math.fsum(v) / len(v))
    np.testing.assert_allclose(reduced, expected.astype(dtype), rtol=1e-6)


@pytest.mark.parametrize(
    ("method", "voxels", "expected"),
    [
        ("mean", [[0, 1], [0, 0]], 0),
        ("mean", [[0, 1], [1, 0]], 1),
        ("mean", [[255, 255], [255, 255]], 255),
        ("mode", [[3, 1], [1, 3]], 1),
        ("mode", [[9, 7], [8, 9]], 9),
        ("mode", [[4, 3], [2, 1]], 1),
        ("mode", [[2, 2], [0, 1]], 2),
    ],
)
def test_reduce_by_example(method, voxels, expected):
    assert reduce(np.array(voxels, "u1"), (2, 2), method).tolist() == [[expected]]


def test_infinity_and_nan_stay_what_they_are():
    voxels = np.array([[1, np.nan, 1, np.inf], [1, 1, 1, 1]], "f4")
    np.testing.assert_array_equal(reduce(voxels, (2, 2), "mean"), np.array([[np.nan, np.inf]], "f4"))


def test_leading_axes_are_kept_and_blocks_leave_no_trace(monkeypatch):
    voxels = np.random.default_rng(0).integers(0, 3, (3, 33, 18)).astype("u1")
    for method in ("mean", "mode"):
        whole = reduce(voxels, (2, 2), method)
        assert whole.shape == (3, 17, 9)
        for channel, reduced in zip(voxels, whole, strict=True):
            np.testing.assert_array_equal(reduce(channel, (2, 2), method), reduced)
        with monkeypatch.context() as patch:
            patch.setattr(pyramid, "BLOCK", 100)
            np.testing.assert_array_equal(reduce(voxels, (2, 2), method), whole)


def test_floats_have_no_mode_and_factors_are_small():
    with pytest.raises(AssertionError):
        reduce(np.zeros((2, 2), "f4"), (2, 2), "mode")
    with pytest.raises(AssertionError):
        reduce(np.zeros((3, 3), "u1"), (3, 3), "mean")


def planned(shape, voxel_size):
    spec = small_spec(shape, space=Space("zyx"[-len(shape) :], voxel_size, (0.0,) * len(shape), "nanometer"))
    return [(level.name, level.factors, level.spec.shape) for level in plan_pyramid(spec)]


@pytest.mark.parametrize(
    ("shape", "voxel_size", "levels"),
    [
        ((512, 512), (1, 1), []),
        ((1, 1), (1, 1), []),
        ((513, 7), (1, 1), [("1", (2, 2), (257, 4))]),
        ((513, 1), (1, 1), [("1", (2, 1), (257, 1))]),
        ((2000, 1500), (1, 1), [("1", (2, 2), (1000, 750)), ("2", (2, 2), (500, 375))]),
        ((900, 600), (1, 2), [("1", (2, 1), (450, 600)), ("2", (2, 2), (225, 300))]),
        ((600, 500, 500), (1, 1, 1), []),
        ((100, 1025, 9), (1, 1, 1), [("1", (2, 2, 2), (50, 513, 5)), ("2", (2, 2, 2), (25, 257, 3))]),
        ((100, 600, 600), (2, 1, 1), [("1", (1, 2, 2), (100, 300, 300))]),
        ((100, 600, 600), (1.9, 1, 1), [("1", (2, 2, 2), (50, 300, 300))]),
        ((9, 600, 600), (1, 2, 2), [("1", (2, 1, 1), (5, 600, 600)), ("2", (2, 2, 2), (3, 300, 300))]),
        ((1, 600, 600), (1, 50, 50), [("1", (1, 2, 2), (1, 300, 300))]),
    ],
)
def test_plan_by_example(shape, voxel_size, levels):
    assert planned(shape, voxel_size) == levels


def test_serial_sections_wait_for_the_plane_as_the_docstring_says():
    levels = planned((64, 16000, 16000), (50, 4, 4))
    assert [factors[0] for _, factors, _ in levels] == [1, 1, 1, 2, 2]


@given(
    st.lists(st.integers(1, 100_000), min_size=2, max_size=3),
    st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3),
)
def test_a_plan_ends_and_its_levels_cover_the_same_space(shape, voxel_size):
    shape, voxel_size = tuple(shape), tuple(voxel_size[: len(shape)])
    spec = small_spec(shape, space=Space("zyx"[-len(shape) :], voxel_size, (0.0,) * len(shape)))
    for number, level in enumerate(plan_pyramid(spec)):
        assert level.name == str(number + 1)
        assert max(level.factors) == 2
        assert max(spec.shape[-2:]) > 512
        assert level.spec.shape == tuple(-(-n // f) for n, f in zip(spec.shape, level.factors, strict=True))
        assert level.spec.space == spec.space.coarser(level.factors)
        assert all(s % c == 0 for s, c in zip(level.spec.shard, level.spec.inner, strict=True))
        assert all(s <= t for s, t in zip(level.spec.shard, spec.shard, strict=True))
        spec = level.spec
    assert max(spec.shape[-2:]) <= 512


@pytest.fixture
def short(monkeypatch):
    """Let pyramids go on until 8 voxels, so that small volumes have some levels."""
    monkeypatch.setattr(pyramid, "COARSEST", 8)


def built(root, data, spec, method="mean", **options):
    create_filled(root, spec, data)
    levels = build_pyramid(root, spec, method=method, threads=2, **{"progress": None, **options})
    return levels, [open_volume(root / path).read(open_volume(root / path).box) for path, _ in levels]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize("method", ["mean", "mode"])
def test_every_level_is_the_reduction_of_the_finer_one(tmp_path, method, channels):
    space = Space("zyx", (50.0, 25.0, 25.0), (0.0, 1.0, 2.0), "nanometer")
    spec = small_spec((5, 37, 22), channels=channels, space=space)
    data = np.random.default_rng(0).integers(0, 4, spec.stored_shape).astype("u1")
    levels, voxels = built(tmp_path / "a.zarr", data, spec, method)
    planned_levels = plan_pyramid(spec)
    assert levels == [("0", space), *((level.name, level.spec.space) for level in planned_levels)]
    assert [v.shape[1:] for v in voxels] == [(5, 37, 22), (5, 19, 11), (3, 10, 6), (2, 5, 3)]
    for level, finer, coarser in zip(planned_levels, voxels, voxels[1:], strict=False):
        np.testing.assert_array_equal(coarser, reduce(finer, level.factors, method))
    publish(tmp_path / "a.zarr", name="a", axes=spec.axes, levels=levels, classes=None)
    yaozarrs.validate_zarr_store(str(tmp_path / "a.zarr"))


@pytest.mark.usefixtures("short")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_levels_do_not_depend_on_the_shards(tmp_path_factory, data):
    ndim = data.draw(st.integers(2, 3))
    shape = tuple(data.draw(st.integers(1, 30)) for _ in range(ndim))
    method = data.draw(st.sampled_from(["mean", "mode"]))
    voxels = np.random.default_rng(1).integers(0, 5, shape).astype("u1")
    shards = [tuple(data.draw(st.sampled_from([4, 5, 8, 16, 64])) for _ in shape) for _ in range(2)]
    root = tmp_path_factory.mktemp("shards")
    found = [
        built(root / str(i), voxels, small_spec(shape, shard=shard), method) for i, shard in enumerate(shards)
    ]
    assert found[0][0] == found[1][0]
    for one, other in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("short")
def test_building_again_gives_the_same_bytes_and_heals_what_is_torn(tmp_path):
    spec = small_spec((37, 22))
    data = np.random.default_rng(0).integers(0, 200, (37, 22)).astype("u1")
    built(tmp_path, data, spec)
    before = files(tmp_path)
    (tmp_path / "1" / "c" / "0" / "0").write_bytes(b"torn")
    (tmp_path / "2" / "c" / "0" / "0").unlink()
    build_pyramid(tmp_path, spec, method="mean", threads=1, progress=None)
    assert files(tmp_path) == before


@pytest.mark.usefixtures("short")
def test_progress_counts_the_bytes_of_coarser_voxels(tmp_path):
    told = []
    spec = small_spec((37, 22), channels=2, dtype="u2")
    _, voxels = built(tmp_path, np.zeros(spec.stored_shape, "u2"), spec, progress=lambda *now: told.append(now))
    total = sum(v.nbytes for v in voxels[1:])
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert {whole for _, whole in told} == {total}


@pytest.mark.usefixtures("short")
def test_holes_are_errors_unless_they_are_background(tmp_path):
    spec = small_spec((20, 20))
    create_filled(tmp_path, spec, np.ones((20, 20), "u1"))
    (tmp_path / "0" / "c" / "1" / "1").unlink()
    with pytest.raises(MissingChunkError):
        build_pyramid(tmp_path, spec, method="mean", threads=2, progress=None)
    levels = build_pyramid(tmp_path, spec, method="mean", threads=2, progress=None, holes="background")
    assert [path for path, _ in levels] == ["0", "1", "2"]
    volume = open_volume(tmp_path / "1")
    expected = np.ones((20, 20), "u1")
    expected[8:16, 8:16] = 0
    np.testing.assert_array_equal(volume.read(volume.box)[0], expected[::2, ::2])


@pytest.mark.usefixtures("short")
def test_another_array_in_a_levels_place_is_refused(tmp_path):
    spec = small_spec((20, 20))
    create_filled(tmp_path, spec, np.ones((20, 20), "u1"))
    create_level(tmp_path, "1", small_spec((9, 9)))
    with pytest.raises(VolumeError, match="another layout"):
        build_pyramid(tmp_path, spec, method="mean", threads=2, progress=None)


def test_a_short_volume_has_no_coarser_level(tmp_path):
    spec = small_spec((20, 20))
    levels, _ = built(tmp_path, np.ones((20, 20), "u1"), spec)
    assert levels == [("0", spec.space)]
