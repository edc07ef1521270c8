"""Predictions and targets on disk, for tests of evaluation as a whole job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from volumes import create_filled, small_spec

from pipeline.config import EvaluateJob
from pipeline.volume import Space, publish


def save_ids(
    path: Path,
    values: np.ndarray[Any, Any],
    *,
    spacing: Sequence[float] | None = None,
    classes: Sequence[str] | None = None,
    channels: bool = False,
    shard: int = 8,
) -> Path:
    """Store ids ``([z,] y, x)``, or values with channels in front, as an OME-Zarr image in micrometres."""
    shape = values.shape[1:] if channels else values.shape
    space = Space("zyx"[-len(shape) :], tuple(spacing or (1.0,) * len(shape)), (0.0,) * len(shape), "micrometer")
    spec = small_spec(
        shape,
        channels=values.shape[0] if channels else None,
        dtype=values.dtype.name,
        shard=(shard,) * len(shape),
        space=space,
    )
    create_filled(path, spec, values)
    publish(path, name=path.stem, axes=spec.axes, levels=[("0", space)], classes=classes)
    return path


def job(root: Path, **options: Any) -> EvaluateJob:
    """The job that compares ``p.zarr`` with ``t.zarr``."""
    places = {"prediction": str(root / "p.zarr"), "target": str(root / "t.zarr")}
    return EvaluateJob.model_validate(places | options)


def class_maps(shape: tuple[int, ...], *, classes: int = 3, seed: int = 0) -> tuple[np.ndarray[Any, Any], ...]:
    """A prediction and a target in patches, alike in most voxels."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, tuple(-(-n // 4) for n in shape))
    target = np.kron(coarse, np.ones((4,) * len(shape), int))[tuple(slice(n) for n in shape)].astype("u1")
    noise = rng.integers(0, classes, shape).astype("u1")
    return np.where(rng.random(shape) < 0.2, noise, np.roll(target, 1, axis=-1)), target
