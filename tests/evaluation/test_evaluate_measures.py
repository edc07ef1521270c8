"""What the whole job finds is what the library, and others' libraries, find on the whole array: for any chunks."""

import json
import warnings

import numpy as np
import pytest
import torch
from comparisons import class_maps, job, save_ids
from cuts import five_chunkings
from labels import cells, spoilt
from monai.metrics import compute_hausdorff_distance
from runs import make_run
from skimage.metrics import adapted_rand_error, variation_of_information
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    cohen_kappa_score,
    jaccard_score,
    matthews_corrcoef,
    roc_auc_score,
)
from volumes import save

import pipeline
from pipeline.errors import InputError
from pipeline.evaluation.boundaries import Outline, OutlineStatistics, boundary_metrics
from pipeline.evaluation.calibration import calibration_metrics
from pipeline.evaluation.contingency import ContingencyTable
from pipeline.evaluation.histograms import CalibrationStatistics
from pipeline.evaluation.instances import instance_metrics
from pipeline.evaluation.isbi import IsbiStatistics, isbi_metrics
from pipeline.evaluation.metrics import metrics
from pipeline.evaluation.partitions import PartitionSums, partition_metrics
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.geometry import Box

NAMES = ("background", "cell", "wall")
SHAPES = [(26, 35), (9, 14, 17)]


