"""``overtile``: finds its commands among the installed entry points, and turns every error into an exit code."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import signal
import sys
import traceback
from types import FrameType

import click

from pipeline.cli.options import Console
from pipeline.errors import ENVIRONMENT, EnvironmentFaultError, InputError, OvertileError

GROUP = "overtile.commands"

ORDER = (
    "demo",
    "ingest",
    "info",
    "plan",
    "segment",
    "collection",
    "status",
    "rerun",
    "verify",
    "evaluate",
    "aggregate",
    "export",
    "report",
    "train",
    "compare",
    "model",
    "certs",
    "doctor",
)
"""The order in which ``--help`` lists commands: that in which work is done."""

INTERRUPTED, UNEXPECTED = 130, 1


class Commands(click.Group):
    """A group whose commands are entry points, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names in the order in which work is done."""
        names = {entry.name for entry in importlib.metadata.entry_points(group=GROUP)}
        return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import one command."""
        for entry in importlib.metadata.entry_points(group=GROUP, name=name):
            command = entry.load()
            assert isinstance(command, click.Command)
            _keep_lines(command)
            return command
        return None


def _keep_lines(command: click.Command) -> None:
    """Turn the mark that docstrings write as two characters into the one that keeps click from folding a paragraph."""
    command.help = (command.help or "").replace("\\b", "\b")
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        _keep_lines(each)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="overtile", prog_name="overtile")
def overtile() -> None:
    r"""Segment images that fit in no memory: exactly, resumably, from Zarr to Zarr.

    \b
    Exit codes: 0 complete, 1 unexpected error, 2 refused (nothing was written), 3 some chunks failed,
    4 verification found damage, 130 interrupted (run again to resume).
    """


_keep_lines(overtile)


def main() -> None:
    """Run the command line and leave with its exit code."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell's background processes begin without it
        signal.signal(stop, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else started by nohup
        signal.signal(signal.SIGHUP, _interrupt)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.getLogger("overtile").addHandler(handler)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; errors go to stderr as one sentence."""
    try:
        overtile.main(args=arguments, prog_name="overtile", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        error.show()
        return InputError.exit_code
    except OvertileError as error:
        Console().error(str(error))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        Console().error("interrupted: what is finished is kept; run the same command again to go on")
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, OSError) and error.errno in ENVIRONMENT:
            Console().error(f"stopped: {error}. What is done is kept; mend that and run the same command again")
            return EnvironmentFaultError.exit_code
        traceback.print_exc()
        Console().error(
            f"unexpected {type(error).__name__}: {error}. This is a fault in Overtile: please report it"
        )
        return UNEXPECTED
    return 0


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Stop in good order; at the second word leave at once: what is in the ledger is safe, and workers follow."""
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, lambda *_: os._exit(INTERRUPTED))
    raise KeyboardInterrupt
