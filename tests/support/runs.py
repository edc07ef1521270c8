"""Runs without workers, for tests of what is made of them: recorded, journalled and stored as the real job does it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from volumes import create_filled, small_spec

from pipeline.config import SegmentJob
from pipeline.geometry import Grid
from pipeline.jobs.planning import plan
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.checkpoint import CheckpointHeader, Normalisation
from pipeline.model.unet import UNet
from pipeline.model.weights import save_checkpoint
from pipeline.run.folder import RunFolder
from pipeline.run.ledger import Ledger
from pipeline.run.records import Done, Record
from pipeline.volume import ShardWriter, Space, build_pyramid, create_level, publish


def make_model(
    path: Path, *, channels: int = 1, classes: tuple[str, ...] = ("background", "cell"), outputs: int | None = None
) -> Path:
    """Save a tiny network with random weights."""
    outputs = outputs or len(classes)
    architecture = UNetArchitecture(in_channels=channels, classes=outputs, depth=2, width=2, padding="same")
    normalisation = Normalisation(mean=(100.0,) * channels, std=(50.0,) * channels)
    header = CheckpointHeader(architecture=architecture, normalisation=normalisation, classes=classes, axes="yx")
    save_checkpoint(path, UNet(architecture), header)
    return path


def make_image(path: Path, shape: tuple[int, ...], *, channels: int = 1) -> np.ndarray[Any, Any]:
    """Store and publish an image of waves, in voxels of half a micrometre."""
    space = Space("zyx"[-len(shape) :], (0.5,) * len(shape), (0.0,) * len(shape), "micrometer")
    spec = small_spec(shape, channels=channels, shard=(256,) * len(shape), space=space)
    waves = sum(np.sin(axis / 9.0) for axis in np.indices(shape))
    data = np.stack([(waves * 40 + 120 + 5 * c).astype("u1") for c in range(channels)])
    create_filled(path, spec, data)
    publish(path, name="image", axes=spec.axes, levels=build_levels(path, spec, "mean"), classes=None)
    return data


def build_levels(path: Path, spec: Any, method: Any) -> list[tuple[str, Space]]:
    return build_pyramid(path, spec, method=method, threads=1, progress=None)


def make_run(
    root: Path,
    ids: np.ndarray[Any, Any],
    *,
    states: dict[int, str] | None = None,
    sealed: bool = True,
    name: str = "out.zarr",
    classes: tuple[str, ...] = ("background", "cell"),
    **settings: Any,
) -> Path:
    """Store class ids as the result of a run whose chunks have 64 voxels an axis (or ``chunk``); returns ``OUT.zarr``.

    Args:
        root: gets the result, and ``image.zarr`` and ``model.safetensors`` where they are missing.
        ids: class ids ``([z,] y, x)``, or values with leading channels for another ``kind``.
        states: of chunks that are not done.
        sealed: whether it is complete.
        name: of the result.
        classes: their names.
        **settings: further settings of the job.
    """
    states = states or {}
    shape = ids.shape if settings.get("kind", "labels") == "labels" else ids.shape[1:]
    if not (root / "image.zarr").exists():
        make_image(root / "image.zarr", shape)
    if not (root / "model.safetensors").exists():
        make_model(root / "model.safetensors", classes=classes)
    job = SegmentJob.model_validate(
        {
            "input": str(root / "image.zarr"),
            "output": str(root / name),
            "model": str(root / "model.safetensors"),
            "chunk": (64,) * len(shape),
            "workers": 1,
            **settings,
        }
    )
    made = plan(job)
    _store(root / name, made.array, made.grid, ids, states)
    method = "mode" if made.output.kind == "labels" else "mean"
    levels = build_levels(root / name, made.array, method) if sealed and job.pyramid else [("0", made.array.space)]
    folder = RunFolder(root / name)
    details = {
        "kind": "segmentation",
        "array": "0",
        "grid": {"shape": list(made.grid.shape), "chunk": list(made.grid.chunk)},
        "settings": job.model_dump(mode="json"),
        "plan": made.describe(),
        "classes": list(classes),
        "versions": {"overtile": "0.1.0"},
        "created": "2026-05-03T14:05:00+00:00",
    }
    folder.begin(made.identity, details)
    _journal(folder, made.grid, states)
    if sealed:
        folder.seal({"state": "sealed", "root": "abcd", "sealed": "2026-05-03T14:06:05+00:00"})
        publish(
            root / name,
            name="out",
            axes=made.array.axes,
            levels=levels,
            classes=classes if method == "mode" else None,
        )
    return root / name


def _store(path: Path, spec: Any, grid: Grid, values: np.ndarray[Any, Any], states: dict[int, str]) -> None:
    writer = ShardWriter(create_level(path, "0", spec))
    for chunk in range(len(grid)):
        if states.get(chunk, "done") == "done":
            box = spec.stored_box(grid.core(chunk))
            writer.write(box, np.ascontiguousarray(values[box.slices]).astype(spec.dtype))


def _journal(folder: RunFolder, grid: Grid, states: dict[int, str]) -> None:
    done = Record(0, "done", 1, Done((), (0.1, 0.5, 0.4, 0.05)), memory=300 << 20)
    failed = Record(0, "failed", 3, error="the <network> gave NaN", kind="NonFiniteError")
    records = []
    for chunk in range(len(grid)):
        state = states.get(chunk, "done")
        if state != "pending":
            record = {"done": done, "failed": failed}.get(state, Record(0, state, 1))
            records.append(dataclasses.replace(record, chunk=chunk))
    ledger = Ledger(folder.journal, len(grid), epoch=1)
    ledger.append(records)
    ledger.close()
