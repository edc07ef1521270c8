"""From a job file and options to a job, and from pydantic's findings to sentences."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from pipeline.config.values import Job
from pipeline.errors import InputError

AnyJob = TypeVar("AnyJob", bound=Job)


def load_job(model: type[AnyJob], options: Mapping[str, Any], file: str | Path | None = None) -> AnyJob:
    """Make a job of a file's content and of options, which win over it.

    Args:
        model: which job.
        options: values by field name; None means not given.
        file: job file (YAML or JSON), or None.

    Raises:
        InputError: the file is not readable, a key is unknown (the nearest known one is named), a value is wrong.
    """
    values = read_document(file) if file is not None else {}
    values |= {key: value for key, value in options.items() if value is not None}
    for key in values:
        if key not in model.model_fields:
            near = difflib.get_close_matches(str(key), model.model_fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(model.model_fields)}"
            raise InputError(f"{file or 'job'}: unknown key {key!r}{hint}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(explain(error)) from error


def explain(error: ValidationError, *, option: str = "--{}") -> str:
    """Return pydantic's findings as one readable sentence a finding.

    Args:
        error: what was found.
        option: how a field is called, for its name.
    """
    found = []
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"] if not str(part).startswith(("function-", "tuple[")))
        name = place.replace("_", "-") if option.startswith("--") else place
        called = option.format(name) if place and "." not in place else place or "job"
        given = "" if item["type"] == "missing" else f" (given: {item['input']!r})"
        message = "is needed" if item["type"] == "missing" else item["msg"].removeprefix("Value error, ")
        found.append(f"{called}: {message}{given}")
    return "; ".join(found)


def read_document(file: str | Path) -> dict[str, Any]:
    """Return the keys and values of a job file.

    Raises:
        InputError: it is not readable, or something else than keys and values.
    """
    try:
        content = yaml.safe_load(Path(file).read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{file}: the job file cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: a job file is a list of `key: value` lines")
    return {str(key).replace("-", "_"): value for key, value in content.items()}
