import gzip
import json

import numpy as np
import pytest
from labels import cells, spoilt

from pipeline.errors import DamageError, InputError
from pipeline.evaluation.boundaries import Outline
from pipeline.evaluation.bundle import FORMAT, pack, unpack
from pipeline.evaluation.contingency import ContingencyTable, Tables
from pipeline.evaluation.keyed import Keyed
from pipeline.evaluation.measures import Areas, Classes, Probabilities
from pipeline.evaluation.object_measures import Boundary, Instances, Isbi
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.evaluation.window import Window
from pipeline.geometry import Box

MEASURES = (
    Classes(3),
    Areas(Classes(3), {1: "left"}),
    Probabilities(3),
    Boundary(Outline((1.0, 1.0), 4.0, 2), (1.0,)),
    Instances((0.5,)),
    Isbi(1),
)


def window(shape=(20, 24)):
    chance = np.random.default_rng(0)
    probabilities = chance.random((3, *shape), np.float32)
    return Window(
        core=Box((2, 0), (18, 24)),
        start=(5, 7),
        prediction=probabilities.argmax(axis=0),
        target=chance.integers(0, 3, shape),
        probabilities=probabilities,
        areas=chance.integers(0, 3, (16, 24)),
        known=chance.random(shape) < 0.9,
        ignored=3,
    )


def test_statistics_of_every_kind_come_back_as_they_were():
    statistics = {each.name: each.of(window()) for each in MEASURES}
    data = pack(statistics, {"target": ("c/0/1",)})
    found, holes = unpack(data, MEASURES, where="here")
    assert {name: each.to_dict() for name, each in found.items()} == {
        n: s.to_dict() for n, s in statistics.items()
    }
    assert holes == {"target": ["c/0/1"]}
    assert pack(found, {"target": ("c/0/1",)}) == data, "equal statistics are equal bytes"
    assert statistics["classes"].ignored == 3


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nothing",
        gzip.compress(b"[]"),
        gzip.compress(b"{}"),
        gzip.compress(json.dumps({"format": "other/1", "classes": {}, "holes": {}}).encode()),
        gzip.compress(json.dumps({"format": FORMAT, "holes": {}}).encode()),
        gzip.compress(json.dumps({"format": FORMAT, "classes": {"counts": [[1]]}, "holes": {}}).encode()),
        gzip.compress(b"x" * 100)[:-12],
    ],
    ids=["empty", "nothing", "a list", "no format", "another format", "no classes", "no square", "cut off"],
)
def test_what_is_no_bundle_is_damage(data):
    with pytest.raises(DamageError, match="here: no statistics of a chunk"):
        unpack(data, MEASURES[:1], where="here")


def test_keyed_statistics_add_by_number():
    one, two = (ConfusionStatistics(np.full((2, 2), n)) for n in (1, 2))
    total = Keyed({3: one, 1: one}) + Keyed({3: two, 2: two}) + Keyed.zero()
    assert total.parts == {1: one, 2: two, 3: one + two}
    assert list(total.parts) == [1, 2, 3]
    assert Keyed.from_dict(total.to_dict(), ConfusionStatistics.from_dict) == total
    for content in ([1], {"a": one.to_dict()}):
        with pytest.raises(InputError, match="need numbers as keys"):
            Keyed.from_dict(content, ConfusionStatistics.from_dict)


def test_tables_that_come_one_by_one_are_their_sum(monkeypatch):
    monkeypatch.setattr("pipeline.evaluation.contingency._LEAST_PAIRS", 20)
    target = cells((40, 50), count=15, seed=0)
    prediction = spoilt(target, seed=1)
    tables = Tables()
    for y in range(0, 40, 3):
        tables.add(ContingencyTable.of(prediction[y : y + 3], target[y : y + 3]))
    assert tables.merged() == ContingencyTable.of(prediction, target)
    assert Tables().merged() == ContingencyTable.zero()
