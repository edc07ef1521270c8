"""A result lies where the voxels that it was made from lie."""

import numpy as np
import pytest
from networks import make_checkpoint, make_image

import pipeline
from pipeline.config import SegmentJob
from pipeline.jobs.place import place_attributes
from pipeline.store import LocalPlace
from pipeline.volume import ArraySpec, Space, build_pyramid, open_volume, publish
from pipeline.volume.geo import Georeference, georeference_attributes, read_georeference
from pipeline.volume.state import set_attributes

UTM = 'PROJCRS["WGS 84 / UTM zone 18N",ID["EPSG",32618]]'
GEO = Georeference(UTM, (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_000_000.0), -9999.0)


@pytest.fixture
def job(tmp_path):
    make_image(tmp_path / "in.zarr", (1200, 1100))
    volume = open_volume(tmp_path / "in.zarr")
    shard = volume.array.shards or volume.array.chunks
    spec = ArraySpec(volume.shape, None, volume.dtype, shard, volume.array.chunks, Space.unscaled("yx"))
    levels = build_pyramid(tmp_path / "in.zarr", spec, method="mean", threads=1, progress=None)
    publish(tmp_path / "in.zarr", name="in", axes="yx", levels=levels, classes=None)
    make_checkpoint(tmp_path / "model.safetensors", depth=2, width=2, padding="same")
    paths = {"input": "in.zarr", "output": "out.zarr", "model": "model.safetensors"}
    return SegmentJob(**{name: str(tmp_path / path) for name, path in paths.items()}, workers=1)


@pytest.mark.parametrize(
    ("settings", "transform"),
    [
        ({}, (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_000_000.0)),
        ({"region": "200:400,100:1100"}, (10.0, 0.0, 501_000.0, 0.0, -10.0, 3_998_000.0)),
        ({"level": 1}, (20.0, 0.0, 500_000.0, 0.0, -20.0, 4_000_000.0)),
        ({"level": 1, "region": "100:600,50:550"}, (20.0, 0.0, 501_000.0, 0.0, -20.0, 3_998_000.0)),
    ],
)
def test_region_and_level_move_and_scale_the_reference(job, tmp_path, settings, transform):
    set_attributes(LocalPlace(tmp_path / "in.zarr"), georeference_attributes(GEO, shape=(1200, 1100)))
    plan = pipeline.plan(SegmentJob.model_validate(job.model_dump() | settings))
    found = read_georeference(place_attributes(plan))
    assert found.crs == UTM
    np.testing.assert_allclose(found.transform, transform)
    assert found.nodata is None, "a class map holds no nodata"
    assert place_attributes(plan)["spatial:shape"] == list(plan.grid.shape)


def test_an_input_without_a_reference_gives_none(job):
    assert place_attributes(pipeline.plan(job)) == {}
