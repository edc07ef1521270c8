"""Metrics that have no value: ``None`` with a reason beside it, never a number that looks like a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def ratio(part: float, whole: float) -> float | None:
    """A part of a whole; None for zero to zero, and for any part of nothing."""
    return part / whole if whole else None


def harmonic(a: float | None, b: float | None) -> float | None:
    """The harmonic mean of two ratios, as in an F-score; None where both are undefined, 0 where one of them is.

    That is ``x / ((y + z) / 2)`` for the ratios ``x / y`` and ``x / z``, of which at most one has nothing below.
    """
    if a is None and b is None:
        return None
    return 2 * a * b / (a + b) if a and b else 0.0


def with_reasons(values: Mapping[str, Any], reasons: Mapping[str, str]) -> dict[str, Any]:
    """Add ``undefined``: why each value that is None is so.

    Args:
        values: metrics by name.
        reasons: for every metric that can be None, what was lacking then.
    """
    return {**values, "undefined": {name: reasons[name] for name, value in values.items() if value is None}}
