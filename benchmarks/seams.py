"""Seams that were planted, and none: how well they are found, and how often the finding is wrong (docs/seams.md).

Electron microscopy (ISBI 2012, EPFL) and a small network that is trained here for some minutes, on slices that are not
looked at afterwards. Every run goes through all phases; exact runs differ in slices, chunk, tile and what they store.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from scipy.special import expit

import pipeline
from benchmarks.real import _ingest, _links
from benchmarks.seam_plants import EXACT, PLANTS, Plant, carry_out
from benchmarks.training import budget, data_folder, skipped, table, trained
from pipeline.config import SeamsJob, SegmentJob

NETWORK = {"in_channels": 1, "classes": 1, "depth": 4, "width": 12, "padding": "same", "norm": "batch"}

LEARNT = range(12)
"""Slices of ISBI 2012 that are learnt from."""

VOLUMES = {
    "planted": ("em_isbi2012/image", [f"{i:02d}.png" for i in range(12, 24)]),
    "unlabelled": ("em_isbi2012/test_image_nolabel", [f"{i:02d}.png" for i in range(6)]),
    "later": ("em_isbi2012/test_image_nolabel", [f"{i:02d}.png" for i in range(15, 21)]),
    "epfl": ("em_epfl6/slices", [f"training{i:04d}.png" for i in (0, 9, 16)]),
}
"""Slices that are looked at; seams are planted in the first ones. (Other slices of EPFL are stored in colour.)"""

SIZE = (128, 64)
"""Chunk and tile, in the plane, of planted runs."""

SIZES = (SIZE, (256, 64))
"""Those of exact runs."""

CUTS = ((96, 48), (160, 80), (192, 64), (224, 112), (256, 128), (384, 96))
"""Other sizes, by which exact results are measured as well: an exact run gives the same voxels in any."""

STORED = ("labels", "probabilities", "logits")


def run(place: Path) -> str:
    """Seams: planted ones that are found, and false alarms of exact runs."""
    lacking = [name for name in ("em_isbi2012", "em_epfl6") if data_folder(name) is None]
    if lacking:
        return skipped(lacking[0])
    folder = place / "seams"
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    trained(folder, prepare(folder))
    for name, (source, slices) in VOLUMES.items():
        _stack(source, slices, folder / name)
    return "\n\n".join([planted(folder), exact(folder)])


def prepare(folder: Path) -> dict[str, Any]:
    """Bring the slices that are learnt into volumes, and return the job."""
    for kind in ("image", "label"):
        options = {"classes": ("interior", "membrane"), "values": {0: 1, 255: 0}} if kind == "label" else {}
        _stack(f"em_isbi2012/{kind}", [f"{i:02d}.png" for i in LEARNT], folder / f"train_{kind}", **options)
    return {
        "pairs": [{"image": str(folder / "train_image.zarr"), "target": str(folder / "train_label.zarr")}],
        "classes": ("interior", "membrane"),
        "architecture": NETWORK,
        "patch": (160, 160),
        "batch": 4,
        "loss": "cross_entropy",
        "learning_rate": 0.005,
        "precision": "bfloat16",
        "split": "none",
        "augment": True,
        **budget("seams"),
    }


def planted(folder: Path) -> str:
    """Plant every seam in a stack, as each kind of result, and say how far it is from the exact one."""
    rows = []
    for plant in (EXACT, *PLANTS):
        found = [carry_out(_job(folder, "planted", SIZE, kind, plant), plant)["seams"] for kind in STORED]
        rows.append([plant.name, *_deviation(folder, plant), *map(_told, found)])
        print(f"  {rows[-1]}", flush=True)
    return table(["planted", "largest difference of p", "other class", *STORED], rows)


def exact(folder: Path) -> str:
    """Exact runs of every volume in some sizes, and their results cut otherwise; none may be flagged."""
    rows = []
    for volume, kind in itertools.product(VOLUMES, STORED):
        runs = [carry_out(_job(folder, volume, size, kind, EXACT))["seams"] for size in SIZES]
        output = _job(folder, volume, SIZE, kind, EXACT).output
        cuts = [pipeline.seams(_cut(output, chunk, tile, kind)) for chunk, tile in CUTS]
        rows.append([volume, kind, len(runs), len(cuts), *_alarms(runs + cuts)])
        print(f"  {rows[-1]}", flush=True)
    names = ["volume", "stored", "runs", "cut otherwise", "flagged", "contrasts", "least p", "deviation of z"]
    return table(names, rows)


def _alarms(found: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return how many of some findings are flagged, their contrasts, the least p and the deviation of z."""
    contrasts = [each for one in found for each in one["contrasts"]]
    flagged = sum(one["flagged"] for one in found)
    least = min(each["p"] for each in contrasts)
    spread = np.std([each["z"] for each in contrasts])
    return str(flagged), str(len(contrasts)), f"{least:.2g}", f"{spread:.2f}"


def _job(folder: Path, volume: str, size: tuple[int, int], kind: str, plant: Plant) -> SegmentJob:
    name = "_".join([volume, plant.name.replace(" ", "-"), *map(str, size), kind])
    chunk, tile = size
    return SegmentJob.model_validate(
        {
            "input": str(folder / f"{volume}.zarr"),
            "output": str(folder / "runs" / f"{name}.zarr"),
            "model": str(folder / "model.safetensors"),
            "chunk": (1, chunk, chunk),
            "tile": (1, tile, tile),
            "kind": kind,
            "pixel_size": "any",
            "pyramid": False,
            "workers": 1,
            "threads": 1,
        }
    )


def _cut(output: str, chunk: int, tile: int, kind: str) -> SeamsJob:
    """Return the job that measures a result as if its chunks and tiles were others."""
    return SeamsJob.model_validate(
        {
            "volume": output,
            "chunk": (1, chunk, chunk),
            "tile": (1, tile, tile),
            "stride": (1, 8, 8),
            "kind": kind,
        }
    )


def _deviation(folder: Path, plant: Plant) -> tuple[str, str]:
    """Return how far a planted run is from the exact one: the largest difference, and the share of other classes."""
    true, other = (
        np.asarray(zarr.open_array(f"{_job(folder, 'planted', SIZE, 'logits', each).output}/0", mode="r")[...])
        for each in (EXACT, plant)
    )
    largest = float(np.abs(expit(true) - expit(other)).max())
    return f"{largest:.2g}", f"{100 * ((true >= 0) != (other >= 0)).mean():.2g} %"


def _told(seams: Mapping[str, Any]) -> str:
    """Return whether a run is flagged, and the clearest contrast."""
    first = seams["contrasts"][0]
    word = "**found**" if seams["flagged"] else "silent"
    return (
        f"{word}: {first['share']:.3f}, p {first['p']:.1g} ({first['borders']} {first['axis']}, {first['scale']})"
    )


def _stack(source: str, names: Sequence[str], volume: Path, **options: Any) -> None:
    """Bring some slices of a set of images into a volume."""
    name, _, folder = source.partition("/")
    found = data_folder(name)
    assert found is not None, name
    _links(volume, [found / folder / each for each in names])
    _ingest(volume, volume.with_suffix(".zarr"), **options)
