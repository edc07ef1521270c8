"""The colour of each class in what is exported, as in the reports.

Colours follow Okabe and Ito (2008, "Color Universal Design"), which people with any form of colour blindness can tell
apart.
"""

from __future__ import annotations

Colour = tuple[int, int, int]

BACKGROUND: Colour = (0, 0, 0)
_HUES = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
_SHADES = (1.0, 0.6, 0.8, 0.4)


def class_colour(value: int) -> Colour:
    """Return the colour ``(red, green, blue)``, 0 to 255, of a class id; black for 0.

    The first seven classes have the hues; after them they come again in darker shades, and after 28 they repeat.
    """
    if value == 0:
        return BACKGROUND
    turn, hue = divmod(value - 1, len(_HUES))
    shade = _SHADES[turn % len(_SHADES)]
    red, green, blue = (round(v * shade) for v in _HUES[hue])
    return red, green, blue


def class_name(value: int, names: tuple[str, ...]) -> str:
    """Return the name of a class id; ``class 7`` where nothing names it."""
    return names[value] if 0 <= value < len(names) else f"class {value}"