def close(found, expected):
    """Whether two documents are equal but for the last bits of floats."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            close(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            close(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    else:
        assert found == expected


def through_chunks(root, shape, **options):
    """What the job finds for five chunkings, each alike; and once more on files that were written."""
    found = [pipeline.evaluate(job(root, chunk=chunk, resamples=0, **options)) for chunk in five_chunkings(shape)]
    for other in found[1:]:
        same = {key: other[key] for key in other.keys() - {"chunks", "worst"}}
        close(same, {key: found[0][key] for key in same})
    return found[0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ignore", [None, 2, 9])
def test_classes(tmp_path, shape, ignore):
    prediction, target = class_maps(shape)
    target[..., :3] = 9 if ignore == 9 else target[..., :3]
    save_ids(tmp_path / "p.zarr", prediction, classes=NAMES)
    save(tmp_path / "t.zarr", target, "zyx"[-len(shape) :], chunks=5)
    found = through_chunks(tmp_path, shape, ignore=ignore)
    expected = metrics(ConfusionStatistics.of(prediction, target, classes=3, ignore=ignore), NAMES)
    assert found.items() >= expected.items()
    kept = target != (-1 if ignore is None else ignore)
    sides = target[kept], prediction[kept]
    ious = jaccard_score(*sides, average=None, labels=[0, 1, 2])
    assert [found["classes"][n]["iou"] for n in NAMES] == pytest.approx(list(ious), abs=1e-9)
    assert found["mcc"] == pytest.approx(matthews_corrcoef(*sides), abs=1e-9)
    assert found["kappa"] == pytest.approx(cohen_kappa_score(*sides), abs=1e-9)
    weighted = jaccard_score(*sides, average="weighted", labels=[0, 1, 2])
    assert found["frequency_weighted_iou"] == pytest.approx(weighted, abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ignore", [None, 2])
def test_outlines(tmp_path, shape, ignore):
    prediction, target = class_maps(shape)
    spacing = (2.0, 0.5, 0.7)[-len(shape) :]
    save_ids(tmp_path / "p.zarr", prediction, classes=NAMES, spacing=spacing)
    save(tmp_path / "t.zarr", target, "zyx"[-len(shape) :])
    options = {"boundary": "1,2.5", "boundary_width": 2, "boundary_bound": 9, "ignore": ignore}
    found = through_chunks(tmp_path, shape, **options)["boundary"]
    outline = Outline(spacing, 9.0, 2)
    assert (found["width"], found["bound"]) == (2, 9.0)
    for number in (1, 2):
        whole = OutlineStatistics.of(
            prediction, target, positive=number, outline=outline, core=Box.of_shape(shape), ignore=ignore
        )
        close(found["classes"][NAMES[number]], boundary_metrics(whole, tolerances=(1.0, 2.5)))
    if ignore is None:
        masks = [torch.from_numpy(np.asarray(a == 1)[None, None].astype("f4")) for a in (prediction, target)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            monai = compute_hausdorff_distance(
                *masks, include_background=True, percentile=95, spacing=list(spacing)
            )
        assert found["classes"]["cell"]["hausdorff"] == pytest.approx(float(monai), rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ignore", [None, 3])
def test_objects_that_chunks_cut_count_once(tmp_path, shape, ignore):
    target = cells(shape, count=11, seed=1, thick=1.0).astype("u4")
    prediction = spoilt(target, seed=2).astype("u8") * 2**33
    save(tmp_path / "p.zarr", prediction, "zyx"[-len(shape) :], chunks=6)
    save(tmp_path / "t.zarr", target, "zyx"[-len(shape) :], chunks=5, sharded=True)
    found = through_chunks(tmp_path, shape, instances=True, iou="0.3,0.5", ignore=ignore)
    table = ContingencyTable.of(prediction, target, ignore=ignore)
    expected = instance_metrics(table, thresholds=(0.3, 0.5))
    close({key: found["instances"][key] for key in expected}, expected)
    close(found["instances"]["partition"], partition_metrics(PartitionSums.of(table)))
    close(found["instances"]["partition_of_foreground"], partition_metrics(PartitionSums.of_foreground(table)))
    kept = target != (-1 if ignore is None else ignore)
    ids = [np.unique(side, return_inverse=True)[1].reshape(shape)[kept] for side in (target, prediction)]
    splits = variation_of_information(*ids)
    assert found["instances"]["partition"]["vi"] == pytest.approx(sum(splits), abs=1e-9)
    error = adapted_rand_error(*ids, ignore_labels=())[0]
    assert found["instances"]["partition"]["adapted_rand"] == pytest.approx(1 - error, abs=1e-9)
    assert list(found["classes"]) == ["background", "object"]
    binary = ConfusionStatistics.of((prediction != 0)[kept], (target != 0)[kept], classes=2)
    assert found["confusion"] == binary.counts.tolist()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["u1", "f4"])
@pytest.mark.parametrize("ignore", [None, 2])
def test_probabilities(tmp_path, shape, dtype, ignore):
    _, target = class_maps(shape)
    rng = np.random.default_rng(3)
    scores = rng.random((3, *shape)) + 0.8 * (np.arange(3).reshape(3, *(1,) * len(shape)) == target)
    probabilities = scores / scores.sum(axis=0)
    stored = np.round(probabilities * 255).astype("u1") if dtype == "u1" else probabilities.astype("f4")
    save_ids(tmp_path / "p.zarr", stored, channels=True)
    save_ids(tmp_path / "t.zarr", target, classes=NAMES)
    found = through_chunks(tmp_path, shape, probabilities=True, ignore=ignore)
    whole = ConfusionStatistics.of(stored.argmax(axis=0), target, classes=3, ignore=ignore)
    assert found["confusion"] == whole.counts.tolist()
    kept = target != (-1 if ignore is None else ignore)
    for number, name in enumerate(NAMES):
        each = CalibrationStatistics.of(stored[number], target, positive=number, ignore=ignore)
        close(found["probabilities"]["classes"][name], calibration_metrics(each))
        truth, p = (target == number)[kept], stored[number][kept].astype("f8") / (255 if dtype == "u1" else 1)
        told = found["probabilities"]["classes"][name]
        if truth.any():
            assert told["brier"] == pytest.approx(brier_score_loss(truth, p), abs=1e-9)
            assert told["roc_auc"] == pytest.approx(roc_auc_score(truth, p), abs=told["roc_auc_error"] + 1e-9)
            if dtype == "u1":
                assert told["average_precision"] == pytest.approx(average_precision_score(truth, p), abs=1e-9)
        else:
            assert told["roc_auc"] is None
            assert told["undefined"]["roc_auc"]
    top = calibration_metrics(CalibrationStatistics.of_top_label(stored, target, ignore=ignore))
    close(found["probabilities"]["top_label"], {k: top[k] for k in found["probabilities"]["top_label"]})


@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_one_channel_is_the_probability_of_class_1(tmp_path, dtype):
    target = class_maps((20, 30), classes=2)[1]
    p = np.random.default_rng(0).random((1, 20, 30)).astype("f4")
    stored = np.round(p * 255).astype("u1") if dtype == "u1" else p
    save_ids(tmp_path / "p.zarr", stored, channels=True)
    save(tmp_path / "t.zarr", target)
    found = through_chunks(tmp_path, (20, 30), probabilities=True, threshold=0.25)
    least = 0.25 * 255 if dtype == "u1" else 0.25
    expected = ConfusionStatistics.of((stored[0] >= least).astype("u1"), target, classes=2)
    assert found["confusion"] == expected.counts.tolist()
    assert list(found["probabilities"]["classes"]) == ["class 1"]
    assert found["probabilities"]["top_label"] is None
    close(
        found["probabilities"]["classes"]["class 1"],
        calibration_metrics(CalibrationStatistics.of(stored[0], target)),
    )


def test_a_segmentation_s_probabilities_are_known(tmp_path):
    ids = np.zeros((64, 128), "u1")
    ids[:, 64:] = 1
    values = np.stack([255 * (1 - ids), 255 * ids]).astype("u1")
    output = make_run(tmp_path, values, kind="probabilities")
    save(tmp_path / "t.zarr", ids)
    found = pipeline.evaluate(job(tmp_path, prediction=str(output)))
    assert list(found["classes"]) == ["background", "cell"]
    assert found["mean_iou"] == 1
    assert found["probabilities"]["classes"]["cell"]["roc_auc"] == 1
    with pytest.raises(InputError, match=r"has a channel axis .* or pass --probabilities"):
        pipeline.evaluate(job(tmp_path, prediction=str(output), probabilities=False))


@pytest.mark.parametrize("kind", ["labels", "probabilities"])
@pytest.mark.parametrize("deep", [False, True])
def test_isbi_takes_whole_slices(tmp_path, kind, deep):
    shape = (5, 40, 36) if deep else (40, 36)
    target = np.stack([cells((40, 36), count=8, seed=z, thick=3.0) > 0 for z in range(5)])[slice(5) if deep else 0]
    noise = np.random.default_rng(0).random(shape)
    found_interior = np.clip(target * 0.7 + 0.3 * noise, 0, 1)
    if kind == "labels":
        found_interior = (found_interior > 0.2).astype("f8")
        save(tmp_path / "p.zarr", found_interior.astype("u1"), "zyx"[-len(shape) :], chunks=8)
    else:
        values = np.stack([255 - np.round(found_interior * 255), np.round(found_interior * 255)]).astype("u1")
        found_interior = values[1]
        save_ids(tmp_path / "p.zarr", values, channels=True)
    save(tmp_path / "t.zarr", target.astype("u1"), "zyx"[-len(shape) :], chunks=16)
    probable = {"probabilities": kind == "probabilities"}
    found = pipeline.evaluate(job(tmp_path, isbi=1, classes="membrane,interior", **probable))
    if deep:
        expected = isbi_metrics(IsbiStatistics.of_stack(found_interior, target))
        again = pipeline.evaluate(job(tmp_path, isbi=1, chunk=(2, 40, 36), **probable))
        close(again["isbi"]["per_slice"], expected["per_slice"])
    else:
        expected = isbi_metrics(IsbiStatistics.of(found_interior, target, number=0))
    assert found["isbi"]["interior"] == "interior"
    close({key: found["isbi"][key] for key in expected}, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"isbi": 1, "chunk": (8, 36)}, "cuts slices, and --isbi measures them whole"),
        ({"isbi": 7}, "--isbi 7: is no class; class ids are 0 to 2"),
        ({"chunk": (8, 8, 8)}, "--chunk has 3 lengths"),
        ({"instances": True, "classes": ("a", "b", "c")}, "are 3 names, but ids of objects have two classes"),
        ({"probabilities": True}, "has no channel axis"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(tmp_path, options, message):
    prediction, target = class_maps((40, 36))
    save_ids(tmp_path / "p.zarr", prediction, classes=NAMES)
    save(tmp_path / "t.zarr", target)
    with pytest.raises(InputError, match=message):
        pipeline.evaluate(job(tmp_path, out=str(tmp_path / "m"), **options))
    assert not (tmp_path / "m").exists()


def test_too_large_slices_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.evaluation.plan.MOST_SLICE", 1000)
    prediction, target = class_maps((40, 36))
    save_ids(tmp_path / "p.zarr", prediction)
    save(tmp_path / "t.zarr", target)
    with pytest.raises(InputError, match=r"a slice of 40 x 36 pixels is measured whole, and at most 1,000"):
        pipeline.evaluate(job(tmp_path, isbi=1))
    assert pipeline.evaluate(job(tmp_path, isbi=1, region="0:20,0:36"))["isbi"]["slices"] == 1


def test_classes_that_nobody_holds_and_volumes_of_nothing_have_no_numbers(tmp_path):
    """Empty classes, an empty prediction and target, all of it ignored: None with a reason, and valid JSON."""
    nothing = np.zeros((12, 10), "u1")
    save_ids(tmp_path / "p.zarr", nothing, classes=NAMES)
    save(tmp_path / "t.zarr", nothing)
    found = pipeline.evaluate(job(tmp_path, boundary="1", out=str(tmp_path / "m")))
    assert found["absent"] == ["cell", "wall"]
    assert (found["mean_iou"], found["mcc"], found["kappa"]) == (1.0, None, None)
    assert found["classes"]["cell"]["iou"] is None
    assert found["boundary"]["classes"]["cell"]["boundary_iou"] is None
    assert "NaN" not in (tmp_path / "m" / "metrics.json").read_text()

    objects = pipeline.evaluate(job(tmp_path, instances=True))["instances"]
    assert (objects["target_objects"]["count"], objects["aji"]) == (0, None)
    assert objects["matches"][0]["pq"] is None

    ignored = pipeline.evaluate(job(tmp_path, ignore=0, boundary="1", instances=True))
    assert (ignored["voxels"], ignored["ignored"], ignored["accuracy"]) == (0, 120, None)
    assert ignored["instances"]["partition"]["vi"] is None
    json.dumps(ignored, allow_nan=False)


def test_intervals_are_those_of_the_table(tmp_path):
    prediction, target = class_maps((26, 35))
    save_ids(tmp_path / "p.zarr", prediction, classes=NAMES)
    save(tmp_path / "t.zarr", target)
    found = pipeline.evaluate(job(tmp_path))
    low, high = found["intervals"]["mean_iou"]
    assert low < found["mean_iou"] < high
    assert pipeline.evaluate(job(tmp_path, resamples=0))["intervals"] is None
    assert pipeline.evaluate(job(tmp_path, chunk=(26, 35)))["intervals"]["mean_iou"] is None
