"""What the flow of a collection makes of rows, and of runs that did not end well; GPUs and events."""

from contextlib import contextmanager

import pytest

from flows import events, limits
from flows.collection import SHOWN, failure, table_rows, title_of
from flows.events import announce
from flows.limits import gpu_slot
from pipeline.errors import EnvironmentFaultError, FailedChunksError, InputError, OvertileError, RunBusyError
from pipeline.jobs.roster import Row, summary
from pipeline.run.machine import Machine

CANARY = "c4n4ryBird9"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Failed: Flow run encountered an exception: RunBusyError: a.zarr.run: another process", RunBusyError),
        ("Failed: Flow run encountered an exception: FailedChunksError: 2 of 4", FailedChunksError),
        ("Failed: ... PlanError: too large", InputError),
        ("Failed: ... ValueError: odd", OvertileError),
        ("Crashed: Flow run process exited with non-zero status code -9.", OvertileError),
        ("the run has no state", OvertileError),
    ],
)
def test_a_run_elsewhere_fails_as_it_would_have_failed_here(message, kind):
    found = failure(message)
    assert isinstance(found, kind)
    assert str(found) == message


def test_rows_that_need_somebody_come_first_and_there_are_not_too_many():
    rows = [Row(f"{n:04d}.tif", "unchanged") for n in range(SHOWN + 7)]
    rows += [Row("x.tif", "sealed"), Row("y.tif", "failed", error="no"), Row("z.tif", "waiting")]
    found = summary("/out", rows)
    shown = table_rows(found)
    assert [row["state"] for row in shown[:4]] == ["failed", "waiting", "sealed", "unchanged"]
    assert len(shown) == SHOWN
    title = title_of(found)
    assert (
        title
        == "1,010 volumes: 1 failed, 1 sealed, 1,007 unchanged, 1 waiting · /out (the first 1,000 are listed)"
    )
    assert title_of(summary("/out", [])) == "0 volumes: none · /out"


@pytest.mark.parametrize(
    ("device", "gpus", "held"),
    [
        ("cpu", ("0",), []),
        ("cuda", ("0",), [("overtile-gpu", 3)]),
        ("auto", (), []),
        ("auto", ("0",), [("overtile-gpu", 3)]),
    ],
)
def test_only_work_on_gpus_waits_for_them(monkeypatch, device, gpus, held):
    taken = []

    @contextmanager
    def concurrency(name, *, occupy, strict):
        assert not strict, "without the limit nothing waits"
        taken.append((name, occupy))
        yield

    monkeypatch.setattr(limits, "concurrency", concurrency)
    monkeypatch.setattr(limits, "this_machine", lambda: Machine(2, 1 << 30, gpus, "test"))
    with gpu_slot(device, 3):
        assert taken == held


@pytest.mark.parametrize(
    ("found", "error", "name"),
    [
        ({"state": "sealed", "total": 4, "done": 4, "failed": 0, "seams": {"flagged": True}}, None, "sealed"),
        ({"state": "partial", "total": 4, "failed": 1}, FailedChunksError("1 of 4"), "partial"),
        ({"state": "incomplete", "total": 4, "failed": 2}, FailedChunksError("2 of 4"), "failed"),
        ({"state": "sealed", "total": 4}, RunBusyError("another process"), "failed"),
        ({}, EnvironmentFaultError(f"s3://a:{CANARY}@b: no room"), "failed"),
    ],
)
def test_an_event_says_what_became_of_a_run(monkeypatch, tmp_path, found, error, name):
    emitted = []
    monkeypatch.setattr(events, "emit_event", lambda **event: emitted.append(event))
    announce(str(tmp_path / "out.zarr"), found, error)
    announce(f"{tmp_path}/./out.zarr", found, error)
    first, second = emitted
    assert first["event"] == f"overtile.run.{name}"
    assert first["resource"]["overtile.output"] == str(tmp_path / "out.zarr")
    assert first["resource"] == second["resource"], "one result is one resource, however it is named"
    assert first["payload"]["rerun"] == f"overtile rerun {tmp_path}/out.zarr"
    assert first["payload"].get("failed") == found.get("failed")
    assert (first["payload"]["error"] is None) is (error is None)
    assert first["payload"]["seams"] is ("seams" in found)
    assert CANARY not in str(emitted)
