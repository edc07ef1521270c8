"""Options of a command from its job model, and what commands say to the terminal."""

from __future__ import annotations

import inspect
import json
import sys
import types
from collections.abc import Callable
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo
from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from pipeline.config import Job, load_job

AnyJob = TypeVar("AnyJob", bound=Job)


def job_command(
    model: type[AnyJob], *, arguments: tuple[str, ...], example: str, as_json: bool = True
) -> Callable[[Callable[[AnyJob, bool], None]], click.Command]:
    """Make a command of a function that takes a job: every field of the model is an option or an argument.

    Args:
        model: the job model.
        arguments: fields that are given by position.
        example: shown at the end of ``--help``.
        as_json: whether there is a ``--json``.
    """

    def decorate(function: Callable[[AnyJob, bool], None]) -> click.Command:
        def callback(config: str | None, json: bool = False, **options: Any) -> None:
            given = {name: None if value == () else value for name, value in options.items()}
            function(load_job(model, given, config), json)

        parameters: list[click.Parameter] = [_argument(name, model.model_fields[name]) for name in arguments]
        fields = ((n, model.model_fields[n]) for n in model.ordered() if n not in arguments)
        parameters += [_option(name, field) for name, field in fields if _is_simple(field)]
        parameters.append(
            click.Option(["--config"], metavar="JOB.yaml", help="job file with any of these as `key: value`")
        )
        if as_json:
            parameters.append(click.Option(["--json"], is_flag=True, help="print one JSON document to stdout"))
        text = f"{inspect.cleandoc(function.__doc__ or '')}\n\n\b\nExample:\n  {example}"
        name = function.__name__.removesuffix("_command").replace("_", "-")
        return click.Command(name, callback=callback, params=parameters, help=text)

    return decorate


def _argument(name: str, field: FieldInfo) -> click.Argument:
    """Return the argument of one field; of a list, as many as there are."""
    several = get_origin(_inner(field)) is tuple
    metavar = f"{name.upper()}..." if several else name.upper()
    return click.Argument([name], required=False, nargs=-1 if several else 1, metavar=metavar)


def _option(name: str, field: FieldInfo) -> click.Option:
    """Return the option of one field; the model itself checks the value."""
    flag = "--" + name.replace("_", "-")
    if _inner(field) is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}"], default=None, help=_help(field))
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "flag" in extra:  # the option alone stands for this value
        return click.Option(
            [flag],
            default=None,
            is_flag=False,
            flag_value=extra["flag"],
            metavar=_metavar(field),
            help=f"{_help(field)}; {flag} alone means {extra['flag']}",
        )
    return click.Option([flag], default=None, metavar=_metavar(field), help=_help(field))


def _help(field: FieldInfo) -> str:
    default = field.default
    shown = default is not None and not field.is_required() and default != ()
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    return (field.description or "") + (
        f" [default: {default}]" if shown and not isinstance(default, bool) else ""
    )


def _metavar(field: FieldInfo) -> str:
    inner = _inner(field)
    if get_origin(inner) is Literal:
        return "|".join(map(str, get_args(inner)))
    if get_origin(inner) is tuple:
        part = get_args(inner)[0]
        return "TEXT,TEXT" if part is str or get_origin(part) is Literal else "N,N"
    return {int: "N", float: "X"}.get(inner, "TEXT")


def _inner(field: FieldInfo) -> Any:
    """Return a field's type without ``None``."""
    annotation: Any = field.annotation
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(a for a in get_args(annotation) if a is not type(None))
    while hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    return annotation


def _is_simple(field: FieldInfo) -> bool:
    """Whether a field fits an option; nested ones (pairs, architecture, maps) are for the job file."""
    inner = _inner(field)
    if get_origin(inner) is tuple:
        part = get_args(inner)[0]
        return not (isinstance(part, type) and issubclass(part, Job))
    return get_origin(inner) in (None, Literal) and not (
        isinstance(inner, type) and hasattr(inner, "model_fields")
    )


def print_json(document: Any) -> None:
    """Print one JSON document, alone on stdout."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


class Console:
    """What a person reads: everything goes to stderr, so that stdout stays for results."""

    def __init__(self) -> None:
        self.rich = RichConsole(stderr=True, highlight=False)

    def error(self, text: str) -> None:
        """Say what went wrong."""
        self.rich.print("error: ", style="bold red", end="")
        self.rich.print(text, markup=False, soft_wrap=True)

    def say(self, text: str, style: str | None = None) -> None:
        """Say one line."""
        self.rich.print(text, style=style, markup=False, soft_wrap=True)


class _Rate(ProgressColumn):
    """Millions of bytes a second, of phases that are counted in bytes."""

    def render(self, task: Task) -> Text:
        """Return the present rate."""
        if task.fields["unit"] != "MiB" or not task.speed:
            return Text("")
        return Text(f"{task.speed * 1.048576:,.0f} MB/s")


class TerminalListener:
    """Shows a job's phases as progress bars on a terminal, and as a line each anywhere else."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._name = self._unit = ""
        self._total = 0
        self._quarters = 0

    def phase(self, name: str, total: int, unit: str) -> None:
        """Begin a bar."""
        self._name, self._total, self._unit, self._quarters = name, total, unit, 0
        if not self._console.rich.is_terminal:
            return
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description:<26}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}{task.fields[failed]}"),
                _Rate(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console.rich,
            )
            self._progress.start()
        self._task = self._progress.add_task(name, total=total, unit=unit, failed="")

    def progress(self, done: int, failed: int = 0) -> None:
        """Move the bar; off a terminal, print a line at each quarter."""
        if self._progress is not None and self._task is not None:
            note = f", {failed} failed" if failed else ""
            self._progress.update(self._task, completed=done, failed=note)
        elif self._total and done * 4 // self._total > self._quarters:
            self._quarters = done * 4 // self._total
            note = f", {failed} failed" if failed else ""
            self._console.say(f"{self._name}: {done} of {self._total} {self._unit}{note}")

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.say(text)

    def close(self) -> None:
        """Leave the bars as they are."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def __enter__(self) -> TerminalListener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
