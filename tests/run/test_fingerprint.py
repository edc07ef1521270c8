import copy
import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.run.fingerprint import differences, fingerprint

leaves = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.5, 1.0]) | st.text(max_size=3)
trees = st.recursive(
    leaves, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text("abc", max_size=2), part, max_size=3)
)
parts = st.dictionaries(st.text("abc", min_size=1, max_size=2), trees, min_size=1, max_size=4)


def text(value):
    return json.dumps(value, sort_keys=True)


def reordered(value):
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return value


@given(parts)
def test_it_is_32_digits_whatever_the_order_of_keys_and_after_a_turn_through_json(one):
    digest = fingerprint(one)
    assert len(digest) == 32
    assert int(digest, 16) >= 0
    assert fingerprint(reordered(one)) == digest
    assert fingerprint(json.loads(json.dumps(one))) == digest
    assert differences(one, json.loads(json.dumps(reordered(one)))) == []


@given(parts, parts)
def test_other_parts_have_another_fingerprint_and_something_to_name(one, other):
    assume(text(one) != text(other))
    assert fingerprint(one) != fingerprint(other)
    assert differences(one, other)


@given(parts, st.data())
def test_each_changed_part_is_named(one, data):
    key = data.draw(st.sampled_from(sorted(one)))
    other = copy.deepcopy(one) | {key: data.draw(leaves.filter(lambda leaf: text(leaf) != text(one[key])))}
    assert fingerprint(one) != fingerprint(other)
    assert all(line.split(":")[0].split(".")[0] == key for line in differences(one, other))


@pytest.mark.parametrize(
    ("recorded", "asked", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a: the run has 1, you ask for 2"]),
        ({"a": 1}, {"a": 1.0}, ["a: the run has 1, you ask for 1.0"]),
        ({"a": 1}, {"a": True}, ["a: the run has 1, you ask for true"]),
        ({"a": [1, 2]}, {"a": (1, 2)}, []),
        ({"a": [1, 2]}, {"a": (2, 1)}, ["a: the run has [1, 2], you ask for [2, 1]"]),
        ({"a": {"b": "x", "c": 1}}, {"a": {"b": "y", "c": 1}}, ['a.b: the run has "x", you ask for "y"']),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, ["a.b.c: the run has 1, you ask for 2"]),
        ({"a": {"b": 1}}, {"a": 3}, ['a: the run has {"b": 1}, you ask for 3']),
        ({"a": 1}, {}, ["a: the run has 1, you ask for nothing"]),
        ({}, {"a": None}, ["a: the run has nothing, you ask for null"]),
        (
            {"a": 1, "b": 1},
            {"a": 2, "b": 2},
            ["a: the run has 1, you ask for 2", "b: the run has 1, you ask for 2"],
        ),
    ],
)
def test_differences_are_told_with_both_values(recorded, asked, expected):
    assert differences(recorded, asked) == expected
    assert (fingerprint(recorded) == fingerprint(asked)) == (expected == [])


def test_long_values_are_cut():
    (line,) = differences({"a": "x" * 500}, {"a": "y" * 500})
    assert len(line) < 200
    assert "..." in line


def test_numbers_that_json_has_not_are_refused():
    with pytest.raises(ValueError, match="JSON compliant"):
        fingerprint({"a": float("nan")})
