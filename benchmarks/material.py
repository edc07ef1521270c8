"""Volumes and checkpoints for benchmarks, made when they are not there yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import zarr

from flows.shapes import render
from pipeline.geometry import Box, Grid
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.checkpoint import CheckpointHeader, Normalisation
from pipeline.model.unet import UNet
from pipeline.model.weights import save_checkpoint
from pipeline.volume import ArraySpec, ShardWriter, Space, create_level, default_shard, inner_chunk, publish


def image(path: Path, shape: tuple[int, ...]) -> Path:
    """Return a volume of shapes (RGB, uint8), or of noise where it is a stack (grey, uint8)."""
    if (path / "zarr.json").exists():
        return path
    flat = len(shape) == 2
    space = Space.unscaled("zyx"[-len(shape) :])
    shard = default_shard(shape)
    spec = ArraySpec(shape, 3 if flat else None, np.dtype("u1"), shard, inner_chunk(shard), space)
    array = create_level(path, "0", spec)
    writer, random = ShardWriter(array), np.random.default_rng(0)
    for core in Grid(shape, shard).cores():
        if flat:
            voxels, _ = render((core.start[0], core.start[1]), (core.shape[0], core.shape[1]), seed=1)
            writer.write(Box((0, *core.start), (3, *core.stop)), voxels)
        else:
            writer.write(core, random.integers(0, 256, core.shape, dtype=np.uint8))
    publish(path, name=path.stem, axes=spec.axes, levels=[("0", space)], classes=None)
    return path


def checkpoint(path: Path, **settings: object) -> Path:
    """Return a checkpoint with random weights."""
    architecture = UNetArchitecture.model_validate(settings)
    torch.manual_seed(0)
    channels = architecture.in_channels
    header = CheckpointHeader(
        architecture=architecture,
        normalisation=Normalisation(mean=(120.0,) * channels, std=(50.0,) * channels),
        classes=("background", "foreground"),
        axes="zyx"[-architecture.dims :],
    )
    save_checkpoint(path, UNet(architecture), header)
    return path


def bytes_of(path: Path) -> int:
    """Return the uncompressed size of a volume's finest level."""
    return int(zarr.open_array(str(path / "0"), mode="r").nbytes)
