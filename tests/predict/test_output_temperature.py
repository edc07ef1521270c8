"""A temperature calibrates probabilities, and changes class ids through the threshold alone."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.predict.output import OutputSpec

LOGITS = torch.linspace(-6, 6, 241).reshape(1, 1, 241)


def spec(kind, dtype, *, outputs=1, threshold=0.5, temperature=1.0):
    return OutputSpec(kind, dtype, outputs, threshold, "logits", temperature)


def calibrated(cut, temperature):
    """The threshold of calibrated probabilities that cuts where a raw logit does."""
    return 1 / (1 + math.exp(-cut / temperature))


@given(st.floats(0.2, 5), st.floats(-3, 3))
def test_the_same_cut_gives_the_same_class_ids_at_any_temperature(temperature, cut):
    plain = spec("labels", "uint8", threshold=calibrated(cut, 1.0))
    warm = spec("labels", "uint8", threshold=calibrated(cut, temperature), temperature=temperature)
    clear = (LOGITS - cut).abs() > 1e-4  # a voxel on the cut itself may fall to either side
    assert torch.equal(plain.finish(LOGITS)[clear], warm.finish(LOGITS)[clear])
    means = [(each.scores(LOGITS) + each.scores(LOGITS.flip(-1) + 1)) / 2 for each in (plain, warm)]
    assert torch.equal(*means)
    far = (means[0] - calibrated(cut, 1.0)).abs() > 1e-4
    assert torch.equal(plain.finish_scores(means[0])[far], warm.finish_scores(means[1])[far])


def test_classes_of_a_softmax_do_not_feel_a_temperature():
    logits = torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(0))
    plain, warm = (spec("labels", "uint8", outputs=4, temperature=t) for t in (1.0, 3.0))
    assert torch.equal(plain.finish(logits), warm.finish(logits))
    assert torch.equal(plain.scores(logits), warm.scores(logits))


@pytest.mark.parametrize(("outputs", "function"), [(1, torch.sigmoid), (3, lambda x: x.softmax(1))])
def test_probabilities_are_those_of_the_logits_over_the_temperature(outputs, function):
    logits = torch.randn(2, outputs, 9, generator=torch.Generator().manual_seed(0))
    warm = spec("probabilities", "float32", outputs=outputs, temperature=2.5)
    torch.testing.assert_close(warm.finish(logits), function(logits / 2.5))


def test_stored_probabilities_above_the_threshold_are_the_stored_class_ids():
    labels = spec("labels", "uint8", threshold=0.3, temperature=2.0).finish(LOGITS)
    probabilities = spec("probabilities", "float32", threshold=0.3, temperature=2.0)
    found = probabilities.class_of(probabilities.finish(LOGITS)[0].numpy())
    clear = (LOGITS[0, 0] - 2 * math.log(0.3 / 0.7)).abs() > 1e-4
    assert (found[clear.numpy()] == labels[0, 0].bool().numpy()[clear.numpy()]).all()


def test_raw_output_stays_raw():
    assert torch.equal(spec("logits", "float32", temperature=2.0).finish(LOGITS), LOGITS)
