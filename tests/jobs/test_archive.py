"""What belongs to an archive, what it is called, and by what one sees that it has changed."""

import os

import pytest

from pipeline.config import CollectionJob
from pipeline.errors import InputError
from pipeline.jobs.archive import find_members, identity_of, is_settled, name_of, would_take

FILES = (
    "a.tif",
    "b.SVS",
    "notes.txt",
    ".hidden.tif",
    "deep/c.ome.tif",
    "deep/d.zarr/zarr.json",
    "deep/d.zarr/0/c/0/0",
    "deep/d.zarr.run/mask.zarr/zarr.json",
    "deep/d.zarr.run/thumb.png",
    "deep/.cache/e.tif",
)


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "scans"


def members(source, **settings):
    given = {"input": str(source), "output": "/out", "model": "m"} | settings
    return find_members(CollectionJob.model_validate(given))


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("", ["a.tif", "b.SVS", "deep/c.ome.tif", "deep/d.zarr"]),
        ("*.tif", ["a.tif"]),
        ("**/*.tif", ["a.tif", "deep/c.ome.tif"]),
        ("*/d.*", ["deep/d.zarr"]),
        ("**", ["a.tif", "b.SVS", "deep/c.ome.tif", "deep/d.zarr"]),
        ("[x-z]*", []),
    ],
)
def test_volumes_are_found_and_nothing_inside_of_them_or_of_runs(folder, pattern, paths):
    found = members(folder / pattern)
    assert [member.path for member in found] == paths
    assert [member.url for member in found] == [str(folder / path) for path in paths]
    assert all(member.identity and member.error is None for member in found)


def test_only_what_is_accepted_is_found(folder):
    assert [member.path for member in members(folder, accept=".svs")] == ["b.SVS"]


def test_a_volume_has_one_identity_however_it_is_found(folder):
    for member in members(folder):
        assert identity_of(member.url) == member.identity
    assert {m.path: m.identity for m in members(folder)} == {m.path: m.identity for m in members(folder / "**")}


@pytest.mark.parametrize("change", ["rewrite", "add", "remove"])
def test_an_identity_changes_with_every_object(folder, change):
    zarr = folder / "deep" / "d.zarr"
    before = identity_of(str(zarr))
    inner = zarr / "0" / "c" / "0" / "0"
    if change == "rewrite":
        os.utime(inner, ns=(1, 1))
    elif change == "add":
        (inner.parent / "1").write_text("more")
    else:
        inner.unlink()
    assert identity_of(str(zarr)) != before


def test_a_dataset_has_the_identity_of_its_file(folder):
    assert identity_of(f"{folder}/a.tif::/group/volume") == identity_of(f"{folder}/a.tif")


@pytest.mark.parametrize("name", ["nothing.tif", "nothing.zarr"])
def test_what_is_not_there_has_no_identity(folder, name):
    with pytest.raises(FileNotFoundError):
        identity_of(str(folder / name))
    (folder / "empty.zarr").mkdir()
    with pytest.raises(FileNotFoundError, match="empty"):
        identity_of(str(folder / "empty.zarr"))


def test_a_volume_is_settled_when_the_newest_of_its_files_is(folder):
    (zarr,) = members(folder / "deep" / "d.*")
    assert not is_settled(zarr, 3600)
    assert is_settled(zarr, 0)
    for path in [folder / "deep" / "d.zarr", *(folder / "deep" / "d.zarr").rglob("*")]:
        os.utime(path, (1e9, 1e9))
    assert is_settled(zarr, 3600)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.tif", "a"),
        ("deep/c.ome.tif", "c"),
        ("B.OME.ZARR/", "B"),
        ("f.h5::/group/volume", "f.h5"),
        (".tif", ".tif"),
        ("plain", "plain"),
    ],
)
def test_names_lose_their_whole_ending(path, name):
    assert name_of(path, (".tif", ".ome.tif", ".zarr", ".ome.zarr")) == name


@pytest.mark.parametrize(
    ("source", "place", "taken"),
    [
        ("/d/scans", "/d/scans/out/x.zarr", True),
        ("/d/scans", "/d/scans-out/x.zarr", False),
        ("/d/*", "/d/x.zarr", True),
        ("/d/*.svs", "/d/x.zarr", False),
        ("/d/**/*.zarr", "/d/a/b/x.zarr", True),
        ("s3://b/scans", "s3://b/scans/x.zarr", True),
        ("s3://b/**", "s3://b/x.zarr", True),
        ("/d/list.csv", "/d/x.zarr", False),
    ],
)
def test_results_are_not_to_be_taken_for_volumes(source, place, taken):
    job = CollectionJob(input=source, output="/out", model="m")
    assert would_take(job, place) is taken


def test_a_manifest_says_what_is_different(folder):
    (folder / "list.csv").write_text("path,level,_who\na.tif,2,me\ndeep/d.zarr,,\nnothing.tif,1,\n")
    tif, zarr, nothing = members(folder / "list.csv")
    assert (tif.url, dict(tif.settings)) == (str(folder / "a.tif"), {"level": "2"})
    assert (zarr.path, dict(zarr.settings)) == ("deep/d.zarr", {})
    assert nothing.identity is None
    assert "nothing.tif" in nothing.error


@pytest.mark.parametrize("name", ["nowhere", "deep/d.zarr"])
def test_a_source_that_is_none_is_refused(folder, name):
    with pytest.raises(InputError, match=r"there is no such folder|is one volume"):
        members(folder / name)


def test_a_pattern_in_a_store_needs_a_prefix():
    with pytest.raises(InputError, match="needs a prefix"):
        members("s3://bucket/*.zarr")
