"""Variants side by side, on counts that can be worked out by hand."""

import numpy as np
import pytest

from pipeline.evaluation.bootstrap import Resampling
from pipeline.evaluation.variants import Trial, compare_variants, summarise, to_json

HOW = Resampling(resamples=200)
NAMES = ("background", "cell")


def trial(variant, seed, *wrong):
    """Tiles of 20 voxels, half of them cell, so many of either class wrong."""
    counts = [[[10 - n, n], [n, 10 - n]] for n in wrong]
    return Trial(variant, seed, np.array(counts, np.int64), NAMES)


def test_mean_and_spread_over_seeds_are_those_of_accuracies():
    (found,) = summarise([trial("base", 0, 1, 1), trial("base", 1, 3, 3)], ["accuracy"])
    assert found.values == {0: 0.9, 1: 0.7}
    assert found.mean == pytest.approx(0.8)
    assert found.std == pytest.approx(0.2 / 2**0.5)
    (one,) = summarise([trial("base", 0, 1)], ["accuracy"])
    assert (one.mean, one.std) == (0.9, None)


def test_a_variant_that_is_better_on_every_tile_and_seed_is_better():
    trials = [
        trial("base", 0, 2, 4, 6),
        trial("more", 0, 1, 3, 5),
        trial("base", 1, 3, 3, 3),
        trial("more", 1, 2, 2, 2),
    ]
    (found,) = compare_variants(trials, "base", ["accuracy"], HOW)
    assert found.by_seed == {0: pytest.approx(0.1), 1: pytest.approx(0.1)}
    assert found.mean == pytest.approx(0.1)
    assert found.interval == (pytest.approx(0.1), pytest.approx(0.1)), "drawn alike: what is hard for both cancels"
    assert found.verdict == "better"


def test_seeds_that_disagree_are_not_told_apart_whatever_the_interval_says():
    trials = [trial("base", 0, 5, 5), trial("more", 0, 0, 0), trial("base", 1, 1, 1), trial("more", 1, 2, 2)]
    (found,) = compare_variants(trials, "base", ["accuracy"], HOW)
    assert found.interval[0] > 0
    assert found.verdict == "not told apart"


def test_one_tile_has_no_interval_and_what_is_not_defined_has_no_number():
    trials = [trial("base", 0, 2), trial("less", 0, 4)]
    (found,) = compare_variants(trials, "base", ["accuracy"], HOW)
    assert (found.mean, found.interval, found.verdict) == (pytest.approx(-0.2), None, "no interval")
    empty = Trial("less", 0, np.array([[[20, 0], [0, 0]]] * 2), NAMES)
    (found,) = compare_variants([trial("base", 0, 2, 2), empty], "base", ["iou_cell"], HOW)
    assert (found.by_seed, found.mean, found.interval) == ({0: None}, None, None)


def test_a_worse_variant_is_worse_and_all_is_json():
    trials = [trial("base", 7, 1, 2), trial("less", 7, 3, 5)]
    document = to_json(summarise(trials, ["accuracy"]), compare_variants(trials, "base", ["accuracy"], HOW))
    assert [each["variant"] for each in document["variants"]] == ["base", "less"]
    (difference,) = document["differences"]
    assert difference["verdict"] == "worse"
    assert difference["low"] <= difference["mean"] <= difference["high"] < 0
    assert difference["by_seed"] == {"7": pytest.approx(-0.25)}
