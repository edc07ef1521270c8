"""How fast a phase is, and how long it will take, in words."""

from __future__ import annotations

SOONEST = 2.0
"""Seconds of work before which nothing is said of its speed."""


def pace(worked: int, left: int, seconds: float, *, unit: str, voxels: float) -> list[str]:
    """Return the speed and the time left, as parts of a sentence; none where it is too early to tell.

    Args:
        worked: units of work since the clock began.
        left: units that are to come.
        seconds: on the clock.
        unit: of the work, in the plural.
        voxels: of one unit; 0 where that means nothing.
    """
    if worked <= 0 or seconds < SOONEST:
        return []
    rate = worked / seconds
    speed = [f"{short(rate)} {unit}/s"] + ([f"{short(rate * voxels)} voxel/s"] if voxels else [])
    return [", ".join(speed), *([f"{span(left / rate)} left"] if left else [])]


def short(value: float) -> str:
    """Return a number in three digits: ``0.25``, ``12.3``, ``45.6 M``."""
    for factor, sign in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * factor:
            return f"{value / factor:.3g} {sign}"
    return f"{value:.3g}"


def span(seconds: float) -> str:
    """Return a time in its two largest units: ``42 s``, ``3 min 5 s``, ``2 h 10 min``, ``3 d 4 h``."""
    whole = max(0, round(seconds))
    for length, name, smaller, rest in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= length:
            return f"{whole // length} {name} {whole % length // smaller} {rest}"
    return f"{whole} s"
