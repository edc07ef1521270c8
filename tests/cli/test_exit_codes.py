"""Every error becomes an exit code and one sentence; only a fault of ours shows its traceback."""

import errno

import click
import pytest

import pipeline
from pipeline.cli.main import run
from pipeline.errors import (
    ChunkError,
    DamageError,
    EnvironmentFaultError,
    FailedChunksError,
    FailedVolumesError,
    InputError,
    MetricDroppedError,
    ModelError,
    OvertileError,
    PlanError,
    RunBusyError,
    RunMismatchError,
    VolumeError,
)


@pytest.fixture
def failing(monkeypatch):
    """Make a command fail with a given error."""

    def fail_with(error):
        def status(output):
            raise error

        monkeypatch.setattr(pipeline, "status", status, raising=False)

    return fail_with


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OvertileError("what was wrong"), 1),
        (InputError("what was wrong"), 2),
        (VolumeError("what was wrong"), 2),
        (ModelError("what was wrong"), 2),
        (PlanError("what was wrong"), 2),
        (RunMismatchError("what was wrong"), 2),
        (ChunkError("what was wrong"), 1),
        (RunBusyError("what was wrong"), 2),
        (FailedChunksError("what was wrong"), 3),
        (FailedVolumesError("what was wrong"), 3),
        (MetricDroppedError("what was wrong"), 3),
        (DamageError("what was wrong"), 4),
        (EnvironmentFaultError("what was wrong"), 1),
        (click.UsageError("what was wrong"), 2),
        (OSError(errno.ENOSPC, "what was wrong"), 1),
        (PermissionError(errno.EACCES, "what was wrong"), 1),
    ],
)
def test_what_is_foreseen_is_one_sentence(failing, capsys, error, code):
    failing(error)
    assert run(["status", "out.zarr"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "what was wrong" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "error", [RuntimeError("what was wrong"), FileNotFoundError(errno.ENOENT, "what was wrong")]
)
def test_what_is_not_foreseen_is_a_fault_of_ours(failing, capsys, error):
    failing(error)
    assert run(["status", "out.zarr"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "please report it" in " ".join(err.split())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_is_130(failing, capsys, error):
    failing(error)
    assert run(["status", "out.zarr"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "Exit codes"),
        (["segment", "-h"], 0, "Example:"),
        (["--version"], 0, "overtile, version"),
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["status"], 2, "Missing argument 'OUTPUT'"),
        (["status", "out.zarr", "--loud"], 2, "No such option '--loud'"),
        (["rerun", "out.zarr", "--failed", "--chunks", "0/0"], 2, "exclude each other"),
    ],
)
def test_usage(capsys, arguments, code, said):
    assert run(arguments) == code
    out, err = capsys.readouterr()
    assert said in (out if code == 0 else err)
    assert (err if code == 0 else out) == ""


@pytest.mark.parametrize(
    "command", ["", "ingest", "info", "segment", "status", "rerun", "verify", "report", "model check"]
)
def test_help_is_laid_out_and_has_no_marks_left(command, capsys):
    assert run([*command.split(), "--help"]) == 0
    said = capsys.readouterr().out
    assert "\\b" not in said
    assert "\b" not in said
    assert "Example:\n" in said or command == ""
