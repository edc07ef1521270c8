"""Statistics on the grid of chunks: what xarray opens, with the names of axes and the places of chunks."""

import numpy as np
import pytest
import xarray
from comparisons import class_maps, job, save_ids
from volumes import save

import pipeline
from pipeline.evaluation import maps
from pipeline.evaluation.metrics import class_ratios
from pipeline.evaluation.statistics import ConfusionStatistics

NAMES = ("background", "cell", "wall")


def opened(out):
    with xarray.open_zarr(out / "statistics.zarr", consolidated=False) as dataset:
        return dataset.load()


@pytest.mark.parametrize("numbers", [1 << 20, 100])
@pytest.mark.parametrize("shape", [(26, 35), (9, 14, 17)])
def test_maps_have_dimensions_places_and_sums(tmp_path, monkeypatch, shape, numbers):
    monkeypatch.setattr(maps, "NUMBERS", numbers)
    prediction, target = class_maps(shape)
    spacing = (2.0, 0.5, 0.7)[-len(shape) :]
    save_ids(tmp_path / "p.zarr", prediction, classes=NAMES, spacing=spacing)
    save(tmp_path / "t.zarr", target, "zyx"[-len(shape) :])
    found = pipeline.evaluate(job(tmp_path, out=str(tmp_path / "m"), ignore=2))
    dataset = opened(tmp_path / "m")
    axes = tuple("zyx"[-len(shape) :])
    assert dataset.accuracy.dims == axes
    assert dataset.iou.dims == (*axes, "class")
    assert dataset.confusion.dims == (*axes, "target_class", "prediction_class")
    assert dataset.attrs["classes"] == list(NAMES)
    assert dataset.attrs["overtile"]["state"] == "sealed"
    assert dataset.confusion.sum(axes).values.tolist() == found["confusion"]
    assert int(dataset.ignored.sum()) == found["ignored"]
    assert float(dataset.seconds.min()) >= 0
    for axis, size, n in zip(axes, spacing, shape, strict=True):
        middles = [(a + min(a + 8, n) - 1) / 2 * size for a in range(0, n, 8)]
        assert dataset[axis].values.tolist() == pytest.approx(middles)
        assert dataset[axis].attrs["units"] == "micrometer"
    core = tuple(slice(8, 16) for _ in shape)
    counts = ConfusionStatistics.of(prediction[core], target[core], classes=3, ignore=2).counts
    place = dict.fromkeys(axes, 1)
    assert dataset.confusion.isel(place).values.tolist() == counts.tolist()
    ious = [np.nan if iou is None else iou for iou in class_ratios(counts)["iou"]]
    assert dataset.iou.isel(place).values.tolist() == pytest.approx(ious, nan_ok=True)


def test_what_is_not_compared_is_not_a_number(tmp_path):
    prediction, target = class_maps((26, 35))
    save_ids(tmp_path / "p.zarr", prediction, classes=NAMES)
    save(tmp_path / "t.zarr", target)
    pipeline.evaluate(job(tmp_path, out=str(tmp_path / "m"), region="8:16,8:24"))
    dataset = opened(tmp_path / "m")
    compared = np.zeros((4, 5), bool)
    compared[1, 1:3] = True
    assert np.array_equal(~np.isnan(dataset.accuracy.values), compared)
    assert np.array_equal(~np.isnan(dataset.seconds.values), compared)
    assert np.array_equal(dataset.voxels.values > 0, compared)


def test_many_classes_have_no_whole_confusion(tmp_path):
    ids = (np.indices((20, 20)).sum(axis=0)).astype("u1")
    save(tmp_path / "p.zarr", ids, chunks=10)
    save(tmp_path / "t.zarr", ids, chunks=10)
    found = pipeline.evaluate(job(tmp_path, out=str(tmp_path / "m"), resamples=0))
    assert len(found["classes"]) == 39
    dataset = opened(tmp_path / "m")
    assert "confusion" not in dataset
    assert dataset.iou.shape == (2, 2, 39)
