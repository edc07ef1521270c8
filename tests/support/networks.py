"""Tiny networks, volumes and plans for tests of prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import zarr

from pipeline.config import SegmentJob
from pipeline.geometry import Box
from pipeline.jobs.listener import Silent
from pipeline.jobs.planning import plan
from pipeline.jobs.recording import ARRAY
from pipeline.jobs.segmentation import Segmentation
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.arithmetic import fix_arithmetic
from pipeline.model.checkpoint import CheckpointHeader, Normalisation
from pipeline.model.unet import UNet
from pipeline.model.weights import load_model, save_checkpoint
from pipeline.volume import ArraySpec, ShardWriter, Space, create_level, open_volume, publish

MEAN, STD = 120.0, 50.0


def make_checkpoint(path: Path, *, seed: int = 0, **settings: object) -> Path:
    """A checkpoint with random weights, and BatchNorm statistics that are not the trivial ones."""
    architecture = UNetArchitecture(**settings)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = UNet(architecture)
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            noise = torch.rand(buffer.shape, generator=generator)
            buffer.copy_(0.5 + noise if name.endswith("var") else noise - 0.5)
    channels = architecture.in_channels
    header = CheckpointHeader(
        architecture=architecture,
        normalisation=Normalisation(mean=(MEAN,) * channels, std=(STD,) * channels),
        classes=tuple(f"class{i}" for i in range(max(2, architecture.classes))),
        axes="zyx"[-architecture.dims :],
    )
    save_checkpoint(path, model, header)
    return path


def make_image(
    path: Path, shape: tuple[int, ...], *, channels: int | None = None, shard: tuple[int, ...] | None = None
) -> Path:
    """A volume of noise."""
    space = Space.unscaled("zyx"[-len(shape) :])
    spec = ArraySpec(shape, channels, np.dtype("u1"), shard or shape, shard or shape, space)
    array = create_level(path, "0", spec)
    voxels = np.random.default_rng(len(shape)).integers(0, 256, spec.stored_shape, dtype=np.uint8)
    if shard is None:
        ShardWriter(array).write(Box.of_shape(spec.stored_shape), voxels)
    else:
        array[...] = voxels
    publish(path, name="noise", axes=spec.axes, levels=[("0", space)], classes=None)
    return path


def whole(job: SegmentJob, precision: str) -> np.ndarray:
    """The raw output of the network that sees the whole mirrored image at once: ``(c, [z,] y, x)``."""
    made = plan(job)
    dtype = getattr(torch, precision)
    volume, reaches = made.volume, made.layout.reaches
    dims = made.header.architecture.dims
    cores = [-(-n // r.stride) * r.stride for n, r in zip(volume.shape, reaches, strict=True)]
    box = Box(
        tuple(-r.before for r in reaches),
        tuple(n + r.after(n) for n, r in zip(cores, reaches, strict=True)),
    )
    wide = np.float64 if dtype == torch.float64 else np.float32
    shown = torch.from_numpy(volume.read_shown(box).astype(wide)).sub(MEAN).div(STD).to(dtype)
    layout = torch.channels_last if dims == 2 else torch.channels_last_3d
    model = fix_arithmetic(load_model(job.model, dtype=dtype).to(memory_format=layout))
    inputs = shown[None] if shown.ndim - 1 == dims else shown.transpose(0, 1)
    with torch.inference_mode():
        outputs = torch.cat([model(one[None].contiguous(memory_format=layout)) for one in inputs])
    outputs = outputs[0] if shown.ndim - 1 == dims else outputs.transpose(0, 1)
    crop = [slice(r.crop, r.crop + n) for r, n in zip(reaches, volume.shape, strict=True)]
    found = outputs[:, *crop]
    return (found.double() if dtype == torch.float64 else found.float()).numpy()


def run_inline(job: SegmentJob) -> np.ndarray:
    """Process every chunk in this process and return what was stored."""
    made = plan(job)
    run = Segmentation(made, Silent())
    with run.opened():
        processor = run.work().open(1)
        for chunk in reversed(range(len(made.grid))):
            processor.process(chunk)
    return np.asarray(zarr.open_array(str(Path(job.output) / ARRAY), mode="r")[...])


def stored(output: str | Path) -> np.ndarray:
    """The voxels of a result."""
    return open_volume(output).array[...]
