import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.errors import InputError
from pipeline.evaluation.metrics import RATIOS, class_ratios, metrics
from pipeline.evaluation.statistics import ConfusionStatistics

TABLES = st.integers(1, 5).flatmap(lambda n: hnp.arrays(np.int64, (n, n), elements=st.integers(0, 5)))


def of(table, names=None):
    names = names or [f"class {i}" for i in range(len(table))]
    return metrics(ConfusionStatistics(np.array(table)), names)


@pytest.mark.parametrize(
    ("table", "ratio", "values"),
    [
        # target: 5 background, 5 foreground; 3 found, 1 found wrongly
        ([[4, 1], [2, 3]], "iou", [4 / 7, 3 / 6]),
        ([[4, 1], [2, 3]], "dice", [8 / 11, 6 / 9]),
        ([[4, 1], [2, 3]], "precision", [4 / 6, 3 / 4]),
        ([[4, 1], [2, 3]], "recall", [4 / 5, 3 / 5]),
        ([[4, 1], [2, 3]], "specificity", [3 / 5, 4 / 5]),
        # three classes
        ([[5, 1, 0], [0, 2, 2], [1, 0, 9]], "iou", [5 / 7, 2 / 5, 9 / 12]),
        ([[5, 1, 0], [0, 2, 2], [1, 0, 9]], "specificity", [13 / 14, 15 / 16, 8 / 10]),
        # all right
        ([[7, 0], [0, 1]], "iou", [1, 1]),
        # in the target and never predicted: its precision is 0 / 0
        ([[7, 0], [2, 0]], "iou", [7 / 9, 0]),
        ([[7, 0], [2, 0]], "precision", [7 / 9, None]),
        ([[7, 0], [2, 0]], "recall", [1, 0]),
        # predicted and never in the target: its recall is 0 / 0
        ([[7, 2], [0, 0]], "recall", [7 / 9, None]),
        ([[7, 2], [0, 0]], "dice", [14 / 16, 0]),
        ([[7, 2], [0, 0]], "specificity", [None, 7 / 9]),
        # in neither: nothing can be said
        ([[7, 0], [0, 0]], "iou", [1, None]),
        ([[7, 0], [0, 0]], "dice", [1, None]),
        ([[7, 0], [0, 0]], "precision", [1, None]),
        ([[7, 0], [0, 0]], "recall", [1, None]),
        ([[7, 0], [0, 0]], "specificity", [None, None]),
    ],
)
def test_ratios_by_hand(table, ratio, values):
    assert class_ratios(np.array(table))[ratio] == pytest.approx(values)
    defined = [value for value in values if value is not None]
    assert of(table)[f"mean_{ratio}"] == (pytest.approx(np.mean(defined)) if defined else None)


def test_the_whole_document():
    total = ConfusionStatistics(np.array([[6, 2, 0], [0, 2, 0], [0, 0, 0]]), ignored=3)
    assert metrics(total, ["background", "nucleus", "mitosis"]) == {
        "voxels": 10,
        "ignored": 3,
        "accuracy": 0.8,
        "mean_iou": pytest.approx((6 / 8 + 2 / 4) / 2),
        "mean_dice": pytest.approx((12 / 14 + 4 / 6) / 2),
        "mean_precision": 0.75,
        "mean_recall": 0.875,
        "mean_specificity": 0.875,
        "frequency_weighted_iou": pytest.approx((8 * 0.75 + 2 * 0.5) / 10),
        "kappa": pytest.approx((10 * 8 - 56) / (100 - 56)),
        "mcc": pytest.approx((10 * 8 - 56) / ((100 - 52) * (100 - 68)) ** 0.5),
        "absent": ["mitosis"],
        "classes": {
            "background": {
                "iou": 0.75,
                "dice": pytest.approx(12 / 14),
                "precision": 1.0,
                "recall": 0.75,
                "specificity": 1.0,
                "target_voxels": 8,
                "prediction_voxels": 6,
            },
            "nucleus": {
                "iou": 0.5,
                "dice": pytest.approx(4 / 6),
                "precision": 0.5,
                "recall": 1.0,
                "specificity": 0.75,
                "target_voxels": 2,
                "prediction_voxels": 4,
            },
            "mitosis": dict.fromkeys(RATIOS) | {"target_voxels": 0, "prediction_voxels": 0},
        },
        "confusion": [[6, 2, 0], [0, 2, 0], [0, 0, 0]],
    }


def test_without_any_voxel_nothing_is_claimed():
    document = of([[0, 0], [0, 0]], ["a", "b"])
    assert document["voxels"] == 0
    assert document["accuracy"] is None
    assert [document[f"mean_{ratio}"] for ratio in RATIOS] == [None] * 5
    assert document["absent"] == ["a", "b"]


@given(TABLES)
def test_ratios_are_those_of_the_voxels(table):
    """Rebuild voxels from the table and count each ratio from its definition."""
    target, prediction = (np.repeat(index, table.ravel()) for index in np.indices(table.shape).reshape(2, -1))
    document = of(table)
    for i, values in enumerate(document["classes"].values()):
        t, p = target == i, prediction == i
        if not (t | p).any():
            assert f"class {i}" in document["absent"]
            assert all(values[ratio] is None for ratio in RATIOS)
            continue
        parts = {
            "iou": (t & p, t | p),
            "precision": (t & p, p),
            "recall": (t & p, t),
            "specificity": (~t & ~p, ~t),
        }
        for ratio, (part, whole) in parts.items():
            assert values[ratio] == (pytest.approx(part.sum() / whole.sum()) if whole.any() else None)
        assert values["dice"] == pytest.approx(2 * values["iou"] / (1 + values["iou"]))
    assert document["accuracy"] == (pytest.approx((target == prediction).mean()) if target.size else None)


@given(TABLES)
def test_the_document_is_json_without_nan(table):
    document = of(table)
    assert json.loads(json.dumps(document, allow_nan=False)) == document


@given(TABLES, st.integers(1, 1000))
def test_metrics_do_not_depend_on_how_much_was_seen(table, times):
    once, often = of(table), of(table * times)
    for ratio in RATIOS:
        assert often[f"mean_{ratio}"] == pytest.approx(once[f"mean_{ratio}"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a"], "1 class names for 2 classes"),
        (["a", "b", "c"], "3 class names for 2 classes"),
        (["a", "a"], "'a'"),
    ],
)
def test_names_that_do_not_fit_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        metrics(ConfusionStatistics.zero(2), names)
