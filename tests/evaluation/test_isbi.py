import json
from pathlib import Path

import numpy as np
import pytest
from labels import cells
from scipy.ndimage import binary_erosion, gaussian_filter
from skimage.io import imread
from skimage.measure import label

from pipeline.errors import ChunkError, InputError, NonFiniteError
from pipeline.evaluation.contingency import ContingencyTable
from pipeline.evaluation.isbi import BEST, REASONS, THRESHOLDS, IsbiStatistics, isbi_metrics
from pipeline.evaluation.partitions import PartitionSums, partition_metrics
from pipeline.evaluation.thinning import thinned

LABELS = Path(__file__).parents[3] / "shared" / "data" / "em_isbi2012" / "label"
PARTS = ("per_slice", "stack")


def stack(slices=3, side=64):
    """Slices of cells with membranes of 4 pixels: 1 inside."""
    return np.stack([cells((side, side), count=10, seed=z, thick=4.0) > 0 for z in range(slices)])


def spoilt_map(target, *, sigma=1.5, noise=0.1, seed=0):
    blurred = np.stack([gaussian_filter(each.astype(float), sigma) for each in target])
    return np.clip(blurred + np.random.default_rng(seed).normal(0, noise, target.shape), 0, 1)


def values(found, part):
    return {name: found[part][name]["value"] for name in BEST}


def test_a_perfect_map_is_perfect():
    target = stack()
    found = isbi_metrics(IsbiStatistics.of_stack(target.astype(np.float32), target))
    for part in PARTS:
        assert values(found, part) == {
            "v_rand": 1,
            "v_info": 1,
            "rand_error": 0,
            "pixel_error": 0,
            "pixel_f_error": 0,
        }
        assert found[part]["v_rand"] == {"value": 1, "threshold": 0, "split": 1, "merge": 1}
        assert found[part]["undefined"] == {}
        assert [entry["threshold"] for entry in found[part]["curve"]] == list(THRESHOLDS)
    assert found["slices"] == 3


def test_a_small_slice_by_hand():
    """Two cells of 2 and 3 pixels; the membrane is missed in one row, so the prediction is one segment of 12."""
    target = np.array([[1, 0, 1], [1, 0, 1], [0, 0, 1]])
    found = isbi_metrics(IsbiStatistics.of(np.ones((3, 3)), target, number=0, thresholds=[0.5]))["stack"]
    assert found["v_rand"]["split"] == 1
    assert found["v_rand"]["merge"] == pytest.approx((4 + 9) / 25)
    assert found["v_rand"]["value"] == pytest.approx(2 * 13 / (13 + 25))
    assert found["rand_error"]["value"] == pytest.approx(1 - 26 / 38)
    assert found["v_info"] == {"value": 0, "threshold": 0.5, "split": None, "merge": 0}
    assert found["pixel_error"]["value"] == pytest.approx(4 / 9)
    assert found["pixel_f_error"]["value"] == pytest.approx(1 - 10 / 14)


def test_thick_membranes_cost_the_old_measures_and_not_the_new():
    target = stack()
    thick = np.stack([binary_erosion(each, iterations=2, border_value=1) for each in target])
    found = values(isbi_metrics(IsbiStatistics.of_stack(thick.astype(float), target)), "per_slice")
    assert found["v_rand"] > 0.97
    assert found["v_info"] > 0.95
    assert found["rand_error"] > 0.1
    assert found["pixel_error"] > 0.1


def test_a_gap_merges_and_a_wall_splits():
    target = stack(1)
    gap, wall = target.copy(), target.copy()
    gap[0, 30:34] = True
    wall[0, 32] = False
    merged, split = (isbi_metrics(IsbiStatistics.of_stack(a.astype(float), target))["stack"] for a in (gap, wall))
    assert merged["v_rand"]["split"] > 0.99 > 0.95 > merged["v_rand"]["merge"]
    assert split["v_rand"]["merge"] > 0.99 > 0.95 > split["v_rand"]["split"]
    assert split["v_info"]["merge"] > 0.99 > 0.97 > split["v_info"]["split"]


def test_the_scores_are_those_of_the_thinned_slice():
    """The way of the definition, at one threshold of one slice."""
    target, found = stack(1)[0], spoilt_map(stack(1))[0]
    truth = label(target, connectivity=1)
    sums = PartitionSums.of_foreground(ContingencyTable.of(thinned(found > 0.4), truth))
    expected = partition_metrics(sums)
    scores = isbi_metrics(IsbiStatistics.of(found, target, number=7), threshold=0.4)["per_slice"]["at"]
    for name in ("v_rand", "v_rand_split", "v_rand_merge", "v_info", "v_info_split", "v_info_merge"):
        assert scores[name] == pytest.approx(expected[name], abs=1e-12)
    assert scores["pixel_error"] == pytest.approx(((found > 0.4) != target).mean())


