"""Units of length: the many ways in which files write them, and the names that OME-NGFF gives them."""

from __future__ import annotations

import math
import re

METRES = {
    "angstrom": 1e-10,
    "picometer": 1e-12,
    "nanometer": 1e-9,
    "micrometer": 1e-6,
    "millimeter": 1e-3,
    "centimeter": 1e-2,
    "meter": 1.0,
    "kilometer": 1e3,
    "inch": 0.0254,
    "foot": 0.3048,
}
"""Length in metres of each unit that is understood, by its name in OME-NGFF."""

_SHORT = {
    "å": "angstrom",
    "pm": "picometer",
    "nm": "nanometer",
    "um": "micrometer",
    "µm": "micrometer",
    "μm": "micrometer",
    "\\u00b5m": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "km": "kilometer",
    "in": "inch",
    "ft": "foot",
}


def unit_name(text: str) -> str | None:
    """Return the name that OME-NGFF gives a unit of length; None if it is none that is known here."""
    text = text.strip().lower()
    text = _SHORT.get(text, text).replace("metre", "meter")
    return text if text in METRES else None


_LENGTH = re.compile(r"\s*([0-9.eE+-]+)\s*([^\s0-9.,+-][^\s,]*)?\s*")


def parse_pixel_size(text: str) -> tuple[float, float]:
    """Return the extent of a pixel along y and x, in metres, from ``"0.5um"``, ``"0.5,0.4um"`` or ``"0.5um,400nm"``.

    A number without a unit has that of the next one.

    Raises:
        ValueError: not one or two positive numbers, the last one with a unit of length.
    """
    lengths: list[float] = []
    unit: str | None = None
    for part in reversed(text.split(",")):
        found = _LENGTH.fullmatch(part)
        unit = unit_name(found[2]) if found is not None and found[2] else unit
        try:
            number = float(found[1]) if found is not None else 0.0
        except ValueError:
            number = 0.0
        if unit is None or not (math.isfinite(number) and number > 0):
            raise ValueError(
                f"{text!r} is no size of a pixel; give one positive length, or one along y and one along x, with a"
                f" unit: 0.5um or 0.5,0.4um (units are {', '.join(METRES)} and their usual short forms)"
            )
        lengths.insert(0, number * METRES[unit])
    if len(lengths) > 2:
        raise ValueError(f"{text!r} has {len(lengths)} lengths; give one, or one along y and one along x")
    return lengths[0], lengths[-1]
