"""Evaluations of runs without workers: several models on several volumes, as `overtile evaluate` leaves them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from runs import make_image, make_model, make_run
from volumes import save

import pipeline
from pipeline.config import EvaluateJob
from pipeline.evaluation.chunk_counts import ChunkCounts
from pipeline.evaluation.record import Evaluation, Measured
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.evaluation.table import StatisticsTable
from pipeline.geometry import Grid
from pipeline.run.summary import RunSummary

NAMES = ("background", "cell")
SHAPE = (128, 192)


def truth(seed: int) -> np.ndarray[Any, Any]:
    """Class ids with cells of 12 voxels, in places of their own for each seed."""
    coarse = np.random.default_rng(seed).random((SHAPE[0] // 12 + 1, SHAPE[1] // 12 + 1)) < 0.4
    return np.kron(coarse, np.ones((12, 12)))[: SHAPE[0], : SHAPE[1]].astype("u1")


def spoiled(ids: np.ndarray[Any, Any], share: float, seed: int) -> np.ndarray[Any, Any]:
    """The same with a share of its voxels wrong."""
    return np.where(np.random.default_rng(seed).random(ids.shape) < share, 1 - ids, ids).astype("u1")


def seal_at(output: Path, day: int) -> None:
    """Say in the seal that a run was sealed on this day of May."""
    path = output.with_name(output.name + ".run") / "seal.json"
    sealed = datetime.fromisoformat("2026-05-01T15:00:00+00:00") + timedelta(days=day)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sealed": sealed.isoformat(), "root": f"r{day}"}))
    run = output.with_name(output.name + ".run") / "run.json"
    created = (sealed - timedelta(minutes=7)).isoformat()
    run.write_text(json.dumps(json.loads(run.read_text()) | {"created": created}))


def make_models(root: Path, names: Sequence[str] = ("first", "second")) -> list[Path]:
    """Tiny checkpoints, each another one."""
    return [make_model(root / f"{name}.safetensors", classes=NAMES) for name in names]


def make_measured_run(
    root: Path, volume: int, model: Path, *, wrong: float, day: int, name: str, **settings: Any
) -> Path:
    """A sealed run of one model on one volume, with a share of wrong voxels, and its evaluation in ``NAME-metrics``.

    The volume's image and target are made where they are missing. Returns the evaluation's folder.
    """
    folder = root / f"volume{volume}"
    folder.mkdir(exist_ok=True)
    ids = truth(volume)
    if not (folder / "target.zarr").exists():
        make_image(folder / "image.zarr", SHAPE)
        save(folder / "target.zarr", ids, "yx", chunks=64)
    prediction = spoiled(ids, wrong, seed=volume)
    output = make_run(folder, prediction, name=f"{name}.zarr", model=str(model), **settings)
    seal_at(output, day)
    out = folder / f"{name}-metrics"
    pipeline.evaluate(EvaluateJob(prediction=str(output), target=str(folder / "target.zarr"), out=str(out)))
    return out


def make_archive(root: Path) -> Path:
    """Twelve runs of two models on four volumes: the second model is better, and was run again with other settings."""
    first, second = make_models(root)
    for volume in range(4):
        harder = 0.02 * volume
        make_measured_run(root, volume, first, wrong=0.10 + harder, day=1, name="first")
        make_measured_run(root, volume, second, wrong=0.08 + harder, day=2, name="second")
        make_measured_run(root, volume, second, wrong=0.05 + harder, day=3, name="again", tta="flips")
    return root


def evaluation(
    counts: Sequence[Sequence[Sequence[int]]],
    *,
    source: str = "e",
    model: str | None = "m",
    target: str | None = "t",
    sealed: str | None = "2026-05-03T14:05:00+00:00",
    **measured: Any,
) -> Evaluation:
    """An evaluation in memory: counts of chunks by ``[chunk, target class, prediction class]``."""
    array = np.array(counts, np.int64)
    names = tuple(measured.pop("names", ("a", "b", "c")[: array.shape[1]]))
    grid = measured.pop("grid", f"{len(array)} chunks")
    ignored = measured.pop("ignored", 0)
    run = None if model is None else summary(model=model, sealed=sealed)
    told = Measured(
        prediction=f"/p/{source}.zarr",
        target=f"/data/{target}.zarr",
        ignored=ignored,
        classes={name: {} for name in names},
        confusion=tuple(map(tuple, array.sum(axis=0).tolist())),
        target_identity=target,
        run=run,
        **{"region": None, "ignore": None} | measured,
    )
    return Evaluation(source, told, ChunkCounts(names, array, ignored, len(array), grid))


def summary(*, model: str = "m", sealed: str | None = None, **changes: Any) -> RunSummary:
    """A run in memory; the model's name is its digest and its file."""
    fields = {
        "id": f"run of {model}",
        "output": f"/r/{model}.zarr",
        "fingerprint": "f",
        "state": "sealed" if sealed else "incomplete",
        "root": "root",
        "created": "2026-05-03T14:00:00+00:00",
        "sealed": sealed,
        "input": "/data/image.zarr",
        "model": f"/models/{model}.safetensors",
        "model_digest": f"sha256:{model}",
        "settings": {"tta": "none", "output": f"/r/{model}.zarr"},
        "workers": 2,
        "chunks": {"total": 4, "done": 3, "failed": 0, "skipped": 1, "pending": 0},
        "voxels": 3000,
        "seconds": {"read": 1.0, "wait": 0.5, "compute": 4.0, "write": 1.0},
    }
    return RunSummary.model_validate(fields | changes)


def write_statistics(
    path: Path, counts: Sequence[Any], names: Sequence[str], *, ignored: int = 0, edge: int = 10
) -> None:
    """A statistics.parquet of chunks side by side."""
    grid = Grid((edge, edge * len(counts)), (edge, edge))
    with StatisticsTable(path, names) as table:
        for number, each in enumerate(counts):
            statistics = ConfusionStatistics(np.array(each), ignored if number == 0 else 0)
            table.add(number, grid.position(number), grid.core(number), statistics)
