"""Statistics of several things of one kind (classes, areas) by their number: they add number by number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

from pipeline.errors import InputError


class Additive(Protocol):
    """Statistics: immutable, and a sum of them is of the same kind."""

    def to_dict(self) -> dict[str, Any]: ...  # noqa: D102
    def __add__(self, other: Any, /) -> Any: ...


Each = TypeVar("Each", bound=Additive)


@dataclass(frozen=True, slots=True)
class Keyed(Generic[Each]):
    """Statistics by number; one that is lacking is of no voxels. Adds over disjoint chunks.

    Attributes:
        parts: the statistics of each, in the order of numbers.
    """

    parts: Mapping[int, Each]

    @classmethod
    def zero(cls) -> Self:
        """The statistics of nothing."""
        return cls({})

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], of: Callable[[Mapping[str, Any]], Each]) -> Self:
        """The inverse of ``to_dict``.

        Args:
            content: what ``to_dict`` gave.
            of: makes the statistics of one of them.

        Raises:
            InputError: the content is none of these.
        """
        try:
            return cls({int(number): of(part) for number, part in content.items()})
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"statistics by number need numbers as keys: {error!r}") from error

    def to_dict(self) -> dict[str, Any]:
        """The statistics ready for JSON."""
        return {str(number): part.to_dict() for number, part in self.parts.items()}

    def __add__(self, other: Keyed[Each]) -> Keyed[Each]:
        both = dict(self.parts)
        for number, part in other.parts.items():
            both[number] = both[number] + part if number in both else part
        return Keyed(dict(sorted(both.items())))
