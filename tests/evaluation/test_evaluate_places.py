"""Where two volumes lie over each other, which part of them is compared, and which areas are measured apart."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from comparisons import class_maps, job, save_ids
from masks import disc
from runs import make_image, make_run
from volumes import save, save_ome

import pipeline
from pipeline.errors import InputError, RunMismatchError
from pipeline.evaluation.boundaries import Outline, OutlineStatistics, boundary_metrics
from pipeline.evaluation.metrics import metrics
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.geometry import Box
from pipeline.volume.geo import Georeference, georeference_attributes

NAMES = ("background", "cell", "wall")
SHAPE = (26, 35)
UTM = "EPSG:32633"


def place(path, values, *, corner=(0, 0), size=0.5, crs=UTM):
    """Store a raster whose upper left voxel is so many voxels (row, column) from 500,000 E 5,000,000 N."""
    save_ids(path, values, classes=NAMES)
    row, column = corner
    geo = Georeference(crs, (size, 0.0, 500_000 + column * size, 0.0, -size, 5_000_000 - row * size), None)
    zarr.open_group(str(path), mode="r+").attrs.update(georeference_attributes(geo, shape=values.shape))


@pytest.mark.parametrize(
    ("cut", "corner"),
    [
        ((slice(0, 40), slice(0, 50)), (0, 0)),
        ((slice(3, 40), slice(5, 50)), (3, 5)),
        ((slice(7, 20), slice(9, 30)), (7, 9)),
        ((slice(0, 12), slice(20, 50)), (0, 20)),
    ],
)
def test_a_target_that_is_larger_or_shifted_is_aligned_by_its_transform(tmp_path, cut, corner):
    """The prediction covers rows 5 to 31 and columns 8 to 43 of a scene of 40 x 50."""
    scene, truth = class_maps((40, 50))
    place(tmp_path / "p.zarr", scene[5:31, 8:43], corner=(5, 8))
    place(tmp_path / "t.zarr", truth[cut], corner=corner)
    found = pipeline.evaluate(job(tmp_path, out=str(tmp_path / "m")))
    rows, columns = (slice(max(a, b.start), min(c, b.stop)) for a, c, b in zip((5, 8), (31, 43), cut, strict=True))
    expected = metrics(ConfusionStatistics.of(scene[rows, columns], truth[rows, columns], classes=3), NAMES)
    assert found.items() >= expected.items()
    assert found["offset"] == [5 - corner[0], 8 - corner[1]]
    part = f"{rows.start - 5}:{rows.stop - 5},{columns.start - 8}:{columns.stop - 8}"
    assert found["region"] == (None if part == "0:26,0:35" else part)
    cores = [r["core"] for r in pq.read_table(tmp_path / "m" / "statistics.parquet").to_pylist()]
    assert cores[0].split(",")[0].split(":")[0] == str(rows.start - 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corner": (0.5, 0)}, r"lies -0\.5 voxels along y and 0 along x .* not a whole number"),
        ({"corner": (0, 3.25)}, r"lies 0 voxels along y and -3\.25 along x"),
        ({"crs": "EPSG:32634"}, "different coordinate reference systems, EPSG:32633 and EPSG:32634"),
        ({"size": 0.6}, r"voxels are of different sizes or directions, 0\.5, 0, 0, -0\.5 and 0\.6, 0, 0, -0\.6"),
        ({"corner": (0, 400)}, "do not overlap; the prediction begins at voxel 0,-400 of the target"),
    ],
)
def test_rasters_that_do_not_lie_over_each_other_are_refused_by_name(tmp_path, options, message):
    prediction, target = class_maps(SHAPE)
    place(tmp_path / "p.zarr", prediction)
    place(tmp_path / "t.zarr", target, **options)
    with pytest.raises(InputError, match=message):
        pipeline.evaluate(job(tmp_path))


def test_a_region_is_of_the_prediction_and_must_be_covered(tmp_path):
    scene, truth = class_maps((40, 50))
    place(tmp_path / "p.zarr", scene)
    place(tmp_path / "t.zarr", truth[10:, 10:], corner=(10, 10))
    found = pipeline.evaluate(job(tmp_path, region="5:20,0:50"))
    assert found["region"] == "10:20,10:50"
    assert (
        found["confusion"]
        == ConfusionStatistics.of(scene[10:20, 10:], truth[10:20, 10:], classes=3).counts.tolist()
    )
    with pytest.raises(InputError, match="--region: holds no voxel that both cover, which is 10:40,10:50"):
        pipeline.evaluate(job(tmp_path, region="0:5,0:50"))


def test_the_prediction_of_a_region_lies_where_it_was_cut_out(tmp_path):
    """Its run knows: the target is of the whole image."""
    whole = np.indices((128, 192)).sum(axis=0).astype("u1") % 2
    make_image(tmp_path / "image.zarr", whole.shape)
    output = make_run(tmp_path, whole[64:128, 10:150], region="64:128,10:150")
    make_target = np.where(np.arange(192) < 100, whole, 1 - whole).astype("u1")
    save(tmp_path / "t.zarr", make_target, "yx", chunks=50)
    found = pipeline.evaluate(job(tmp_path, prediction=str(output)))
    assert (found["offset"], found["region"]) == ([64, 10], None)
    assert found["accuracy"] == (100 - 10) / 140
    save(tmp_path / "other.zarr", make_target[:, :-1], "yx", chunks=50)
    with pytest.raises(InputError, match="they must be equal"):
        pipeline.evaluate(job(tmp_path, prediction=str(output), target=str(tmp_path / "other.zarr")))


def test_levels_of_both_are_chosen_one_by_one(tmp_path):
    prediction, target = class_maps((16, 20))
    save_ome(tmp_path / "p.zarr", [np.kron(prediction, np.ones((2, 2), "u1")), prediction], "yx", version="0.5")
    save_ome(
        tmp_path / "t.zarr", [np.zeros((64, 80), "u1"), np.zeros((32, 40), "u1"), target], "yx", version="0.4"
    )
    found = pipeline.evaluate(job(tmp_path, level=1, target_level=2))
    expected = ConfusionStatistics.of(prediction, target, classes=3)
    assert found["confusion"] == expected.counts.tolist()
    with pytest.raises(InputError, match=r"32 y x 40 x, target .* 16 y x 20 x"):
        pipeline.evaluate(job(tmp_path, target_level=2))


@pytest.fixture
def pair(tmp_path):
    prediction, target = class_maps(SHAPE)
    save_ids(tmp_path / "p.zarr", prediction, classes=NAMES)
    save(tmp_path / "t.zarr", target, "yx", chunks=5)
    return tmp_path


def ring(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def polygons(path, shapes):
    """Polygons in pixels, each with the value of its attribute ``kind``, as QuPath writes them."""
    features = [
        {
            "type": "Feature",
            "properties": {"kind": kind, "classification": {"name": f"of {kind}"}},
            "geometry": {"type": "Polygon", "coordinates": [ring(*box)]},
        }
        for kind, box in shapes
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return str(path)


@pytest.mark.parametrize("chunk", [(8, 8), (26, 35), (5, 11)])
@pytest.mark.parametrize("coarse", [1, 5])
def test_only_what_is_within_a_mask_is_compared(pair, chunk, coarse):
    prediction, target = class_maps(SHAPE)
    bits = disc(SHAPE, (10, 12), 7)
    if coarse == 5:
        bits = np.zeros((5, 7), bool)
        bits[1:3, 2:5] = True
    save(pair / "mask.zarr", bits.astype("u1"), "yx")
    if coarse == 5:
        lies = [
            np.array([(2 * i + 1) * m // (2 * n) for i in range(n)]) for n, m in zip(SHAPE, (5, 7), strict=True)
        ]
        bits = bits[np.ix_(*lies)]
    options = {"within": str(pair / "mask.zarr"), "chunk": chunk, "boundary": "1"}
    found = pipeline.evaluate(job(pair, out=str(pair / "m"), ignore=1, **options))
    expected = ConfusionStatistics.of(prediction[bits], target[bits], classes=3, ignore=1)
    assert found["confusion"] == expected.counts.tolist()
    assert found["ignored"] == expected.ignored
    marked = np.where(bits, target, 1)
    outline = Outline((1.0, 1.0), 10.0, 2)
    whole = OutlineStatistics.of(
        prediction, marked, positive=2, outline=outline, core=Box.of_shape(SHAPE), ignore=1
    )
    assert found["boundary"]["classes"]["wall"] == boundary_metrics(whole, tolerances=(1.0,))
    told = pipeline.status(pair / "m")
    assert (told["skipped"] > 0) == (chunk == (8, 8) or chunk == (5, 11))
    assert told["mask"]["kind"] == "volume"


def test_polygons_are_a_mask_too_and_another_mask_is_another_job(pair):
    prediction, target = class_maps(SHAPE)
    within = polygons(pair / "inside.geojson", [("a", (4, 2, 20, 12))])
    found = pipeline.evaluate(job(pair, within=within, out=str(pair / "m")))
    cut = (slice(2, 12), slice(4, 20))
    assert found["confusion"] == ConfusionStatistics.of(prediction[cut], target[cut], classes=3).counts.tolist()
    polygons(pair / "inside.geojson", [("a", (4, 2, 20, 13))])
    with pytest.raises(RunMismatchError, match=r"within\.sha256"):
        pipeline.evaluate(job(pair, within=within, out=str(pair / "m")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"within": "auto"}, "--within auto: name a mask volume, or polygons"),
        ({"within": "t.zarr"}, None),
        ({"groups": "narrow.zarr"}, r"--groups .*narrow.zarr: has the shape \(26, 34\)"),
        ({"groups": "t.zarr", "group_attribute": "kind"}, "is of polygons, and --groups .*t.zarr is a volume"),
    ],
)
def test_masks_and_areas_that_do_not_fit_are_refused(pair, options, message):
    save(pair / "narrow.zarr", np.zeros((26, 34), "u1"))
    options = {k: str(pair / v) if v.endswith(".zarr") else v for k, v in options.items()}
    if message is None:
        assert pipeline.evaluate(job(pair, **options))["voxels"] < 26 * 35
        return
    with pytest.raises(InputError, match=message):
        pipeline.evaluate(job(pair, out=str(pair / "m"), **options))
    assert not (pair / "m").exists()


@pytest.mark.parametrize("chunk", [(8, 8), (26, 35), (5, 11)])
@pytest.mark.parametrize("ignore", [None, 2])
def test_areas_of_a_volume_are_measured_apart(pair, chunk, ignore):
    prediction, target = class_maps(SHAPE)
    areas = np.zeros(SHAPE, "u2")
    areas[2:20, 3:15], areas[10:25, 15:30] = 7, 300
    save_ids(pair / "areas.zarr", areas)
    found = pipeline.evaluate(job(pair, groups=str(pair / "areas.zarr"), chunk=chunk, ignore=ignore))
    assert list(found["groups"]) == ["area 7", "area 300"]
    for number, told in zip((7, 300), found["groups"].values(), strict=True):
        inside = areas == number
        whole = metrics(
            ConfusionStatistics.of(prediction[inside], target[inside], classes=3, ignore=ignore), NAMES
        )
        assert told == {key: value for key, value in whole.items() if key != "ignored"}


@pytest.mark.parametrize("attribute", [None, "kind"])
def test_areas_of_polygons_are_named_by_an_attribute(pair, attribute):
    prediction, target = class_maps(SHAPE)
    url = polygons(pair / "areas.geojson", [("tumour", (3, 2, 15, 20)), ("stroma", (15, 10, 30, 25))])
    found = pipeline.evaluate(job(pair, groups=url, group_attribute=attribute))["groups"]
    prefix = "" if attribute else "of "
    assert list(found) == [f"{prefix}tumour", f"{prefix}stroma"]
    cut = (slice(2, 20), slice(3, 15))
    assert found[f"{prefix}tumour"]["confusion"] == (
        ConfusionStatistics.of(prediction[cut], target[cut], classes=3).counts.tolist()
    )


def test_areas_hold_for_every_slice_of_a_stack(tmp_path):
    prediction, target = class_maps((5, 20, 24))
    save_ids(tmp_path / "p.zarr", prediction, classes=NAMES)
    save(tmp_path / "t.zarr", target, "zyx")
    url = polygons(tmp_path / "areas.geojson", [("left", (0, 0, 12, 20))])
    found = pipeline.evaluate(job(tmp_path, groups=url, group_attribute="kind"))["groups"]["left"]
    expected = ConfusionStatistics.of(prediction[..., :12], target[..., :12], classes=3)
    assert found["confusion"] == expected.counts.tolist()


def test_too_many_areas_are_objects(pair, monkeypatch):
    monkeypatch.setattr("pipeline.evaluation.measures.MOST_AREAS", 3)
    save(pair / "areas.zarr", np.arange(26 * 35, dtype="u4").reshape(SHAPE))
    with pytest.raises(InputError, match="there are more than 3 areas; are these ids of objects"):
        pipeline.evaluate(job(pair, groups=str(pair / "areas.zarr")))


def test_stacks_lie_over_each_other_along_y_and_x_alone(tmp_path):
    prediction, target = class_maps((4, 20, 24))
    place(tmp_path / "p.zarr", prediction[:, 4:, 6:], corner=(4, 6))
    place(tmp_path / "t.zarr", target)
    found = pipeline.evaluate(job(tmp_path))
    assert found["offset"] == [0, 4, 6]
    expected = ConfusionStatistics.of(prediction[:, 4:, 6:], target[:, 4:, 6:], classes=3)
    assert found["confusion"] == expected.counts.tolist()
    place(tmp_path / "deep.zarr", np.repeat(target, 2, axis=0))
    with pytest.raises(InputError, match=r"4 z x 16 y x 18 x, target .* 8 z"):
        pipeline.evaluate(job(tmp_path, target=str(tmp_path / "deep.zarr")))


def test_voxels_without_extent_are_refused(tmp_path):
    prediction, target = class_maps(SHAPE)
    for name, values in (("p", prediction), ("t", target)):
        save_ids(tmp_path / f"{name}.zarr", values)
        geo = Georeference(UTM, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0), None)
        zarr.open_group(str(tmp_path / f"{name}.zarr"), mode="r+").attrs.update(
            georeference_attributes(geo, shape=SHAPE)
        )
    with pytest.raises(InputError, match="of voxels without extent; mend it"):
        pipeline.evaluate(job(tmp_path))


def test_a_mask_that_leaves_nothing_is_refused(pair):
    save(pair / "mask.zarr", np.zeros(SHAPE, "u1"))
    with pytest.raises(InputError, match=r"--within .*mask.zarr: holds no voxel of what is compared"):
        pipeline.evaluate(job(pair, within=str(pair / "mask.zarr")))
