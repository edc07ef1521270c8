"""Follows bounds through a network: every operation that it runs, on shapes alone.

Of what it finds on the way it keeps *culprits*: layers that make something that sees the whole axis out of what did
not. Behind a culprit the bounds go on as if it had looked at its own place alone, so that the next one is found too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functionalize
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from pipeline.model.exactness import layers, moving
from pipeline.model.exactness.bounds import Bounds, hull, nothing, positions, rearranged
from pipeline.model.exactness.call import Call, Rule, bind
from pipeline.model.exactness.ghost import META, Ghost, Op, ShapesOnly, quiet_hooks, replaced, says

Kind = Literal["global", "corners", "random", "values", "unknown", "untraceable"]

RULES: dict[str, Rule] = {**moving.RULES, **layers.RULES}


@dataclass(frozen=True, slots=True)
class Culprit:
    """A layer that prevents exactness.

    Attributes:
        kind: what it does. ``global`` sees the whole input, ``corners`` interpolates between the outermost voxels,
            ``random`` draws numbers, ``values`` decides by values which operations run, ``unknown`` is an
            operation without a rule; ``untraceable`` is a network that cannot be followed at all.
        path: name of the innermost module, empty for the network itself.
        layer: class of that module.
        operation: name of the operation, or what an error said.
        training: whether the module is in training mode.
    """

    kind: Kind
    path: str
    layer: str
    operation: str
    training: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """What came out of a network, along one axis.

    Attributes:
        first: first voxel that each output voxel depends on, ``(outputs,)`` float; -inf is poisoned, inf is none.
        last: last voxel; inf is poisoned, -inf is none.
        culprits: layers that prevent exactness, in the order in which they ran.
    """

    first: Tensor
    last: Tensor
    culprits: tuple[Culprit, ...]


def trace(ghost: Ghost, spatial: Sequence[int], axis: int) -> Trace:
    """Follow the bounds along one axis through the network.

    Args:
        ghost: the network.
        spatial: a legal spatial shape, long along ``axis``.
        axis: which spatial axis, from 0.
    """
    x = ghost.input(spatial)
    tracer = _Tracer(ghost.values, x, axis + 2)
    weights = [*ghost.model.parameters(), *ghost.model.buffers()]

    def run(given: Sequence[Tensor], image: Tensor) -> Any:
        with replaced(ghost.model, {id(old): new for old, new in zip(weights, given, strict=True)}):
            return ghost.model(image)

    handles = [handle for name, module in ghost.model.named_modules() for handle in tracer.watch(name, module)]
    output = ghost.output(spatial)
    assert output is not None, spatial
    with quiet_hooks(handles), torch.no_grad(), META, tracer:
        try:
            found = tracer.lookup(functionalize(run)(weights, x))
        except Exception as error:  # whatever it is, such a network cannot be followed
            tracer.blame("untraceable", says(error))
            found = None
    lowest = _line(found or nothing((1, *output)), axis + 2)
    return Trace(lowest[0], -lowest[1], tuple(dict.fromkeys(tracer.culprits)))


def _line(bounds: Bounds, dim: int) -> Tensor:
    """Return bounds along one dimension, ``(2, length)``, of all that lies beside it.

    Lines that are poisoned in their middle lie at the edge of another axis: they do not count, if there are others.
    """
    length = bounds.shape[dim]
    lines = bounds.data.movedim(dim + 1, -1).flatten(1, -2).expand(2, -1, length)
    clean = (lines[0, :, length // 4 : length - length // 4] > -torch.inf).all(1)
    return (lines[:, clean] if bool(clean.any()) else lines).amin(1)


class _Tracer(ShapesOnly):
    """Keeps the bounds of every tensor that depends on the input."""

    def __init__(self, values: WeakTensorKeyDictionary, x: Tensor, dim: int) -> None:
        super().__init__(values)
        self.culprits: list[Culprit] = []
        self._span = x.shape[dim] / 2
        self._stack: list[tuple[str, nn.Module]] = []
        self._bounds = WeakTensorKeyDictionary()
        self._slices = WeakTensorKeyDictionary()
        self._bounds[x] = positions(x.shape, dim)

    def watch(self, name: str, module: nn.Module) -> list[Any]:
        """Know while a module runs."""
        return [
            module.register_forward_pre_hook(lambda *_: self._stack.append((name, module))),
            module.register_forward_hook(lambda *_: self._leave()),
        ]

    def lookup(self, tensor: Tensor) -> Bounds | None:
        """Return the bounds of a tensor, None where it does not depend on the input."""
        if isinstance(tensor, Tensor) and torch._is_functional_tensor(tensor):
            tensor = torch._from_functional_tensor(tensor)
        found: Bounds | None = self._bounds.get(tensor)
        return found

    def blame(self, kind: Kind, operation: str) -> None:
        """Keep a culprit: the module that runs now."""
        name, module = self._stack[-1] if self._stack else ("", None)
        training = module is not None and module.training
        self.culprits.append(Culprit(kind, name, type(module).__name__, operation, training))

    def asked(self, func: Op) -> None:
        """A network that wants to know a value decides by it."""
        self.blame("values", func.overloadpacket.__name__)

    def ran(self, func: Op, args: tuple[Any, ...], kwargs: dict[str, Any], found: Any) -> None:
        """Give the outputs of one operation their bounds."""
        outputs = [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]
        call = Call(func, bind(func, args, kwargs), outputs, self.lookup)
        if _is_random(call):
            self.blame("random", call.name)
            self._keep(outputs, self._passed(call))
            return
        dependent = call.dependent()
        if not outputs or not (dependent or func._schema.is_mutable):
            return
        if func._schema.is_mutable:
            self._mutate(call)
            return
        if call.arguments.get("align_corners") and call["align_corners"] and _changes_size(call):
            self.blame("corners", call.name)
        self._keep(outputs, self._judged(call, dependent))
        if call.name == "slice":
            self._slices[outputs[0]] = call

    def _keep(self, outputs: Sequence[Tensor], found: Sequence[Bounds | None]) -> None:
        for tensor, bounds in zip(outputs, found, strict=True):
            if bounds is not None:
                self._bounds[tensor] = bounds

    def _judged(self, call: Call, dependent: Sequence[Bounds]) -> list[Bounds | None]:
        """Return the bounds of the outputs; those of a culprit are of its own place alone."""
        rule = _rule(call)
        if rule is None:
            self.blame("unknown", call.name)
            return self._passed(call)
        found: list[Bounds | None] = list(rule(call))
        found += [hull(dependent, t.shape) for t in call.outputs[len(found) :]]
        # Windows of a grid of fixed size grow with the input, though none of them is all of it.
        span = self._span / 8 if "adaptive" in call.name else self._span
        before = max(b.share(span) for b in dependent)
        if before < 0.5 and any(b is not None and b.share(span) >= 0.5 for b in found[:1]):
            self.blame("global", call.name)
            return self._passed(call)
        return found

    def _passed(self, call: Call) -> list[Bounds | None]:
        own = next((b for t in call.tensors() if (b := self.lookup(t)) is not None), None)
        return [own if own is not None and own.shape == tuple(t.shape) else None for t in call.outputs]

    def _mutate(self, call: Call) -> None:
        """Follow what changes a tensor: all of it, or a slice of another (what is left of these is copies)."""
        target = next(call.tensors())
        if call.name == "copy_":
            new = moving.pointwise(call)[0] if call.dependent() else nothing(target.shape)
            source = call.lookup(call["src"])
            new = (
                Bounds(tuple(target.shape), source.data) if source and source.shape == tuple(target.shape) else new
            )
        elif torch.Tag.pointwise in call.func.tags and call.dependent():
            new = moving.pointwise(call)[0]
        elif call.dependent():
            self.blame("unknown", call.name)
            return
        else:
            return
        self._replace(target, new)

    def _replace(self, target: Tensor, new: Bounds) -> None:
        self._bounds[target] = new
        parent: Call | None = self._slices.get(target)
        if parent is not None:
            base = parent["self"]
            dim = parent["dim"] % base.ndim
            where = (dim, parent["start"], parent["end"], parent["step"])
            parts = [self.lookup(base) or nothing(base.shape), new]
            self._replace(base, rearranged(parts, [dim], base.shape, lambda t: t[0].slice_scatter(t[1], *where)))

    def _leave(self) -> None:
        self._stack.pop()


def _rule(call: Call) -> Rule | None:
    if torch.Tag.pointwise in call.func.tags:
        return moving.pointwise
    return RULES.get(call.name)


def _is_random(call: Call) -> bool:
    if torch.Tag.nondeterministic_seeded not in call.func.tags or "attention" in call.name:
        return False
    return bool(call.arguments.get("train", True))


def _changes_size(call: Call) -> bool:
    return tuple(next(call.tensors()).shape) != call.shape
