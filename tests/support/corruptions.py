"""Bytes that change behind everyone's back: flipped, cut off, swapped, gone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CUTS = ("to nothing", "to one byte", "to a half", "by one byte")
KINDS = ("flip", *CUTS, "swap", "delete")
"""What can happen to a stored object; a swap happens to two."""


@contextmanager
def corrupted(paths: Sequence[Path], chance: random.Random) -> Iterator[dict[Path, str]]:
    """Corrupt each file in one way, and put all back afterwards; gives what happened to each.

    Each file's bytes are others than before, or it is gone: a swap of two files that are alike becomes a flip.
    """
    before = {path: path.read_bytes() for path in paths}
    happened: dict[Path, str] = {}
    try:
        waiting = chance.sample(list(paths), len(paths))
        while waiting:
            path, kind = waiting.pop(), chance.choice(KINDS)
            if kind == "swap" and waiting and before[path] != before[waiting[-1]]:
                other = waiting.pop()
                swap(path, other)
                happened[other] = kind
            else:
                kind = "flip" if kind == "swap" else kind
                damage(path, kind, chance)
            happened[path] = kind
        yield happened
    finally:
        for path, data in before.items():
            path.write_bytes(data)


def damage(path: Path, kind: str, chance: random.Random) -> None:
    """Corrupt one file."""
    data = bytearray(path.read_bytes())
    if kind == "delete":
        path.unlink()
        return
    if kind == "flip":
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    else:
        data = data[: (0, 1, len(data) // 2, len(data) - 1)[CUTS.index(kind)]]
    path.write_bytes(data)


def swap(one: Path, other: Path) -> None:
    """Have two files change places."""
    aside = one.with_name(one.name + ".aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
