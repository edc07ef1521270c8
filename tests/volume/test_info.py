import json

import numpy as np
import pytest
from volumes import create_filled, numbers, save, save_ome, small_spec

from pipeline.errors import VolumeError
from pipeline.volume import Space, publish
from pipeline.volume.info import info


def test_a_plain_array(tmp_path):
    save(tmp_path / "a", numbers("yxc"), zarr_format=2)
    found = info(tmp_path / "a", axes="yxc")
    assert found == json.loads(json.dumps(found))
    size = sum(p.stat().st_size for p in (tmp_path / "a").iterdir() if p.name[0] != ".")
    assert found == {
        "url": str(tmp_path / "a"),
        "level": 0,
        "zarr_format": 2,
        "ome_version": None,
        "axes": "yxc",
        "shape": [13, 17, 3],
        "spatial_axes": "yx",
        "spatial_shape": [13, 17],
        "channels": 3,
        "dtype": "uint16",
        "chunks": [4, 4, 3],
        "shards": None,
        "voxel_size": [1.0, 1.0],
        "unit": None,
        "translation": [0.0, 0.0],
        "georeference": None,
        "channel_names": None,
        "format": "Zarr",
        "levels": [{"path": "", "shape": [13, 17, 3], "voxel_size": [1.0, 1.0]}],
        "classes": None,
        "bytes": 13 * 17 * 3 * 2,
        "stored_bytes": size,
        "stored_chunks": 20,
        "missing_chunks": {"count": 0, "keys": []},
    }


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_image_with_levels(tmp_path, version):
    save_ome(tmp_path / "a", [numbers("zyx"), numbers("zyx")[:, ::2, ::2]], "zyx", version=version)
    found = info(tmp_path / "a", level=1)
    assert found["ome_version"] == version
    assert (found["level"], found["shape"], found["unit"]) == (1, [5, 7, 9], "micrometer")
    assert (found["voxel_size"], found["translation"]) == ([2.0] * 3, [10.0] * 3)
    assert found["levels"] == [
        {"path": "s0", "shape": [5, 13, 17], "voxel_size": [1.0] * 3},
        {"path": "s1", "shape": [5, 7, 9], "voxel_size": [2.0] * 3},
    ]


def test_a_class_map_of_ours(tmp_path):
    spec = small_spec((20, 13), space=Space("yx", (0.5, 0.5), (0, 0), "micrometer"))
    create_filled(tmp_path / "a", spec, np.zeros((20, 13), "u1"))
    publish(tmp_path / "a", name="a", axes="yx", levels=[("0", spec.space)], classes=["background", "cell"])
    found = info(tmp_path / "a")
    assert found["classes"] == ["background", "cell"]
    assert (found["chunks"], found["shards"], found["stored_chunks"]) == ([4, 4], [8, 8], 6)
    assert found["stored_bytes"] > 0


def test_missing_chunks_are_counted_and_the_first_five_named(tmp_path):
    save(tmp_path / "a", numbers("yx"), "yx")
    for key in ("0/1", "0/3", "1/0", "1/2", "2/4", "3/3"):
        (tmp_path / "a" / "c" / key).unlink()
    (tmp_path / "a" / "c" / "0" / "1.abc.partial").write_bytes(b"left over")
    found = info(tmp_path / "a")
    assert found["stored_chunks"] == 14
    assert found["missing_chunks"] == {"count": 6, "keys": ["c/0/1", "c/0/3", "c/1/0", "c/1/2", "c/2/4"]}


def test_what_cannot_be_opened_is_refused(tmp_path):
    with pytest.raises(VolumeError, match="no such file"):
        info(tmp_path / "missing")
