"""Numbers as people read them, for the report."""

from __future__ import annotations

import datetime
import math

NO_BREAK = "\u00a0"

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

SYMBOLS = {"angstrom": "Å", "nanometer": "nm", "micrometer": "µm", "millimeter": "mm", "centimeter": "cm"} | {
    "meter": "m",
    "kilometer": "km",
}
"""Symbols of the length units that OME-NGFF names; other units are shown by their names."""


def whole(number: int) -> str:
    """Return a whole number with its thousands apart: ``12,300,000``."""
    return f"{number:,}"


def about(number: float) -> str:
    """Return a large count to three digits: ``12.3 million``."""
    for name, power in (("trillion", 12), ("billion", 9), ("million", 6)):
        if number >= 0.9995 * 10**power:
            return f"{number / 10**power:.3g}{NO_BREAK}{name}"
    return whole(round(number))


def size(number: float) -> str:
    """Return a number of bytes with a binary unit: ``963 MiB``, ``7.3 MiB``."""
    unit = 0
    while number >= 999.5 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    digits = 1 if unit and number < 99.95 else 0
    return f"{number:.{digits}f}{NO_BREAK}{_UNITS[unit]}"


def duration(seconds: float) -> str:
    """Return a time span: ``0.4 s``, ``12 min 05 s``, ``3 h 20 min``."""
    if 0 < seconds < 0.05:
        return f"under 0.1{NO_BREAK}s"
    if seconds < 60:
        return f"{seconds:.{0 if seconds >= 10 else 1}f}{NO_BREAK}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}{NO_BREAK}h {minutes:02d}{NO_BREAK}min"
    return f"{minutes}{NO_BREAK}min {rest:02d}{NO_BREAK}s"


def percent(share: float) -> str:
    """Return a share: ``7.3 %`` below ten, whole above, ``0 %`` for nothing at all."""
    digits = 1 if 0 < 100 * share < 9.95 else 0
    return f"{100 * share:.{digits}f}{NO_BREAK}%"


def ratio(value: float | None) -> str:
    """Return a metric between 0 and 1 with three digits; a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


def date(text: str | None) -> str:
    """Return an ISO time for people: ``3 May 2026, 14:05 UTC``; what is no such time is returned as it is."""
    try:
        moment = datetime.datetime.fromisoformat(text or "").astimezone(datetime.UTC)
    except ValueError:
        return text or "–"
    return f"{moment.day}{NO_BREAK}{moment:%B %Y, %H:%M} UTC"


def seconds_between(start: str | None, stop: str | None) -> float | None:
    """Return the seconds from one ISO time to another; None where one is missing."""
    try:
        times = [datetime.datetime.fromisoformat(text or "") for text in (start, stop)]
    except ValueError:
        return None
    return (times[1] - times[0]).total_seconds()


def symbol(unit: str | None) -> str:
    """Return the symbol of a length unit; ``voxels`` where there is none."""
    return "voxels" if unit is None else SYMBOLS.get(unit, unit)


def round_length(most: float) -> float:
    """Return the largest of 1, 2 or 5 times a power of ten that is not above ``most``."""
    power = 10.0 ** math.floor(math.log10(most))
    return max(step * power for step in (0.5, 1, 2, 5) if step * power <= most * (1 + 1e-9))


def by(values: object) -> str:
    """Return lengths along axes: ``3,000 × 4,100``."""
    assert isinstance(values, list | tuple), values
    return " × ".join(whole(v) if isinstance(v, int) else f"{v:g}" for v in values)
