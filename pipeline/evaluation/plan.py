"""The plan of an evaluation: what is compared and measured, in which chunks, settled and checked before any work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config import EvaluateJob
from pipeline.errors import InputError
from pipeline.evaluation.areas import PolygonAreas, VolumeAreas, open_areas
from pipeline.evaluation.boundaries import Outline
from pipeline.evaluation.comparison import Comparison, open_comparison
from pipeline.evaluation.measures import MOST_CLASSES, Areas, Classes, Measure, Probabilities
from pipeline.evaluation.object_measures import Boundary, Instances, Isbi
from pipeline.evaluation.reading import ReadSpec, VolumeSpec
from pipeline.geometry import Grid
from pipeline.run.fingerprint import fingerprint
from pipeline.run.folder import EVALUATION
from pipeline.store import absolute
from pipeline.volume import Volume
from pipeline.volume.mask.auto import open_foreground
from pipeline.volume.mask.foreground import Foreground, Subject
from pipeline.volume.mask.stored import Area, MaskSpec
from pipeline.volume.sources.reading import DEFAULT

ALGORITHM = 1
"""Raised when a new version finds other statistics of the same volumes."""

MOST_CHUNKS = 1 << 17
"""Chunks beyond which those that the prediction is stored in are joined."""

MOST_SLICE = 1 << 28
"""Voxels of the largest slice that is measured whole."""

MOST_SLICES = 1 << 26
"""Voxels of slices that are read at once, about."""

BOUND = 5
"""Times the greatest tolerance up to which distances are told apart, where nobody says it."""

LEAST_BOUND = 10
"""Voxels up to which they are, at least."""


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What an evaluation will do.

    Attributes:
        job: the settings.
        pair: what is compared.
        grid: chunks of the whole prediction.
        measures: what is measured.
        halo: voxels around a core that the measures need, along each axis.
        foreground: outside of which nothing is compared; None where all is.
        areas: that are measured apart; None where none are.
    """

    job: EvaluateJob
    pair: Comparison
    grid: Grid
    measures: tuple[Measure, ...]
    halo: tuple[int, ...]
    foreground: Foreground | None
    areas: PolygonAreas | VolumeAreas | None

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the statistics but the volumes' content, which each chunk knows; JSON-ready."""
        pair, job = self.pair, self.job
        return {
            "kind": EVALUATION,
            "algorithm": ALGORITHM,
            "prediction": _volume(pair.prediction),
            "target": _volume(pair.target),
            "offset": list(pair.offset),
            "region": str(pair.box),
            "holds": pair.kind,
            "classes": None if pair.names is None else list(pair.names),
            "ignore": job.ignore,
            "holes": job.holes,
            "within": None if self.foreground is None else self.foreground.identity,
            "groups": None if self.areas is None else self.areas.identity,
            "measures": [each.name for each in self.measures],
            "threshold": job.threshold if pair.kind == "probabilities" else None,
            "boundary": _described(job, pair.prediction),
            "isbi": job.isbi,
            "iou": list(job.iou) if job.instances else None,
            "resamples": job.resamples,
            "chunk": list(self.grid.chunk),
        }

    @property
    def fingerprint(self) -> str:
        """Digest of :attr:`identity`."""
        return fingerprint(self.identity)

    @property
    def mask_area(self) -> Area:
        """What a mask is asked about: all chunks."""
        return Area(self.pair.prediction.shape, self.pair.prediction.box, self.grid)

    @property
    def outside(self) -> npt.NDArray[np.bool_]:
        """For each chunk, whether it holds nothing of what is compared."""
        found = np.ones(self.grid.counts, np.bool_)
        found[
            tuple(slice(a // c, -(-b // c)) for (a, b), c in zip(self.pair.box, self.grid.chunk, strict=True))
        ] = False
        return found.reshape(-1)

    def source(self, mask: str | None) -> ReadSpec:
        """Return how chunks are read.

        Args:
            mask: address of the run's mask; None where there is none.
        """
        pair, job = self.pair, self.job
        return ReadSpec(
            VolumeSpec(absolute(job.prediction), job.level, "error"),
            VolumeSpec(absolute(job.target), job.target_level, pair.target.holes),
            pair.offset,
            pair.box,
            self.halo,
            job.ignore,
            job.holes == "skip",
            job.threshold,
            None if mask is None else MaskSpec(mask, pair.prediction.shape),
            self.areas,
        )


def plan_evaluation(job: EvaluateJob) -> EvaluationPlan:
    """Settle what an evaluation does; no voxel of the volumes is read.

    Raises:
        InputError: the volumes, the mask, the areas or the settings cannot be used; says what to change.
    """
    pair = open_comparison(job)
    areas = None if job.groups is None else open_areas(job.groups, job.group_attribute, pair.prediction)
    measures = _measures(job, pair, areas)
    halo = (0,) * pair.box.ndim if job.boundary is None else _outline(job, pair.prediction).halo
    foreground = None if job.within is None else _foreground(job.within, job, pair)
    return EvaluationPlan(job, pair, _grid(job, pair), measures, halo, foreground, areas)


def _measures(job: EvaluateJob, pair: Comparison, areas: PolygonAreas | VolumeAreas | None) -> tuple[Measure, ...]:
    objects = pair.kind == "instances"
    classes = Classes(None if pair.names is None else len(pair.names), objects)
    found: list[Measure] = [classes]
    if areas is not None:
        found.append(Areas(classes, areas.labels))
    if pair.kind == "probabilities":
        found.append(Probabilities(max(2, pair.prediction.channels)))
    if job.boundary is not None:
        found.append(Boundary(_outline(job, pair.prediction), job.boundary, objects))
    if objects:
        found.append(Instances(job.iou))
    if job.isbi is not None:
        most = MOST_CLASSES if pair.names is None else len(pair.names)
        if job.isbi >= most:
            raise InputError(f"--isbi {job.isbi}: is no class; class ids are 0 to {most - 1}")
        found.append(Isbi(job.isbi))
    return tuple(found)


def _outline(job: EvaluateJob, prediction: Volume) -> Outline:
    assert job.boundary is not None
    spacing = prediction.space.voxel_size
    bound = job.boundary_bound or max(BOUND * max(job.boundary), LEAST_BOUND * max(spacing))
    return Outline(spacing, bound, job.boundary_width)


def _described(job: EvaluateJob, prediction: Volume) -> dict[str, Any] | None:
    if job.boundary is None:
        return None
    outline = _outline(job, prediction)
    return {"tolerances": list(job.boundary), **asdict(outline), "spacing": list(outline.spacing)}


def _foreground(within: str, job: EvaluateJob, pair: Comparison) -> Foreground:
    if within in ("auto", "none"):
        raise InputError(f"--within {within}: name a mask volume, or polygons")
    subject = Subject(pair.prediction, pair.prediction.box, job.prediction, DEFAULT)
    return open_foreground(within, subject)


def _grid(job: EvaluateJob, pair: Comparison) -> Grid:
    """Return the chunks: as asked, or as the prediction is stored.

    Raises:
        InputError: a chunk of other axes, or one that cuts slices which must be whole.
    """
    shape, axes = pair.prediction.shape, pair.prediction.space.axes
    if job.chunk is not None and len(job.chunk) != len(shape):
        raise InputError(f"--chunk has {len(job.chunk)} lengths, but the volumes have the axes {','.join(axes)}")
    if job.isbi is not None:
        return pair.grid(_slices(job, pair))
    return pair.grid(job.chunk or _joined(pair.stored_chunk, shape))


def _slices(job: EvaluateJob, pair: Comparison) -> tuple[int, ...]:
    """Return a chunk of whole slices: a slice floods together, and is never cut."""
    shape = pair.prediction.shape
    plane = shape[-2:]
    size = math.prod(pair.box.shape[-2:])
    if size > MOST_SLICE:
        raise InputError(
            f"--isbi: a slice of {pair.box.shape[-2]} x {pair.box.shape[-1]} pixels is measured whole, and at most"
            f" {MOST_SLICE:,} pixels are; give a --region"
        )
    if job.chunk is not None:
        if any(c < n for c, n in zip(job.chunk[-2:], plane, strict=True)):
            raise InputError(
                f"--chunk {','.join(map(str, job.chunk))}: cuts slices, and --isbi measures them whole; give"
                f" {plane[0]},{plane[1]} along y and x, or leave --chunk out"
            )
        return job.chunk
    deep = max(1, min(pair.prediction.pieces[0], MOST_SLICES // size))
    return plane if len(shape) == 2 else (deep, *plane)


def _joined(chunk: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """Return chunks that are joined, the shortest axis first, until there are not too many."""
    found = [min(c, n) for c, n in zip(chunk, shape, strict=True)]
    while math.prod(-(-n // c) for n, c in zip(shape, found, strict=True)) > MOST_CHUNKS:
        axis = min((i for i, n in enumerate(shape) if found[i] < n), key=lambda i: found[i])
        found[axis] = min(2 * found[axis], shape[axis])
    return tuple(found)


def _volume(volume: Volume) -> dict[str, Any]:
    return {"path": absolute(volume.url), "level": volume.level, "array": fingerprint(volume.metadata)}
