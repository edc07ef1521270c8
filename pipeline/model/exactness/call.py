"""One operation of a network as its rules see it: arguments by name, and the bounds of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch._ops import OpOverload

from pipeline.model.exactness.bounds import Bounds, nothing

Rule = Callable[["Call"], "Sequence[Bounds | None]"]
"""Gives the bounds of each output, None for a constant; outputs beyond the last depend on everything."""


@dataclass(frozen=True)
class Call:
    """One call of an operation.

    Attributes:
        func: the operation.
        arguments: every argument by the name in the operation's schema, defaults included.
        outputs: the tensors that came out.
        lookup: gives the bounds of a tensor, None for a constant.
    """

    func: OpOverload[Any, Any]
    arguments: dict[str, Any]
    outputs: Sequence[Tensor]
    lookup: Callable[[Tensor], Bounds | None]

    @property
    def name(self) -> str:
        """Name of the operation without its variant, such as ``convolution``."""
        return str(self.func.overloadpacket.__name__)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first output."""
        return tuple(self.outputs[0].shape)

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def tensors(self) -> Iterator[Tensor]:
        """Yield every tensor among the arguments."""
        for value in self.arguments.values():
            for item in value if isinstance(value, list | tuple) else (value,):
                if isinstance(item, Tensor):
                    yield item

    def of(self, tensor: Tensor) -> Bounds:
        """Return the bounds of a tensor."""
        return self.lookup(tensor) or nothing(tensor.shape)

    def first(self) -> Bounds:
        """Return the bounds of the first tensor among the arguments."""
        return self.of(next(self.tensors()))

    def dependent(self) -> list[Bounds]:
        """Return the bounds of the arguments that depend on the network's input."""
        return [bounds for tensor in self.tensors() if (bounds := self.lookup(tensor)) is not None]

    def dims(self, ndim: int, name: str = "dim") -> list[int]:
        """Return dimensions that the argument ``name`` gives, from the front; all where it gives none."""
        given = self.arguments.get(name)
        if given is None or given == []:
            return list(range(ndim))
        return [d % ndim for d in (given if isinstance(given, list | tuple) else [given])] if ndim else []


def bind(func: OpOverload[Any, Any], args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by their names in the schema."""
    bound = {}
    for index, argument in enumerate(func._schema.arguments):
        bound[argument.name] = (
            args[index] if index < len(args) else kwargs.get(argument.name, argument.default_value)
        )
    return bound
