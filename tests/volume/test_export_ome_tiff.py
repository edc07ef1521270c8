import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from volumes import create_filled, save, save_ome, small_spec

from pipeline.errors import InputError, MissingChunkError, VolumeError
from pipeline.volume import Space, open_volume, publish
from pipeline.volume.export import ome_tiff
from pipeline.volume.export.ome_tiff import write_ome_tiff


def levels_of(path):
    first = open_volume(path)
    return [first, *(open_volume(path, level=k) for k in range(1, len(first.levels)))]


@pytest.fixture
def small(monkeypatch):
    """Tiles and blocks so small that every small volume has some of them."""
    monkeypatch.setattr(ome_tiff, "TILE", 16)
    monkeypatch.setattr(ome_tiff, "BLOCK", 1000)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("axes", "shape", "written"),
    [
        ("yx", (40, 37), "YX"),
        ("zyx", (5, 20, 37), "ZYX"),
        ("cyx", (3, 20, 37), "CYX"),
        ("czyx", (2, 3, 20, 18), "CZYX"),
    ],
)
def test_every_voxel_of_every_level(tmp_path, axes, shape, written):
    data = np.random.default_rng(0).integers(0, 60000, shape).astype("u2")
    levels = [data, data[..., ::2, ::2], data[..., ::4, ::4]]
    save_ome(tmp_path / "a.zarr", levels, axes, version="0.5")
    target = tmp_path / "a.ome.tif"
    write_ome_tiff(levels_of(tmp_path / "a.zarr"), target)
    with tifffile.TiffFile(target) as file:
        assert (file.is_bigtiff, file.is_ome) == (True, True)
        (series,) = file.series
        assert series.axes == written
        assert series.pages[0].is_tiled
        assert len(series.levels) == 3
        for level, expected in zip(series.levels, levels, strict=True):
            np.testing.assert_array_equal(level.asarray(), expected)


@pytest.mark.usefixtures("small")
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@example("u4", [1, 17], 2, 1000)  # planes fit into a block, and a row of tiles does not
@given(
    st.sampled_from(["u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8", "f2", "bool"]),
    st.lists(st.integers(1, 40), min_size=2, max_size=2),
    st.integers(1, 3),
    st.sampled_from([1, 1000, 10**6]),
)
def test_values_are_kept_whatever_dtype_and_shape(tmp_path_factory, dtype, shape, depth, block):
    folder = tmp_path_factory.mktemp("tiff")
    data = np.random.default_rng(1).normal(0, 50, (depth, *shape)).astype(dtype)
    save(folder / "a.zarr", data, "zyx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ome_tiff, "BLOCK", block)
        write_ome_tiff([open_volume(folder / "a.zarr")], folder / "a.ome.tiff", threads=1)
    found = tifffile.imread(folder / "a.ome.tiff")
    np.testing.assert_array_equal(found.reshape(data.shape), data)
    assert found.dtype == {"bool": "u1", "f2": "f4"}.get(dtype, dtype)


def test_voxel_size_and_channel_names(tmp_path):
    space = Space("zyx", (2.0, 0.5, 0.25), (0.0, 0.0, 0.0), "micrometer")
    spec = small_spec((2, 9, 8), channels=2, space=space)
    create_filled(tmp_path / "a.zarr", spec, np.zeros((2, 2, 9, 8), "u1"))
    publish(tmp_path / "a.zarr", name="a", axes="czyx", levels=[("0", space)], classes=None)
    write_ome_tiff(levels_of(tmp_path / "a.zarr"), tmp_path / "a.ome.tif", names=["bg", "cell"])
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        image = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    assert [image[f"PhysicalSize{a}"] for a in "ZYX"] == [2.0, 0.5, 0.25]
    assert {image[f"PhysicalSize{a}Unit"] for a in "ZYX"} == {"µm"}
    assert [c["Name"] for c in image["Channel"]] == ["bg", "cell"]


def test_an_unknown_unit_is_not_told_as_micrometres(tmp_path):
    save(tmp_path / "a.zarr", np.zeros((4, 4), "u1"), "yx")
    write_ome_tiff([open_volume(tmp_path / "a.zarr")], tmp_path / "a.ome.tif", names=["ignored"])
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert "PhysicalSize" not in file.ome_metadata


def test_levels_with_fewer_planes_are_left_out(tmp_path):
    data = np.arange(4 * 20 * 20, dtype="u2").reshape(4, 20, 20)
    save_ome(tmp_path / "a.zarr", [data, data[:, ::2, ::2], data[::2, ::4, ::4]], "zyx", version="0.5")
    write_ome_tiff(levels_of(tmp_path / "a.zarr"), tmp_path / "a.ome.tif")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert [level.shape for level in file.series[0].levels] == [(4, 20, 20), (4, 10, 10)]


def test_refusals_leave_nothing_behind(tmp_path):
    save(tmp_path / "long.zarr", np.zeros((4, 4), "u8"), "yx")
    with pytest.raises(VolumeError, match="of uint64, which OME-TIFF cannot hold; it holds float32, float64"):
        write_ome_tiff([open_volume(tmp_path / "long.zarr")], tmp_path / "a.ome.tif")
    save(tmp_path / "holes.zarr", np.zeros((8, 8), "u1"), "yx")
    (tmp_path / "holes.zarr" / "c" / "1" / "1").unlink()
    with pytest.raises(MissingChunkError):
        write_ome_tiff([open_volume(tmp_path / "holes.zarr")], tmp_path / "a.ome.tif")
    with pytest.raises(InputError, match="there is no folder"):
        write_ome_tiff([open_volume(tmp_path / "holes.zarr")], tmp_path / "none" / "a.ome.tif")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["holes.zarr", "long.zarr"]
