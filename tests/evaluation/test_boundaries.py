import json
import warnings

import numpy as np
import pytest
import torch
from cuts import boxes, five_chunkings, sides_of
from hypothesis import given
from hypothesis import strategies as st
from labels import cells, label_pairs, spoilt
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import binary_dilation, binary_erosion
from skimage.metrics import hausdorff_distance

from pipeline.errors import ChunkError, InputError
from pipeline.evaluation.boundaries import ABSENT, REASONS, Outline, OutlineStatistics, boundary_metrics
from pipeline.geometry import Box

CASES = [((60, 70), (0.5, 0.7)), ((14, 20, 24), (2.0, 0.5, 0.7))]


def whole_of(prediction, target, outline, **options):
    core = Box.of_shape(target.shape)
    return OutlineStatistics.of(prediction, target, positive=1, outline=outline, core=core, **options)


def chunked(prediction, target, outline, sides, **options):
    """Each chunk from its window alone, as a worker reads it."""
    shape = Box.of_shape(target.shape)
    total = OutlineStatistics.zero(outline)
    for core in boxes(target.shape, sides):
        window = core.grow(outline.halo, outline.halo).intersect(shape)
        total += OutlineStatistics.of(
            prediction[window.slices].copy(),
            target[window.slices].copy(),
            positive=1,
            outline=outline,
            core=core.relative_to(window.start),
            **options,
        )
    return total


def blobs(shape):
    target = cells(shape, count=9, seed=1)
    return (spoilt(target, seed=2, share=0.01) % 3 == 0).astype(np.uint8), (target % 3 == 0).astype(np.uint8)


