"""Numbers spread evenly over a range."""

from __future__ import annotations

from collections.abc import Sequence


def evenly(count: int, most: int) -> Sequence[int]:
    """Return up to ``most`` of the numbers below ``count``, evenly spaced; all where they are enough."""
    if count <= most:
        return range(count)
    return [count * (2 * index + 1) // (2 * most) for index in range(most)]
