"""Numbers and tables as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def size(number: float) -> str:
    """Return a number of bytes with a binary unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024:
            return f"{number:.0f} {unit}" if unit in ("B", "KiB", "MiB") else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def count(number: float) -> str:
    """Return a large number with a decimal prefix."""
    for unit in ("", "k", "M", "G"):
        if abs(number) < 1000:
            return f"{number:.3g} {unit}".strip()
        number /= 1000
    return f"{number:.3g} T"


def duration(seconds: float) -> str:
    """Return a time span."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def table(rows: list[tuple[str, Any]]) -> str:
    """Return names and values in two columns."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines: align the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [f"{row[0]:<{widths[0]}}", *(f"{cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]


def split(seconds: dict[str, float]) -> str:
    """Return where the workers' time went, as shares of the time of the busiest resource, the network."""
    busy = sum(seconds.values()) - seconds.get("wait", 0.0)
    if busy <= 0:
        return "no time yet"
    parts = [f"{name} {100 * seconds[name] / busy:.0f} %" for name in ("read", "compute", "write")]
    return ", ".join(parts)


def overlaps_text(found: Mapping[str, Any]) -> str:
    """Return how overlapping tiles disagree, as a sentence."""
    return (
        f"where tiles overlap, scores differ by {found['mean_spread']:.3g} in the mean (largest"
        f" {found['largest_spread']:.3g}), and the class in {100 * found['changed_share']:.2g} % of the voxels"
    )


def borders_text(found: Mapping[str, Any]) -> str:
    """Return what was measured at borders of chunks and tiles, as a sentence or two."""
    if not found["contrasts"]:
        return "no seam can be told: there are too few borders, or no room beside them"
    if not found["flagged"]:
        return f"no seam: no border of chunks or tiles stands out from its surroundings in {found['limit']:.0%} or more"
    first = found["flagged_by"][0]
    ratio = "" if first["ratio"] is None else f", and {first['ratio']:.2f} times as much in the mean"
    return (
        f"SEAMS along {first['axis']}: at borders of {first['borders']}s the prediction changes more than beside them"
        f" in {first['share']:.1%} of the places (50% without a seam){ratio}; p {first['p']:.1g}"
    )
