"""Networks as somebody might bring them, good and bad: a package that tests allow."""

import os
import subprocess
import sys
from subprocess import run as borrowed
from typing import Any

import torch
from torch import Tensor, nn

NOT_CALLABLE = 3
shortcut = lambda: Plain()  # noqa: E731


class Plain(nn.Module):
    """A convolution that keeps the size."""

    def __init__(self, channels: int = 1, outputs: int = 2) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Tied(Plain):
    """Two names for one weight."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.again = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.again.weight = self.layer.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.layer(x))


class Buffered(Plain):
    """A buffer that is made with the network, and not stored."""

    def __init__(self, *, random: bool = False) -> None:
        super().__init__()
        self.register_buffer("scale", torch.rand(1) if random else torch.full((1,), 3.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.scale


class Changing(Plain):
    """Loads something else than it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_post_hook(self._change)

    @staticmethod
    def _change(module: nn.Module, keys: object) -> None:
        module.layer.bias.data.add_(1)


class Stubborn(Plain):
    """Cannot be loaded."""

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        raise LookupError("not today")


class Extra(Plain):
    """Stores more than tensors."""

    def get_extra_state(self) -> object:
        return {"steps": 3}

    def set_extra_state(self, state: object) -> None:
        pass


class Lazy(nn.Module):
    """Does not know its channels yet."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LazyConv2d(2, 3)


class Deviating(Plain):
    """Gives something else than a tensor, or nothing."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Any:
        if self.kind == "fails":
            raise LookupError("no such size")
        return {"list": [self.layer(x)], "nan": self.layer(x) * torch.nan}[self.kind]


class Activated(Plain):
    """Gives probabilities, or class ids."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        values = self.layer(x)
        return values.softmax(1) if self.kind == "probabilities" else values.argmax(1, keepdim=True)


class Loud(Plain):
    """Talks on stdout."""

    def __init__(self) -> None:
        super().__init__()
        print("LOUD")
        subprocess.run([sys.executable, "-c", "print('LOUDER')"], check=True)


def plain(channels: int = 1) -> nn.Module:
    """Make a network: a constructor may be a function."""
    return Plain(channels)


def something() -> int:
    """Make something else."""
    return 3


def fail() -> nn.Module:
    """Make nothing."""
    raise LookupError("out of layers")


def hang() -> nn.Module:
    """Never come back."""
    while True:
        pass


def eat() -> nn.Module:
    """Take memory until somebody says stop."""
    held = []
    while True:
        held.append(b"x" * (32 << 20))


def crash() -> nn.Module:
    """End the process without a word."""
    os.abort()


__all__ = ["borrowed"]