def monai(prediction, target, spacing, tolerances):
    tensors = [torch.from_numpy(a == 1)[None, None].float() for a in (prediction, target)]
    options = {"include_background": True, "spacing": list(spacing)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distance = float(compute_hausdorff_distance(*tensors, percentile=95, **options))
        dice = [float(compute_surface_dice(*tensors, class_thresholds=[t], **options)) for t in tolerances]
    return distance, dice


def boundary_iou(prediction, target, width):
    """The program of the paper: masks minus themselves eroded, with nothing outside."""
    square = np.ones((3,) * target.ndim, bool)
    bands = [m & ~binary_erosion(m, square, iterations=width) for m in (prediction == 1, target == 1)]
    either = (bands[0] | bands[1]).sum()
    return (bands[0] & bands[1]).sum() / either if either else None


def test_by_hand():
    """A square of 4 against itself moved by one: 12 edge voxels each."""
    target, prediction = np.zeros((8, 8), int), np.zeros((8, 8), int)
    target[2:6, 2:6] = 1
    prediction[2:6, 3:7] = 1
    outline = Outline(spacing=(1.0, 1.0), bound=4.0, width=1)
    total = whole_of(prediction, target, outline)
    assert (total.target.total, total.prediction.total) == (12, 12)
    found = boundary_metrics(total, tolerances=[0, 1])
    assert total.target.within(0) == 6  # three of the upper row, three of the lower
    assert found["surface_dice"] == [{"tolerance": 0, "value": 0.5}, {"tolerance": 1, "value": 1}]
    assert found["hausdorff"] == 1
    assert found["boundary_iou"] == pytest.approx(6 / 18)
    assert (found["percentile"], found["undefined"]) == (95, {})


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_five_chunkings_against_monai(shape, spacing):
    prediction, target = blobs(shape)
    outline = Outline(spacing=spacing, bound=9.0, width=2)
    tolerances = (0, 0.5, 1.0, 1.5)
    distance, dice = monai(prediction, target, spacing, tolerances)
    whole = whole_of(prediction, target, outline)
    for sides in five_chunkings(shape):
        total = chunked(prediction, target, outline, sides)
        assert total == whole
        found = boundary_metrics(total, tolerances=tolerances)
        assert found["hausdorff"] == pytest.approx(distance, abs=1e-6)  # theirs: float32
        assert [each["value"] for each in found["surface_dice"]] == pytest.approx(dice, abs=1e-7)  # the same
        assert found["boundary_iou"] == pytest.approx(boundary_iou(prediction, target, 2), abs=1e-9)
    assert 0.5 < distance < 9
    assert 0 < dice[0] < dice[1] <= dice[3] < 1


@given(label_pairs(most=2), st.integers(1, 3), st.sampled_from([0.5, 1.0, 1.5, 2.3, 4.0]), st.data())
def test_chunks_equal_the_whole(pair, width, bound, data):
    prediction, target = pair
    spacing = data.draw(st.tuples(*[st.sampled_from([0.3, 0.5, 1.0, 1.7])] * target.ndim))
    outline = Outline(spacing=spacing, bound=bound, width=width)
    ignore = data.draw(st.none() | st.just(2))
    total = chunked(prediction, target, outline, data.draw(sides_of(target.shape)), ignore=ignore)
    assert total == whole_of(prediction, target, outline, ignore=ignore)
    assert OutlineStatistics.from_dict(json.loads(json.dumps(total.to_dict()))) == total


@given(label_pairs(most=2), st.integers(1, 3), st.data())
def test_they_are_the_definitions(pair, width, data):
    prediction, target = pair
    spacing = data.draw(st.tuples(*[st.sampled_from([0.3, 0.5, 1.0, 1.7])] * target.ndim))
    far = Outline(spacing=spacing, bound=30.0, width=width)
    found = boundary_metrics(whole_of(prediction, target, far), tolerances=[1.0])
    expected = boundary_iou(prediction, target, width)
    assert found["boundary_iou"] == (None if expected is None else pytest.approx(expected, abs=1e-9))
    p, t = (np.argwhere(m & ~binary_erosion(m)) for m in (prediction == 1, target == 1))
    if len(p) and len(t):
        distances = np.sqrt(((spacing * (p[:, None] - t[None])) ** 2).sum(-1))
        to_target, to_prediction = distances.min(axis=1), distances.min(axis=0)
        both = max(np.percentile(to_target, 95), np.percentile(to_prediction, 95))
        near = (to_target <= 1 + 1e-12).sum() + (to_prediction <= 1 + 1e-12).sum()
        assert found["hausdorff"] == pytest.approx(both, abs=1e-9)
        assert found["surface_dice"][0]["value"] == pytest.approx(near / (len(p) + len(t)), abs=1e-9)


def test_the_greatest_distance_is_that_of_scikit_image():
    prediction, target = blobs((40, 50))
    outline = Outline(spacing=(1.0, 1.0), bound=60.0, width=1)
    found = boundary_metrics(whole_of(prediction, target, outline), tolerances=[], percentile=100)
    edges = [m & ~binary_erosion(m) for m in (prediction == 1, target == 1)]
    assert found["hausdorff"] == pytest.approx(hausdorff_distance(*edges), abs=1e-9)


def test_half_a_halo_would_be_too_little():
    """The law is no accident: with a narrower window, a core's statistics differ from the whole's."""
    prediction, target = blobs((60, 70))
    outline = Outline(spacing=(1.0, 1.0), bound=6.0, width=6)
    short = Outline(spacing=(1.0, 1.0), bound=3.0, width=3)
    assert outline.halo == (7, 7)
    core, shape = Box((20, 20), (40, 40)), Box.of_shape((60, 70))
    results = []
    for halo in (outline.halo, short.halo):
        window = core.grow(halo, halo).intersect(shape)
        arrays = prediction[window.slices], target[window.slices]
        local = core.relative_to(window.start)
        results.append(OutlineStatistics.of(*arrays, positive=1, outline=outline, core=local))
    wide = OutlineStatistics.of(prediction, target, positive=1, outline=outline, core=core)
    assert results[0] == wide
    assert results[1] != wide


@pytest.mark.parametrize(
    ("spacing", "bound", "width", "halo"),
    [
        ((1.0, 1.0), 3.0, 1, (4, 4)),
        ((2.0, 0.5), 3.0, 1, (2, 7)),
        ((1.0,), 0.5, 5, (5,)),
        ((0.1, 0.1), 0.3, 1, (4, 4)),
    ],
)
def test_halos(spacing, bound, width, halo):
    assert Outline(spacing=spacing, bound=bound, width=width).halo == halo


def test_ignored_voxels_make_no_outline():
    """A mask that goes on into an ignored part: only its known end counts."""
    target = np.zeros((9, 12), int)
    target[2:7, :6] = 1
    target[:, 4:8] = 9
    outline = Outline(spacing=(1.0, 1.0), bound=5.0, width=1)
    total = whole_of(np.where(target == 9, 0, target), target, outline, ignore=9)
    assert total.ignored == 36
    assert total.target.total == 4 + 4 + 3  # above, below, and the volume's end; nothing beside the ignored part
    found = boundary_metrics(total, tolerances=[0])
    assert (found["boundary_iou"], found["surface_dice"][0]["value"], found["hausdorff"]) == (1, 1, 0)


def test_classes_that_are_absent():
    some, none = np.eye(5, dtype=int), np.zeros((5, 5), int)
    outline = Outline(spacing=(1.0, 1.0), bound=2.0, width=1)
    nothing = boundary_metrics(whole_of(none, none, outline), tolerances=[1])
    assert nothing["undefined"] == {**REASONS, "hausdorff": ABSENT}
    assert nothing["surface_dice"] == [{"tolerance": 1, "value": None}]
    for pair, side in (((none, some), "prediction"), ((some, none), "target")):
        found = boundary_metrics(whole_of(*pair, outline), tolerances=[1])
        assert (found["boundary_iou"], found["surface_dice"][0]["value"]) == (0, 0)
        assert found["undefined"] == {"hausdorff": f"the {side} does not hold the class: it is nowhere near"}


def test_distances_beyond_the_bound_are_said_to_be():
    target, prediction = np.zeros((3, 20), int), np.zeros((3, 20), int)
    target[1, 1] = prediction[1, 15] = 1
    outline = Outline(spacing=(1.0, 1.0), bound=5.0, width=1)
    found = boundary_metrics(whole_of(prediction, target, outline), tolerances=[5])
    assert found["surface_dice"][0]["value"] == 0
    assert found["undefined"] == {"hausdorff": "it is beyond the bound of 5: measure again with a greater one"}
    grown = binary_dilation(prediction, iterations=9).astype(int)
    assert boundary_metrics(whole_of(grown, grown, outline), tolerances=[5], percentile=100)["hausdorff"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spacing": (1.0, 0.0)}, "spacing"),
        ({"spacing": ()}, "spacing"),
        ({"spacing": (1.0, float("inf"))}, "spacing"),
        ({"bound": 0.0}, "bound"),
        ({"bound": float("nan")}, "bound"),
        ({"width": 0}, "width"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Outline(**{"spacing": (1.0, 1.0), "bound": 1.0, "width": 1, **settings})


def test_what_does_not_fit_is_refused():
    outline = Outline(spacing=(1.0, 1.0), bound=2.0, width=1)
    zero, core = OutlineStatistics.zero(outline), Box.of_shape((3, 3))
    for shape, other in (((3, 3), (3, 4)), ((3,), (3,))):
        with pytest.raises(ChunkError, match="must fit each other"):
            OutlineStatistics.of(np.zeros(shape), np.zeros(other), positive=1, outline=outline, core=core)
    with pytest.raises(ChunkError, match="not inside of the window"):
        OutlineStatistics.of(np.zeros((2, 3)), np.zeros((2, 3)), positive=1, outline=outline, core=core)
    with pytest.raises(InputError, match=r"the tolerance 3 is not from 0 to 2\.0"):
        boundary_metrics(zero, tolerances=[3])
    with pytest.raises(InputError, match="the percentile is 0"):
        boundary_metrics(zero, tolerances=[], percentile=0)
    with pytest.raises(InputError, match="statistics of outlines need"):
        OutlineStatistics.from_dict({})
