import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.naming import model_names, short_names


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (["/a/x/t.zarr", "/a/y/t.zarr"], ["x/t.zarr", "y/t.zarr"]),
        (["/a/one.zarr", "/b/two.zarr"], ["one.zarr", "two.zarr"]),
        (["/a/x/t", "/b/x/t", "/c/u"], ["a/x/t", "b/x/t", "u"]),
        (["t", "/a/t"], ["t", "a/t"]),
        (["s3://bucket/a/", "s3://bucket/b/"], ["a", "b"]),
        ([], []),
    ],
)
def test_names_are_as_short_as_they_can_be(addresses, expected):
    assert list(map(short_names(addresses).get, addresses)) == expected


@given(st.sets(st.text("ab/", min_size=1, max_size=8).filter(lambda text: not text.endswith("/"))))
def test_names_tell_apart(addresses):
    names = short_names(addresses)
    assert names.keys() == addresses
    assert len(set(names.values())) == len(addresses)
    assert all(address.endswith(name) for address, name in names.items())


def test_models_at_one_path_are_told_apart_by_their_digests():
    names = model_names(
        {"sha256:0123456789": "/m/a.safetensors", "sha256:abcdef0123": "/m/a.safetensors", "x": "/m/b.safetensors"}
    )
    assert names == {"sha256:0123456789": "a (01234567)", "sha256:abcdef0123": "a (abcdef01)", "x": "b"}