def test_slices_add_up_in_any_order_and_through_json():
    target = stack()
    found = spoilt_map(target)
    whole = IsbiStatistics.of_stack(found, target)
    slices = [IsbiStatistics.of(found[z], target[z], number=z) for z in (2, 0, 1)]
    total = sum(slices, IsbiStatistics.zero())
    assert total == whole
    assert IsbiStatistics.from_dict(json.loads(json.dumps(total.to_dict()))) == whole
    each = [isbi_metrics(one)["stack"]["curve"] for one in slices]
    means = isbi_metrics(whole)["per_slice"]["curve"]
    assert [entry["v_rand"] for entry in means] == pytest.approx(
        [sum(curve[i]["v_rand"] for curve in each) / 3 for i in range(len(THRESHOLDS))], abs=1e-12
    )
    assert max(entry["v_rand"] for entry in means) == isbi_metrics(whole)["per_slice"]["v_rand"]["value"]


def test_the_stack_counts_pixels_and_pairs_together():
    target = stack()
    found = spoilt_map(target) > 0.5
    at = isbi_metrics(IsbiStatistics.of_stack(found.astype(float), target))["stack"]["at"]
    assert at["pixel_error"] == pytest.approx((found != target).mean())
    apart = 1000 * np.arange(3)[:, None, None]
    truth = np.stack([label(each, connectivity=1) for each in target])
    thin = np.stack([thinned(each) for each in found])
    numbers = [np.where(a, a + apart, 0) for a in (thin, truth)]
    expected = partition_metrics(PartitionSums.of_foreground(ContingencyTable.of(*numbers)))
    assert (at["v_rand"], at["v_info"]) == pytest.approx((expected["v_rand"], expected["v_info"]), abs=1e-12)


def test_bytes_are_probabilities():
    target = stack(1)
    as_bytes = np.rint(255 * spoilt_map(target)).astype(np.uint8)
    assert IsbiStatistics.of_stack(as_bytes, target) == IsbiStatistics.of_stack(as_bytes / 255, target)


def test_slices_without_interior_are_undefined():
    found = isbi_metrics(IsbiStatistics.of(np.zeros((4, 4)), np.zeros((4, 4), int), number=0))
    for part in PARTS:
        assert found[part]["undefined"] == {
            n: REASONS[n] for n in ("v_rand", "v_info", "rand_error", "pixel_f_error")
        }
        assert found[part]["pixel_error"]["value"] == 0
        assert found[part]["v_rand"] == {"value": None, "threshold": None, "split": None, "merge": None}
    nothing = isbi_metrics(IsbiStatistics.zero())
    assert nothing["stack"]["undefined"] == nothing["per_slice"]["undefined"] == REASONS


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.4], [0.5, 0.5], [-0.1], [1.0], [float("nan")]])
def test_bad_thresholds_are_refused(thresholds):
    with pytest.raises(InputError, match="thresholds ascend"):
        IsbiStatistics.zero(thresholds)


@pytest.mark.parametrize(
    ("interior", "error", "message"),
    [
        (np.zeros((2, 3)), ChunkError, r"\(2, 3\) and \(2, 2\)"),
        (np.zeros((1, 2, 2)), ChunkError, "two arrays"),
        (np.full((2, 2), 1.5), ChunkError, "go from 0.5 to 1.5"),
        (np.full((2, 2), -1.0), ChunkError, "go from -1 to 0.5"),
        (np.full((2, 2), np.nan), NonFiniteError, "NaN"),
        (np.zeros((2, 2), np.int64), ChunkError, "of int64"),
    ],
)
def test_bad_slices_are_refused(interior, error, message):
    with pytest.raises(error, match=message):
        IsbiStatistics.of(interior, np.ones((2, 2), int), number=0)


def test_what_does_not_add_is_refused():
    one = IsbiStatistics.of(np.ones((2, 2)), np.ones((2, 2), int), number=3)
    with pytest.raises(InputError, match=r"slices \[3\] are in both"):
        _ = one + one
    with pytest.raises(InputError, match="thresholds differ"):
        _ = one + IsbiStatistics.zero([0.5])
    with pytest.raises(InputError, match=r"no sums for the threshold 0\.55"):
        isbi_metrics(one, threshold=0.55)
    for content in ({}, {"thresholds": [0.5], "slices": {"0": [{}]}}, {"thresholds": [0.5], "slices": [1]}):
        with pytest.raises(InputError, match="statistics of slices need"):
            IsbiStatistics.from_dict(content)


@pytest.mark.skipif(not LABELS.is_dir(), reason="the ISBI 2012 slices are not in ../shared/data/em_isbi2012")
def test_real_membranes():
    target = np.stack([imread(LABELS / f"{z:02d}.png") for z in (18, 23)])
    assert set(np.unique(target)) == {0, 255}
    perfect = values(
        isbi_metrics(IsbiStatistics.of_stack((target > 0).astype(float), target, thresholds=[0.5])), "stack"
    )
    assert perfect == {"v_rand": 1, "v_info": 1, "rand_error": 0, "pixel_error": 0, "pixel_f_error": 0}
    blurred = spoilt_map(target > 0, sigma=2, noise=0.2)
    found = values(isbi_metrics(IsbiStatistics.of_stack(blurred, target, thresholds=[0.5, 0.6])), "per_slice")
    assert 0.95 < found["v_rand"] < 1
    assert 0.95 < found["v_info"] < 1
    assert 0.01 < found["rand_error"] < 0.1
    assert 0.03 < found["pixel_error"] < 0.1
