import shlex
from contextlib import closing

import numpy as np
import pytest
from click.testing import CliRunner
from runs import make_run

from pipeline.cli.segment import plan_command
from pipeline.reporting import card, facts
from pipeline.reporting.recorded import read_run
from pipeline.reporting.words import NO_BREAK
from pipeline.run.folder import RunFolder
from pipeline.run.ledger import Ledger
from pipeline.run.records import Done, Record


@pytest.fixture
def run(tmp_path):
    return read_run(make_run(tmp_path, np.zeros((64, 128), "u1"), retries=5, pyramid=False, holes="background"))


@pytest.mark.parametrize(
    ("seconds", "beginning"),
    [
        ({"read": 0, "wait": 0, "compute": 0, "write": 0}, "No chunk has been computed"),
        ({"read": 1, "wait": 9, "compute": 8, "write": 1}, "The network set the pace: it took 80 % of the work"),
        ({"read": 6, "wait": 3, "compute": 3, "write": 1}, "The network set the pace: it took 30 % of the work"),
        ({"read": 6, "wait": 0, "compute": 3, "write": 1}, "Reading set the pace: it took 60 % of the work"),
        ({"read": 1, "wait": 0, "compute": 3, "write": 6}, "Writing set the pace: it took 60 % of the work"),
    ],
)
def test_what_the_time_means(run, monkeypatch, seconds, beginning):
    monkeypatch.setattr(Ledger, "seconds", seconds)
    assert facts.time_sentence(run).replace(NO_BREAK, " ").startswith(beginning)
    assert len(facts.time_bars(run)) == (4 if any(seconds.values()) else 0)


def test_bars_are_shares_of_the_longest(run, monkeypatch):
    monkeypatch.setattr(Ledger, "seconds", {"read": 1.0, "wait": 4.0, "compute": 8.0, "write": 1.0})
    bars = {bar.name: (bar.share, bar.note.replace(NO_BREAK, " "), bar.idle) for bar in facts.time_bars(run)}
    assert bars["Network"] == (1, "80 % of the work", False)
    assert bars["Waiting"] == (0.5, "for the network to be free", True)
    assert bars["Reading"][:2] == (0.125, "10 % of the work")


def test_plan_against_outcome(run):
    rows = {row.name: row for row in facts.outcomes(run)}
    assert (rows["Chunks"].planned, rows["Chunks"].found) == ("2", "2 done")
    peak = rows["Peak memory of a worker"]
    assert peak.found == f"300{NO_BREAK}MiB"
    assert peak.note.startswith(f"{300 * 2**20 / run.plan['memory']['peak']:.0%}".replace("%", f"{NO_BREAK}%"))
    assert rows["Time in the network"].found == f"0.8{NO_BREAK}s"
    assert rows["From start to seal"].found == f"1{NO_BREAK}min 05{NO_BREAK}s"
    assert facts.speed(run) == f"{64 * 128 / 0.8:,.0f}"


def test_skipped_chunks_are_told(tmp_path):
    run = read_run(make_run(tmp_path, np.zeros((64, 128), "u1"), states={1: "skipped"}))
    told = facts.state_text(run)[1]
    assert told.startswith("All 2 chunks are accounted for, 1 of them skipped (no reason given: 50\u00a0%)")


def test_the_command_line_makes_the_same_run(run):
    words = shlex.split(card.command(run).replace("\\\n", ""))
    assert words[:2] == ["overtile", "segment"]
    options = ["--chunk", "64,64", "--workers", "1", "--retries", "5", "--no-pyramid", "--holes", "background"]
    assert words[4:] == ["--model", run.settings["model"], *options]
    result = CliRunner().invoke(plan_command, [*words[2:], "--json"], catch_exceptions=False)
    assert run.document["fingerprint"] in result.output


def test_settings_tell_which_are_defaults(run):
    shown = {name: (value, default) for name, value, default in card.settings_facts(run)}
    assert shown["retries"] == ("5", False)
    assert shown["pyramid"] == ("no", False)
    assert shown["level"] == ("0", True)
    assert shown["region"] == ("–", True)
    assert shown["input"][1] is False


def test_the_model_is_told(run):
    rows, amiss = card.model_facts(run)
    found = dict(rows)
    assert amiss is None
    assert found["Network"] == (
        "2-D U-Net, 2 levels, 2 channels at the first level, 1 in and 2 out, same padding, concatenating skips"
    )
    assert found["Tiling"].startswith("exact")
    assert found["Digest"].startswith("sha256:")
    assert found["Normalisation"] == "(voxel − mean) / std: 100 / 50"


def test_a_blended_result_says_so_and_by_how_much_its_tiles_disagree(tmp_path):
    settings = {"mode": "blend", "tile": (32, 32), "overlap": (16, 16), "tta": "flips"}
    output = make_run(tmp_path, np.zeros((64, 128), "u1"), pyramid=False, **settings)
    found = read_run(output)
    assert "disagreement was not measured" in facts.tiling_sentence(found)
    told = {"overlapped": 200, "spread": 10.0, "largest_spread": 0.5, "changed": 3}
    with closing(Ledger(RunFolder(output).journal, found.ledger.total, epoch=2)) as ledger:
        ledger.append([Record(0, "done", 2, Done(statistics=told))])
    found = read_run(output)
    said = facts.tiling_sentence(found).replace(NO_BREAK, " ")
    assert "blended from overlapping tiles, and not exact" in said
    assert "(200 voxels), their scores differ by 0.05 in the mean and 0.5 at most" in said
    assert "another class in 1.5 % of the voxels" in said
    rows = dict(card.model_facts(found)[0])
    assert rows["Tiling"] == "not exact: tiles overlap by 16 and 16 voxels and are blended (gaussian weights)"
    assert rows["Turns"] == "mean over all flips"
    assert "--mode blend" in card.command(found)


def test_a_network_of_somebody_else_is_named_by_its_constructor():
    network = {"kind": "constructor", "dims": 2, "constructor": "monai.networks.nets:UNet", "in_channels": 1,
               "arguments": {"spatial_dims": 2}, "classes": 3}  # fmt: skip
    assert card._network(network) == "2-D monai.networks.nets:UNet(spatial_dims=2), 1 in and 3 out"
