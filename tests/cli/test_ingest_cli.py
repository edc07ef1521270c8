import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.cli.main import run
from pipeline.cli.options import _Rate


@pytest.fixture
def paths(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(600 * 700, dtype="u2").reshape(600, 700))
    return [str(tmp_path / "a.npy"), str(tmp_path / "a.zarr")]


def test_the_last_line_says_what_was_made_and_how_fast(paths, capsys):
    assert run(["ingest", *paths]) == 0
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.fullmatch(r".*a\.zarr: made of .*a\.npy, 420,000 voxels; 820 KiB read in [\d.]+ s", last), last
    assert run(["ingest", *paths]) == 0
    said = capsys.readouterr().err.strip().splitlines()
    assert said[0].endswith("is complete already: nothing to do")
    assert said[-1].endswith("420,000 voxels; all of them were there already, nothing to do")


def test_json_tells_what_was_done(paths, capsys):
    assert run(["ingest", *paths, "--json", "--no-pyramid", "--threads", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["ingest"]) == {"seconds", "bytes", "mb_per_s", "read_seconds", "write_seconds", "resumed"}
    assert found["ingest"]["bytes"] == 600 * 700 * 2


def test_another_source_is_refused_with_2_and_status_and_rerun_know_an_ingest(paths, tmp_path, capsys):
    assert run(["ingest", *paths]) == 0
    np.save(tmp_path / "b.npy", np.zeros((600, 700), "u2"))
    assert run(["ingest", str(tmp_path / "b.npy"), paths[1]]) == 2
    assert "What differs: source.url" in capsys.readouterr().err
    assert run(["status", paths[1]]) == 0
    text = capsys.readouterr().out
    assert "sealed" in text
    assert "planned" not in text
    assert run(["rerun", paths[1]]) == 0
    assert run(["rerun", paths[1], "--failed"]) == 2
    assert run(["verify", paths[1]]) == 0


@pytest.mark.parametrize(
    ("unit", "speed", "shown"), [("MiB", 100.0, "105 MB/s"), ("MiB", None, ""), ("chunks", 100.0, "")]
)
def test_a_terminal_shows_the_rate_of_what_is_counted_in_bytes(unit, speed, shown):
    assert _Rate().render(SimpleNamespace(fields={"unit": unit}, speed=speed)).plain == shown
