"""Copy a source into an OME-Zarr volume, out of core, and publish it when it is whole.

Two ways, by what a read costs. Where any box is cheap (or decoded in pieces no larger than a shard), each thread
reads the shard that it writes. Where the file is decoded in larger pieces (slices, strips), one slab of whole
pieces is read at a time, and threads write its shards while the next one is read::

    pieces decoded   |-----------------------------| x          memory: shards in flight,
    shards           |--------|--------|--------|               or two slabs of at most SLAB_BYTES
    slab             |==============================|
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt
import zarr

from pipeline.errors import VolumeError
from pipeline.geometry import Box, Grid
from pipeline.volume.create import PARTIAL, ArraySpec, default_shard, ensure_level, inner_chunk, publish, sync_tree
from pipeline.volume.ingest.source import Source
from pipeline.volume.ingest.values import map_values
from pipeline.volume.pyramid import build_pyramid, pyramid_bytes
from pipeline.volume.shards import Piece, write_shards
from pipeline.volume.space import Space

SLAB_BYTES = 1 << 30
"""Largest slab that is read at once; where pieces are larger still, they are decoded several times."""

_MARK = {"overtile": {"made_by": "ingest"}}
"""Attributes of the output's group: an unpublished group that has them is an ingest that did not end."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """What an ingest made.

    Attributes:
        out: the image group.
        spec: layout of level 0.
        levels: path and space of each level, finest first.
        classes: names of the class ids; None for an image.
    """

    out: Path
    spec: ArraySpec
    levels: tuple[tuple[str, Space], ...]
    classes: tuple[str, ...] | None


def ingest(
    source: Source,
    out: Path,
    *,
    shard: tuple[int, ...] | None = None,
    pyramid: bool = True,
    threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
    classes: Sequence[str] | None = None,
    values: Mapping[int, int] | None = None,
    threshold: float | None = None,
) -> Ingested:
    """Copy a source to the OME-Zarr image ``out``, exact to the voxel, with coarser levels.

    Restartable: an ingest that was interrupted is begun again in the same place, with the same settings.

    Args:
        source: stays open.
        out: the image group; must not exist, or be an ingest that was interrupted.
        shard: voxels of a shard along each spatial axis.
        pyramid: whether to write coarser levels: the mean for images, the most frequent class for class maps.
        threads: shards written at once.
        progress: told the bytes of voxels written so far, and in all.
        classes: names of the class ids 0, 1, ...: the image is a class map (u1).
        values: makes a class map: class id of each value that may occur.
        threshold: makes a class map: values above it are class 1, others class 0.

    Raises:
        VolumeError: the output exists; settings that cannot be; voxels that cannot be read or have no class.
    """
    if classes is not None or values is not None or threshold is not None:
        mapped = map_values(source, classes=classes, values=values, threshold=threshold)
        source, classes = mapped, tuple(classes or (f"class {i}" for i in range(mapped.count)))
    spec = _layout(source, shard)
    _begin(out)
    total, done = spec.nbytes + (pyramid_bytes(spec) if pyramid else 0), 0

    def wrote(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    write_shards(ensure_level(out, "0", spec), _pieces(source, spec), threads=threads, wrote=wrote)
    levels = [("0", spec.space)]
    if pyramid:
        method = "mean" if classes is None else "mode"
        base = done
        levels = build_pyramid(
            out, spec, method=method, threads=threads, progress=lambda part, _: progress and progress(base + part, total)
        )
    publish(out, name=out.stem, axes=spec.axes, levels=levels, classes=classes)
    return Ingested(out, spec, tuple(levels), tuple(classes) if classes is not None else None)
