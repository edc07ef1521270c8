import numpy as np
import pytest
from evaluations import evaluation
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.bootstrap import Resampling, mean_interval, resampled_metrics
from pipeline.evaluation.pairing import Unmatched, compare, newest, unknown, unmatched

HOW = Resampling(resamples=400, seed=5)
RIGHT = [[[8, 0], [0, 8]]]


def wrong(n, chunks=1):
    """Chunks of 16 voxels of which n of each class are wrong."""
    return [[[8 - n, n], [n, 8 - n]]] * chunks


def accuracy(n):
    return 1 - 2 * n / 16


def test_paired_differences_over_volumes_by_hand():
    old = [evaluation(wrong(n), source=f"a{n}", model="old", target=f"t{n}") for n in (1, 2, 4)]
    new = [
        evaluation(wrong(n - d), source=f"b{n}", model="new", target=f"t{n}") for n, d in ((1, 1), (2, 0), (4, 2))
    ]
    models = {"old": newest(old)["sha256:old"], "new": newest(new)["sha256:new"]}
    (found,) = compare(models, ["accuracy"], HOW)
    differences = [accuracy(n - d) - accuracy(n) for n, d in ((1, 1), (2, 0), (4, 2))]
    assert [pair.difference for pair in found.pairs] == pytest.approx(differences)
    assert found.difference == pytest.approx(np.mean(differences))
    assert found.interval == mean_interval(differences, HOW)
    assert (found.first, found.second, found.over) == ("old", "new", "volumes")
    assert {pair.interval for pair in found.pairs} == {None}, "one chunk each"


def test_one_volume_is_compared_over_its_chunks_drawn_alike():
    counts = [np.array([*wrong(1), *wrong(3), *wrong(4)]), np.array([*wrong(0), *wrong(2), *wrong(3)])]
    one, other = (evaluation(c.tolist(), source=f"e{i}", model=f"m{i}") for i, c in enumerate(counts))
    models = newest([one, other])
    (found,) = compare(models, ["mean_iou"], HOW)
    drawn = [resampled_metrics(c, ("a", "b"), HOW)["mean_iou"] for c in counts]
    assert found.interval == HOW.interval(drawn[1] - drawn[0])
    assert found.pairs[0].interval == found.interval
    assert found.over == "chunks"
    alone = [HOW.interval(values) for values in drawn]
    width = found.interval[1] - found.interval[0]
    assert width < min(high - low for low, high in alone), "what is hard for both does not count"


def test_volumes_that_were_not_cut_alike_have_no_interval():
    one = evaluation(wrong(1, chunks=2), source="a", model="a", grid="one")
    other = evaluation(wrong(2, chunks=2), source="b", model="b", grid="another")
    (found,) = compare(newest([one, other]), ["accuracy"], HOW)
    assert found.difference == pytest.approx(-1 / 8)
    assert (found.interval, found.over) == (None, None)


def test_a_metric_that_one_lacks_is_no_difference():
    one = evaluation([[[4, 0], [0, 0]]], source="a", model="a")
    other = evaluation([[[4, 0], [0, 0]]], source="b", model="b")
    found = {each.metric: each for each in compare(newest([one, other]), ["accuracy", "iou_b", "iou_z"], HOW)}
    assert found["accuracy"].difference == 0
    for name in ("iou_b", "iou_z"):
        assert (found[name].difference, found[name].interval) == (None, None)
        assert len(found[name].pairs) == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"target": "u"}, "the other model was not evaluated on this target"),
        ({"region": "0:1,0:1"}, "evaluated, but with another region"),
        ({"ignore": 9}, "evaluated, but with another ignored value"),
        ({"names": ("a", "z")}, "evaluated, but with other classes"),
        ({"ignored": 5}, "evaluated, but with its target has changed in between: the classes' voxels differ"),
    ],
)
def test_what_has_no_partner_is_named(change, why):
    one = evaluation(RIGHT, source="a", model="a")
    other = evaluation(RIGHT, source="b", model="b", **change)
    models = newest([one, other])
    assert compare(models, ["accuracy"], HOW) == []
    assert unmatched(models) == [Unmatched("a", "sha256:b", why), Unmatched("b", "sha256:a", why)]


def test_a_target_that_was_corrected_in_between_is_another_one():
    one = evaluation(RIGHT, source="a", model="a")
    other = evaluation([[[9, 0], [0, 7]]], source="b", model="b")
    models = newest([one, other])
    assert compare(models, ["accuracy"], HOW) == []
    assert "changed in between" in unmatched(models)[0].why


def test_the_result_that_was_sealed_last_counts_whatever_the_order():
    several = [
        evaluation(wrong(n), source=f"e{n}", sealed=f"2026-05-0{day}T00:00:00+00:00")
        for n, day in ((1, 2), (2, 4), (3, 3))
    ]
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        (found,) = newest([several[i] for i in order])["sha256:m"].values()
        assert found.source == "e2"


def test_what_is_not_known_cannot_be_compared():
    several = [
        evaluation(RIGHT, source="no run", model=None),
        evaluation(RIGHT, source="no target", target=None),
        evaluation(RIGHT, source="fine"),
    ]
    assert list(newest(several)) == ["sha256:m"]
    assert [(each.source, each.against) for each in unknown(several)] == [("no run", None), ("no target", None)]
    assert "no run that tells its model" in unknown(several)[0].why
    assert "evaluate again" in unknown(several)[1].why


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("tu"), st.integers(0, 8)), max_size=8), st.randoms()
)
def test_the_order_of_evaluations_does_not_matter(given_, random):
    several = [
        evaluation(wrong(n, chunks=2), source=f"e{i}", model=model, target=target)
        for i, (model, target, n) in enumerate(given_)
    ]
    shuffled = random.sample(several, len(several))
    one, other = (dict(sorted(newest(each).items())) for each in (several, shuffled))
    how = Resampling(resamples=200)
    assert compare(one, ["accuracy"], how) == compare(other, ["accuracy"], how)
    assert unmatched(one) == unmatched(other)
