"""The threshold and the temperature of a network, from what it said of what was held out."""

import math

import numpy as np
import pytest
from scipy.special import expit

from pipeline.evaluation.calibration import best_threshold
from pipeline.evaluation.histograms import CalibrationStatistics
from pipeline.evaluation.logits import LogitHistogram
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.training.calibrate import Calibration, best_cut, calibrate, carried
from pipeline.training.validation import Measured, Seen

RANDOM = np.random.default_rng(0)


def measured(logits, target):
    """What one tile of ``(channels, voxels)`` gives."""
    found = Measured(ConfusionStatistics.zero(max(2, len(logits))))
    found.add(Seen(0, logits[:1], target, logits), keep=len(target))
    return found


def honest(count, channels=1):
    """Logits whose probabilities are true, and targets drawn by them."""
    logits = RANDOM.normal(0, 2, (channels, count)).astype(np.float32)
    if channels == 1:
        return logits, (RANDOM.random(count) < expit(logits[0])).astype(np.int64)
    p = np.exp(logits) / np.exp(logits).sum(0)
    return logits, (RANDOM.random(count) > p.cumsum(0)).sum(0).clip(max=channels - 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("heat", [0.5, 1.0, 3.0])
def test_the_temperature_makes_probabilities_honest_again(channels, heat):
    logits, target = honest(40_000, channels)
    found = calibrate(measured(logits * heat, target))
    assert found.temperature == pytest.approx(heat, rel=0.05)
    errors = [found.document[side]["ece"] for side in ("raw", "calibrated")]
    assert errors[1] < 0.02
    if heat != 1:
        assert errors[0] > 2 * errors[1]


def test_the_threshold_cuts_where_the_mean_iou_is_greatest_at_any_temperature():
    logits = np.linspace(-4, 4, 4001, dtype=np.float32)[np.newaxis]
    target = (logits[0] > 1.5).astype(np.int64)
    target[::50] = 1 - target[::50]  # so that some temperature is best
    found = calibrate(measured(logits, target))
    raw = found.document["sweep"]["threshold"]
    assert math.log(raw / (1 - raw)) == pytest.approx(1.5, abs=0.03)
    cut = found.temperature * math.log(found.threshold / (1 - found.threshold))
    assert cut == pytest.approx(math.log(raw / (1 - raw)))
    assert found.temperature != 1


def test_a_foreground_that_is_nearly_everywhere_does_not_decide_alone():
    logits, target = honest(20_000)
    found = measured(logits + 3, np.where(RANDOM.random(20_000) < 0.7, 1, target))
    cut = best_cut(found.sweep)
    tried = {t: iou(found, t) for t in (0.2, 0.5, 0.8, 0.9)}
    assert cut["mean_iou"] >= max(tried.values())
    assert cut["mean_iou_at_half"] == pytest.approx(tried[0.5])
    assert best_threshold(found.sweep)["threshold"] < cut["threshold"]


def iou(found, threshold):
    """The mean IoU of both classes, counted one by one."""
    place = round(threshold * found.sweep.bins)
    (tn, fp), (fn, tp) = [(side[:place].sum(), side[place:].sum()) for side in found.sweep.counts]
    return (tp / (tp + fp + fn) + tn / (tn + fp + fn)) / 2


def test_one_class_alone_has_no_threshold():
    assert best_cut(measured(np.array([[1.0, 2.0]], np.float32), np.array([1, 1])).sweep) is None


def test_a_softmax_has_no_threshold():
    logits, target = honest(1000, 3)
    found = calibrate(measured(logits, target))
    assert (found.threshold, found.document["sweep"]) == (0.5, None)


def test_nothing_held_out_changes_nothing():
    assert calibrate(None) == Calibration(0.5, 1.0, None)
    nothing = measured(np.zeros((1, 4), np.float32), np.full(4, -1))
    assert calibrate(nothing) == Calibration()


def test_a_network_that_is_never_wrong_keeps_its_probabilities():
    logits = np.array([[-3, -2, 2, 3]], np.float32)
    found = calibrate(measured(logits, np.array([0, 0, 1, 1])))
    assert found.temperature == 1
    assert "never wrong" in found.document["fit"]["undefined"]["temperature"]


def test_what_is_not_known_is_not_counted():
    logits, target = honest(500)
    found = measured(np.concatenate([logits, logits], axis=1), np.concatenate([target, np.full(500, -1)]))
    alone = measured(logits, target)
    assert found.total.counts.tolist() == alone.total.counts.tolist()
    assert np.array_equal(found.sweep.counts, alone.sweep.counts)
    assert found.histogram.voxels == 500
    assert len(found.targets[0]) == 500


def test_a_threshold_near_the_end_stays_one():
    assert 0 < carried(1e-3, 0.05) < carried(0.999, 0.05) < 1
    assert carried(0.3, 1.0) == 0.3


def test_statistics_start_at_nothing():
    zero = Measured(ConfusionStatistics.zero(2))
    assert zero.metrics(("a", "b")) is None
    assert isinstance(zero.sweep, CalibrationStatistics)
    assert isinstance(zero.histogram, LogitHistogram)
