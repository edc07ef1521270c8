"""A copy of a network without memory for its numbers: its operations run, on shapes alone."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from pipeline.errors import ModelError

META = torch.device("meta")
Op = OpOverload[Any, Any]


class ShapesOnly(TorchDispatchMode):
    """Moves every tensor that a network makes or keeps on another device to ``meta``.

    Where a network asks for a value that hangs on its input, it is told 1: there are none. Subclasses follow what
    happens.

    Args:
        values: numbers of the tensors that have some, such as parameters.
    """

    def __init__(self, values: WeakTensorKeyDictionary) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._values = values

    def __torch_dispatch__(
        self, func: Op, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation on shapes."""
        if func.overloadpacket.__name__ in ("_local_scalar_dense", "item", "equal", "is_nonzero"):
            known = [self._known(arg) for arg in args]
            if all(isinstance(arg, Tensor) for arg in known):
                return func(*known)
            self.asked(func)
            return _one(args[0])
        args, given = tree_map(_to_meta, args), tree_map(_to_meta, dict(kwargs or {}))
        found = func(*args, **given)
        self.ran(func, args, given, found)
        return found

    def ran(self, func: Op, args: tuple[Any, ...], kwargs: dict[str, Any], found: Any) -> None:
        """Take note of one operation."""

    def asked(self, func: Op) -> None:
        """Take note of a value that the network wanted to know."""

    def _known(self, tensor: Tensor) -> Tensor | None:
        """Return a tensor with its numbers, None where it has none."""
        found: Tensor | None = tensor if tensor.device.type != "meta" else self._values.get(tensor)
        return found


class Ghost:
    """A network on ``meta``; the network that it is made of is not touched.

    Args:
        model: the network, in the mode in which it will run.
        dims: spatial axes, 2 or 3.
        in_channels: channels of its input.

    Raises:
        ModelError: if the network cannot be copied.
    """

    def __init__(self, model: nn.Module, dims: int, in_channels: int) -> None:
        self.dims = dims
        self.in_channels = in_channels
        self.parameters = sum(p.numel() for p in model.parameters())
        self.values = WeakTensorKeyDictionary()
        self.model = _shadow(model, self.values)
        self.failure: Exception | None = None
        self._outputs: dict[tuple[int, ...], tuple[int, ...] | None] = {}

    def input(self, spatial: Sequence[int], batch: int = 1) -> Tensor:
        """Return an input of a spatial shape."""
        return torch.empty((batch, self.in_channels, *spatial), dtype=torch.float32, device=META)

    def output(self, spatial: Sequence[int]) -> tuple[int, ...] | None:
        """Return the shape ``(channels, *spatial)`` of the output, or None where the network fails.

        Raises:
            ModelError: if the network runs, but what it gives is no image of one batch.
        """
        key = tuple(spatial)
        if key not in self._outputs:
            self._outputs[key] = self._try(key)
        return self._outputs[key]

    def channels(self) -> int:
        """Return the channels of the output, the same at all sizes that were tried.

        Raises:
            ModelError: if they differ.
        """
        found = {shape[0] for shape in self._outputs.values() if shape is not None}
        if len(found) != 1:
            counts = " or ".join(map(str, sorted(found)))
            raise ModelError(
                f"The network gives {counts} channels, by the size of its input; it must give as many."
            )
        return found.pop()

    def run(self, x: Tensor) -> Any:
        """Run the network."""
        with torch.no_grad(), META, ShapesOnly(self.values):
            return self.model(x)

    def check_batch(self, spatial: Sequence[int]) -> None:
        """Check that two images give two results.

        Raises:
            ModelError: if they do not.
        """
        try:
            found = self.run(self.input(spatial, 2))
        except Exception as error:
            raise ModelError(f"The network takes one image, but not two at a time: {says(error)}.") from error
        if found.shape[0] != 2:
            raise ModelError(
                f"The network gives {found.shape[0]} results for 2 images: it must keep the batch axis, the first."
            )

    def _try(self, spatial: tuple[int, ...]) -> tuple[int, ...] | None:
        try:
            found = self.run(self.input(spatial))
        except Exception as error:  # a network may fail as it likes; which sizes it takes is the question
            self.failure = error
            return None
        return _image(found, self.dims, spatial)


def says(error: BaseException) -> str:
    """Return what an error says, on one line of bearable length."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


@contextlib.contextmanager
def quiet_hooks(handles: Sequence[Any]) -> Iterator[None]:
    """Take hooks away at the end."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def replaced(model: nn.Module, tensors: Mapping[int, Tensor]) -> Iterator[None]:
    """Put other tensors, by the id of the old ones, in the place of parameters and buffers; undone at the end.

    ``torch.func.functional_call`` leaves some behind where a module has two names, as in MONAI's DynUNet.
    """
    places = [
        (table, name, old)
        for module in model.modules()
        for table in (module._parameters, module._buffers)
        for name, old in table.items()
        if old is not None
    ]
    try:
        for table, name, old in places:
            table[name] = tensors[id(old)]  # type: ignore[assignment]
        yield
    finally:
        for table, name, old in places:
            table[name] = old  # type: ignore[assignment]


def _image(found: Any, dims: int, spatial: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape of an output without its batch axis; None where it holds no voxel."""
    if not isinstance(found, Tensor):
        size = f" of {len(found)}" if isinstance(found, list | tuple | dict) else ""
        raise ModelError(
            f"The network gives a {type(found).__name__}{size}, Overtile needs one tensor: wrap it in a module that"
            " returns the one to store."
        )
    shape = tuple(found.shape)
    if len(shape) != dims + 2:
        raise ModelError(
            f"The network gives {len(shape)} axes, {shape}, for an input of {(1, '...', *spatial)}; Overtile needs"
            f" {dims + 2}: batch, channels and {dims} spatial ones."
        )
    if shape[0] != 1:
        raise ModelError(
            f"The network gives {shape[0]} results for 1 image: it must keep the batch axis, the first."
        )
    return shape[1:] if min(shape) > 0 else None


def _shadow(model: nn.Module, values: WeakTensorKeyDictionary) -> nn.Module:
    """Copy a network with every parameter and buffer on ``meta``, and keep where their numbers are."""
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        shape = _shape(tensor)
        made = nn.Parameter(shape, requires_grad=False) if isinstance(tensor, nn.Parameter) else shape
        memo[id(tensor)] = made
        values[made] = tensor.detach()
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise ModelError(f"The network cannot be copied for the analysis: {says(error)}.") from error


def _shape(tensor: Tensor) -> Tensor:
    """Return a tensor's shape and dtype; numbers of lower precision count as float32, in which networks are probed."""
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return torch.empty_like(tensor, dtype=dtype, device=META)


def _to_meta(value: Any) -> Any:
    if isinstance(value, Tensor) and value.device.type != "meta":
        return value.to(META)
    if isinstance(value, torch.device):
        return META
    return value


def _one(tensor: Tensor) -> bool | int | float:
    if tensor.dtype == torch.bool:
        return True
    return 1.0 if tensor.is_floating_point() else 1
