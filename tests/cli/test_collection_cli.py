"""`overtile collection`: a row a volume, one JSON document, and 3 where a volume failed."""

import json

import pytest

from pipeline.cli.main import run
from pipeline.jobs.roster import NAME


@pytest.fixture
def archive(tmp_path):
    """An archive of two files that are no images."""
    (tmp_path / "scans").mkdir()
    for name in ("a.tif", "b.tif"):
        (tmp_path / "scans" / name).write_text("no image")
    (tmp_path / "model.safetensors").write_text("no model")
    return tmp_path


def command(archive, *options):
    places = [str(archive / "scans"), str(archive / "out")]
    return run(["collection", *places, "--model", str(archive / "model.safetensors"), "--settle", "0", *options])


def test_what_failed_is_listed_and_the_exit_code_says_so(archive, capsys):
    assert command(archive, "--json") == 3
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["counts"] == {"failed": 2}
    assert [row["volume"][-5:] for row in found["volumes"]] == ["a.tif", "b.tif"]
    assert "2 of 2 volumes failed" in said.err
    assert (archive / "out" / NAME).exists()

    assert command(archive) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert "out: 2 failed" in said.err


def test_an_archive_without_volumes_is_no_failure(archive, capsys):
    assert command(archive, "--accept", ".svs") == 0
    assert "no volumes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--naming", "x"], "needs {name} or {path}"), (["--concurrency", "0"], "greater than or equal to 1")],
)
def test_what_makes_no_sense_is_refused(archive, options, message, capsys):
    assert command(archive, *options) == 2
    assert message in capsys.readouterr().err
    assert not (archive / "out").exists()
