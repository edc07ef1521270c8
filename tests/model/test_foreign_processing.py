"""The steps of bioimage.io: which a checkpoint can say, and that it says the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ModelError
from pipeline.model.foreign.processing import apply, global_normalisation, output_meaning

AXES = ("batch", "channel", "y", "x")
IMAGE = np.random.default_rng(0).normal(100, 20, (1, 2, 8, 8))
CAST = {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}


def step(name, **kwargs):
    return {"id": name, "kwargs": kwargs}


SIGMOID, SOFTMAX = step("sigmoid"), step("softmax", axis="channel")


@pytest.mark.parametrize(
    ("steps", "mean", "std"),
    [
        ([step("fixed_zero_mean_unit_variance", mean=100.0, std=20.0)], (100, 100), (20, 20)),
        (
            [step("fixed_zero_mean_unit_variance", mean=[100.0, 50.0], std=[20.0, 10.0], axis="channel")],
            (100, 50),
            (20, 10),
        ),
        ([step("scale_linear", gain=0.05, offset=-5.0)], (100, 100), (20, 20)),
        ([step("scale_linear", gain=[0.5, 2.0], offset=[0.0, 2.0], axis="channel")], (0, -1), (2, 0.5)),
        (
            [CAST, step("scale_linear", gain=0.5), step("fixed_zero_mean_unit_variance", mean=50, std=10), CAST],
            (100, 100),
            (20, 20),
        ),
    ],
)
def test_global_steps_are_a_mean_and_a_standard_deviation(steps, mean, std):
    found = global_normalisation(steps, 2)
    assert found is not None
    np.testing.assert_allclose(found, (mean, std))
    column = (1, -1, 1, 1)
    ours = (IMAGE - np.reshape(found[0], column)) / np.reshape(found[1], column)
    np.testing.assert_allclose(ours, apply(steps, IMAGE, AXES), rtol=1e-4, atol=1e-5)


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(-10, 10)), min_size=1, max_size=4))
def test_a_chain_of_linear_steps_is_one_normalisation(chain):
    steps = [step("scale_linear", gain=gain, offset=offset) for gain, offset in chain]
    found = global_normalisation(steps, 1)
    assert found is not None
    np.testing.assert_allclose(
        (IMAGE - found[0][0]) / found[1][0], apply(steps, IMAGE, AXES), rtol=1e-6, atol=1e-6
    )


def test_steps_that_only_cast_are_no_normalisation():
    assert global_normalisation([], 1) is None
    assert global_normalisation([step("ensure_dtype", dtype="uint8"), CAST], 1) is None


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([step("zero_mean_unit_variance", axes=["x", "y"])], "every image by itself .*Give mean and std"),
        ([step("scale_range")], "every image by itself"),
        ([step("clip", min=0.0, max=1.0)], "the step clip, which a checkpoint cannot say"),
        ([CAST, step("ensure_dtype", dtype="uint8")], "the step ensure_dtype"),
        ([step("scale_linear", gain=[1.0, 2.0], offset=[0.0, 0.0], axis="x")], "along the axis 'x'"),
        ([step("scale_linear", gain=[1.0, 2.0, 3.0], axis="channel")], "for 3 channels; the input has 2"),
        ([step("scale_linear", gain=-1.0)], "multiplies by -1"),
    ],
)
def test_what_is_no_normalisation_is_refused(steps, said):
    with pytest.raises(ModelError, match=said):
        global_normalisation(steps, 2)


@pytest.mark.parametrize(
    ("steps", "outputs", "said", "expected"),
    [
        ([], 2, None, ("logits", None)),
        ([CAST], 1, "probabilities", ("probabilities", None)),
        ([SIGMOID, CAST], 1, None, ("logits", None)),
        ([SIGMOID], 1, "logits", ("logits", None)),
        ([SOFTMAX], 3, None, ("logits", None)),
        ([{"id": "softmax"}], 3, None, ("logits", None)),
        ([SIGMOID, step("binarize", threshold=0.3)], 1, None, ("logits", 0.3)),
        ([SIGMOID, step("binarize", threshold=[0.3], axis="channel")], 1, None, ("logits", 0.3)),
        ([step("binarize", threshold=0.0)], 1, "logits", ("logits", 0.5)),
        ([step("binarize", threshold=0.3)], 1, "probabilities", ("probabilities", 0.3)),
    ],
)
def test_postprocessing_that_overtile_does_itself(steps, outputs, said, expected):
    assert output_meaning(steps, outputs, said) == expected


@pytest.mark.parametrize(
    ("steps", "outputs", "said", "message"),
    [
        ([SIGMOID], 2, None, r"\(sigmoid, on 2 channels\) is not what Overtile does"),
        ([SOFTMAX], 1, None, r"\(softmax, on 1 channels\)"),
        ([step("softmax", axis="x")], 3, None, r"\(softmax, on 3 channels\)"),
        ([step("scale_range")], 1, None, r"\(scale_range, on 1"),
        ([{"id": "custom", "callable": "split", "source": "a.py"}], 1, None, r"\(custom, on 1"),
        ([step("binarize", threshold=0.5)], 1, None, r"compares .* with 0\.5.*give output_meaning"),
        ([step("binarize", threshold=3.0)], 1, "probabilities", r"\(binarize, on 1"),
        ([SIGMOID, step("binarize", threshold=1.5)], 1, None, r"\(sigmoid, binarize, on 1"),
        ([step("binarize", threshold=[0.5, 0.5], axis="channel")], 2, None, "2 thresholds, one for each channel"),
        ([SIGMOID], 1, "probabilities", "the package applies a sigmoid"),
        ([SOFTMAX], 3, "classes", "the package applies a softmax"),
    ],
)
def test_postprocessing_that_overtile_does_not_do_is_refused(steps, outputs, said, message):
    with pytest.raises(ModelError, match=message):
        output_meaning(steps, outputs, said)


def test_steps_of_an_image_by_itself_follow_their_formulas():
    each = apply([step("zero_mean_unit_variance", axes=["y", "x"])], IMAGE, AXES)
    np.testing.assert_allclose(each.mean((2, 3)), 0, atol=1e-9)
    np.testing.assert_allclose(each.std((2, 3)), 1, atol=1e-6)
    assert abs(apply([step("zero_mean_unit_variance")], IMAGE, AXES).mean()) < 1e-9
    ranged = apply([step("scale_range", min_percentile=5, max_percentile=95)], IMAGE, AXES)
    np.testing.assert_allclose(np.percentile(ranged, [5, 95]), [0, 1], atol=1e-6)
    clipped = apply([step("scale_range"), step("clip", min=0.2, max=0.8)], IMAGE, AXES)
    assert (clipped.min(), clipped.max()) == (0.2, 0.8)


def test_steps_after_the_network_follow_their_formulas():
    logits = IMAGE / 100 - 1
    probabilities = apply([SOFTMAX], logits, AXES)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    np.testing.assert_allclose(apply([{"id": "softmax"}], logits, AXES), probabilities)
    sigmoid = apply([{"id": "sigmoid"}], logits, AXES)
    np.testing.assert_allclose(np.log(sigmoid / (1 - sigmoid)), logits, rtol=1e-9)
    decided = apply([SIGMOID, step("binarize", threshold=0.5), step("ensure_dtype", dtype="uint8")], logits, AXES)
    assert decided.dtype == np.uint8
    np.testing.assert_array_equal(decided, logits > 0)


@pytest.mark.parametrize(
    "unknown",
    [step("stardist_postprocessing"), step("scale_range", reference_tensor="raw"), step("clip", min_percentile=1)],
)  # fmt: skip
def test_an_unknown_step_is_refused_by_its_name(unknown):
    with pytest.raises(ModelError, match=f"step {unknown['id']} .* is not known"):
        apply([unknown], IMAGE, AXES)
