"""Units of length: the many ways in which files write them, and the names that OME-NGFF gives them."""

from __future__ import annotations

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
