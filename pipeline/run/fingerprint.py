"""The fingerprint of a run: a digest over everything that decides the bytes of its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

_NOTHING = object()
"""Stands for a part that is not there at all, which is not the same as one that is None."""


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Return a digest (32 hexadecimal digits) over JSON-ready parts; the order of keys does not matter."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def differences(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Name each part that differs, with both values, for a person to read."""
    return [
        f"{path}: the run has {_short(a)}, you ask for {_short(b)}"
        for path, a, b in _differing(recorded, asked, "")
    ]


def _differing(a: Any, b: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in sorted({*a, *b}):
            place = f"{path}.{key}" if path else str(key)
            yield from _differing(a.get(key, _NOTHING), b.get(key, _NOTHING), place)
    elif _text(a) != _text(b):
        yield path, a, b


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _text(value: Any) -> str:
    """Return what the fingerprint sees of a value: 1 and 1.0 differ, a tuple and a list do not."""
    return "nothing" if value is _NOTHING else json.dumps(value, sort_keys=True)
