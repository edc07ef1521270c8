"""Secrets never leave a flow: what logs, artifacts, events and failures say is cleaned of them first.

Hidden are the values of environment variables whose names say that they are secret, and whatever looks like a secret
wherever it comes from: credentials in addresses, signatures in queries, keys of AWS, bearer tokens, private keys, and
``password=...``. What a flow is *given* is not hidden afterwards: the server refuses parameters with credentials in an
address (:class:`pipeline.config.Job`), and jobs have no field for a secret.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import re
import traceback
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote

from pipeline.errors import OvertileError

Given = ParamSpec("Given")
Found = TypeVar("Found")

HIDDEN = "***"

SHORTEST = 6
"""Values of variables shorter than this are no secrets: ``true``, ``none``."""

_NAMES = re.compile(
    r"SECRET|TOKEN|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|ACCOUNT_?KEY|PRIVATE_?KEY|AUTH_STRING", re.I
)
_NO_SECRETS = re.compile(r"_(FILE|PATH|DIR|ENDPOINT|URI)$", re.I)

_SECRET_NAME = (
    r"[\w.-]*(?:passwo?r?d|secret|token|signature|credential|api[_-]?key|access[_-]?key|account[_-]?key)[\w-]*"
)
_LOOKS = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S), HIDDEN),
    (re.compile(r"([a-z][a-z0-9+.-]*://)[^/\s'\"<>]*@", re.I), rf"\1{HIDDEN}@"),
    (re.compile(r"([?&](?:sig|key|auth)=)[^&\s'\"#]+", re.I), rf"\1{HIDDEN}"),
    (re.compile(rf"(\b{_SECRET_NAME}['\"]?\s*[=:]\s*['\"]?)[^\s'\",;&}})]+", re.I), rf"\1{HIDDEN}"),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9+/_.=~-]{8,}", re.I), rf"\1 {HIDDEN}"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), HIDDEN),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), HIDDEN),
)


def redact(text: str) -> str:
    """Return a text without the secrets in it."""
    for value in _secrets():
        text = text.replace(value, HIDDEN)
    for pattern, instead in _LOOKS:
        text = pattern.sub(instead, text)
    return text


def redact_all(value: Any) -> Any:
    """Return JSON-ready data without the secrets in its texts."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact_all(name): redact_all(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [redact_all(each) for each in value]
    return value


def redacted(function: Callable[Given, Found]) -> Callable[Given, Found]:
    """Make a flow or a task fail without the secrets in its error; to stand below Prefect's own decorator."""

    @functools.wraps(function)
    def clean(*args: Given.args, **kwargs: Given.kwargs) -> Found:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            told = cleaned(error)
            if told is error:
                raise
            raise told from None

    clean.__annotations__ = inspect.get_annotations(function, eval_str=True)
    clean.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
    return clean


def cleaned(error: Exception) -> Exception:
    """Return an error that says no secrets: itself where it says none, or where its text can be changed."""
    for each in (error.__cause__, error.__context__):
        if isinstance(each, Exception) and cleaned(each) is not each:
            error.__cause__, error.__context__ = None, None
    if redact(f"{error} {error!r}") == f"{error} {error!r}":
        return error
    said = f"{error}"
    error.args = tuple(redact_all(arg) if isinstance(arg, str) else arg for arg in error.args)
    if redact(f"{error} {error!r}") == f"{error} {error!r}":
        return error
    return OvertileError(f"{type(error).__name__}: {redact(said)}")


class Redaction(logging.Filter):
    """Lets every record pass, without the secrets in its message and in its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean a record."""
        said = _said(record)
        if (clean := redact(said)) != said:
            record.msg, record.args = clean, ()
        if record.exc_info and record.exc_info[0] is not None:
            trace = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            if (clean := redact(trace)) != trace:
                record.exc_text, record.exc_info = clean, None
        return True


def _said(record: logging.LogRecord) -> str:
    """Return a record's message; of one whose arguments do not fit it, which no log call may fail by, its parts."""
    try:
        return record.getMessage()
    except Exception:
        record.msg, record.args = f"{record.msg} {record.args}", ()
        return str(record.msg)


def redact_logs() -> None:
    """Clean what Prefect itself logs of flow and task runs; may be called by every flow."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logger = logging.getLogger(name)
        if not any(isinstance(each, Redaction) for each in logger.filters):
            logger.addFilter(Redaction())


def _secrets() -> list[str]:
    """Return the secret values of the environment, as they stand there and as they stand in addresses."""
    found = {
        value
        for name, value in os.environ.items()
        if _NAMES.search(name) and not _NO_SECRETS.search(name) and len(value) >= SHORTEST
    }
    found |= {quote(value, safe="") for value in found}
    return sorted(found, key=len, reverse=True)
