"""Polygons as a target: class ids on the grid of an image, through the ingest job."""

import json

import numpy as np
import pytest

import pipeline
from pipeline.config import IngestJob
from pipeline.errors import InputError, VolumeError
from pipeline.volume import open_volume

pytest.importorskip("rasterio", reason="polygons need the extra: overtile[geo]")


def square(left, top, side, **properties):
    ring = [[left, top], [left + side, top], [left + side, top + side], [left, top + side], [left, top]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": properties,
    }


@pytest.fixture
def job(tmp_path):
    """The settings of an ingest of two squares on the grid of an image of 30 x 40 voxels."""
    np.save(tmp_path / "image.npy", np.zeros((30, 40), "u1"))
    image = {"source": str(tmp_path / "image.npy"), "output": str(tmp_path / "image.zarr")}
    pipeline.ingest(IngestJob.model_validate(image | {"voxel_size": (0.5, 0.5), "unit": "um"}))
    features = [square(2, 3, 4, kind="road"), square(20, 10, 10, kind="roof")]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return {
        "source": str(tmp_path / "a.geojson"),
        "output": str(tmp_path / "target.zarr"),
        "like": str(tmp_path / "image.zarr"),
    }


def ids_of(job):
    volume = open_volume(job["output"])
    return volume.read(volume.box)[0]


def expected(road, roof):
    ids = np.zeros((30, 40), "u1")
    ids[3:7, 2:6] = road
    ids[10:20, 20:30] = roof
    return ids


@pytest.mark.parametrize(
    ("options", "ids", "classes"),
    [
        ({}, (1, 1), ["background", "polygon"]),
        ({"attribute": "kind"}, (1, 2), ["background", "road", "roof"]),
        ({"attribute": "kind", "classes": "nothing,roof,road"}, (2, 1), ["nothing", "roof", "road"]),
        ({"classes": "nothing,thing"}, (1, 1), ["nothing", "thing"]),
    ],
)
def test_polygons_become_a_class_map_like_the_image(job, options, ids, classes):
    found = pipeline.ingest(IngestJob.model_validate(job | options))
    np.testing.assert_array_equal(ids_of(job), expected(*ids))
    assert (found["classes"], found["dtype"], found["voxel_size"]) == (classes, "uint8", [0.5, 0.5])
    assert pipeline.ingest(IngestJob.model_validate(job | options))["ingest"]["bytes"] == 0


def test_a_coarser_level_of_a_file_gives_its_own_grid(tmp_path, job):
    image = np.zeros((1100, 1200), "u1")
    np.save(tmp_path / "large.npy", image)
    pipeline.ingest(IngestJob(source=str(tmp_path / "large.npy"), output=str(tmp_path / "large.zarr")))
    pipeline.ingest(IngestJob.model_validate(job | {"like": str(tmp_path / "large.zarr"), "level": 1}))
    ids = ids_of(job)
    assert ids.shape == (550, 600)
    assert np.argwhere(ids[:, :10]).min(axis=0).tolist() == [1, 1]
    np.testing.assert_array_equal(ids[5:10, 10:15], np.ones((5, 5)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"like": None}, r"polygons become voxels on the grid of an image; say which: --like"),
        ({"like": None, "attribute": "kind"}, "--attribute and --layer are for polygons, which need --like"),
        ({"like": None, "layer": "a"}, "--attribute and --layer are for polygons, which need --like"),
        ({"threshold": 1}, "--like draws polygons, which have no values"),
        ({"values": {1: 1}}, "--like draws polygons, which have no values"),
        ({"like": "stack.npy", "axes": "zyx"}, "it has 3 spatial axes; polygons are drawn on two"),
        ({"attribute": "kind", "classes": "road,roof"}, "--classes background,road,roof"),
        ({"classes": "road"}, "polygons without a class are of id 1"),
        ({"attribute": "kind", "classes": "nothing,roof"}, "no class id is given for road"),
        ({"output": "a.geojson.zarr/b.zarr"}, "there is no folder"),
    ],
)
def test_refusals_of_polygons(tmp_path, job, changes, message):
    np.save(tmp_path / "stack.npy", np.zeros((3, 4, 5), "u1"))
    asked = job | changes
    for name in ("like", "output"):
        if changes.get(name):
            asked[name] = str(tmp_path / changes[name])
    with pytest.raises(InputError, match=message):
        pipeline.ingest(IngestJob.model_validate(asked))
    assert not (tmp_path / "target.zarr").exists()


def test_the_output_is_not_what_the_polygons_are_drawn_like(job):
    with pytest.raises(InputError, match="is the like, holds it or lies in it"):
        pipeline.ingest(IngestJob.model_validate(job | {"output": job["like"]}))


def test_polygons_elsewhere_are_refused(tmp_path, job):
    far = {"type": "FeatureCollection", "features": [square(2000, 3, 4)]}
    (tmp_path / "a.geojson").write_text(json.dumps(far))
    with pytest.raises(VolumeError, match="none of its 1 polygon"):
        pipeline.ingest(IngestJob.model_validate(job))
