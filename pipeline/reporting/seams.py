"""What a report says of seams: a sentence, where on the grid of chunks they are, and how gaps change beside borders."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.seam_gaps import SCALES
from pipeline.reporting.pictures import STRENGTH_COLOURS, data_uri, paint_grid
from pipeline.reporting.plots import Course, Plot, step_plot
from pipeline.reporting.recorded import Recorded
from pipeline.reporting.words import percent
from pipeline.run.folder import RunFolder
from pipeline.run.seams import SEAMS

CELLS, PIXELS = 2**14, 360
"""Cells of the map at most, and about how many pixels its longer side has, as far as each cell has one."""

STRENGTHS = (2.0, 3.0, 5.0)
"""Standard deviations from which a chunk has the next colour."""

NAMES = ("too little to compare", "as elsewhere", "from 2", "from 3", "from 5 standard deviations")
"""What the colours of a map mean."""

LEAST = 16
"""Strips that a chunk must have for a colour."""


@dataclass(frozen=True, slots=True)
class SeamFacts:
    """Seams as a page shows them.

    Attributes:
        flagged: whether the run is.
        sentence: what was found.
        rows: the contrasts: borders, gap, places, share, ratio and p.
        map: data URI of the grid of chunks; None where it is not there.
        width: of it, in pixels.
        legend: colour and meaning.
        plot: mean gap at borders and beside them; None where nothing was compared.
    """

    flagged: bool
    sentence: str
    rows: tuple[tuple[str, ...], ...] = ()
    map: str | None = None
    width: int = 0
    legend: tuple[tuple[str, str], ...] = ()
    plot: Plot | None = None


def seam_facts(run: Recorded) -> SeamFacts:
    """Return what is known of a run's seams."""
    found = (run.seal or {}).get("seams")
    if found is None:
        return SeamFacts(False, _unknown(run))
    if not found["contrasts"]:
        return SeamFacts(False, "Nothing can be told of seams: " + _reasons(found) + ".")
    first = found["contrasts"][0]
    picture = _map(run, SCALES.index(first["scale"]))
    return SeamFacts(
        found["flagged"],
        _sentence(found, first),
        tuple(_row(each) for each in found["contrasts"]),
        None if picture is None else data_uri(picture),
        0 if picture is None else picture.shape[1],
        tuple(("#" + bytes(colour).hex(), name) for colour, name in zip(STRENGTH_COLOURS, NAMES, strict=True)),
        _plot(found, first["scale"]),
    )


def strengths(strips: npt.NDArray[np.float32], signs: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return the place of each chunk's colour in ``STRENGTH_COLOURS``; of a large grid, of cubes of chunks.

    Args:
        strips: those that count, on the grid of chunks.
        signs: the sum of their signs.
    """
    factor = 1
    while math.prod(-(-count // factor) for count in strips.shape) > CELLS:
        factor += 1
    for axis, count in enumerate(strips.shape):
        starts = np.arange(0, count, factor)
        strips, signs = (np.add.reduceat(each, starts, axis=axis) for each in (strips, signs))
    z = signs / np.sqrt(np.maximum(strips, 1))
    return np.where(strips < LEAST, 0, 1 + np.searchsorted(STRENGTHS, z, side="right")).astype(np.uint8)


def _map(run: Recorded, scale: int) -> npt.NDArray[np.uint8] | None:
    """Return the picture of the grid of chunks; None where the map is not there, or is not of this result."""
    try:
        stored = np.load(io.BytesIO(RunFolder(run.output).place.get(SEAMS)), allow_pickle=False)
        if str(stored["root"]) != (run.seal or {})["root"]:
            return None
        codes = strengths(stored["strips"][scale], stored["signs"][scale])
    except (FileNotFoundError, KeyError, ValueError, IndexError, OSError):
        return None
    across = max(codes.shape[-2:]) * math.ceil(math.sqrt(codes.shape[0]) if codes.ndim == 3 else 1)
    picture = paint_grid(codes, STRENGTH_COLOURS, cell_px=min(44, max(1, PIXELS // across)))
    alpha = np.where((picture == 255).all(axis=-1, keepdims=True), 0, 255).astype(np.uint8)
    return np.concatenate([picture, alpha], axis=-1)


def _unknown(run: Recorded) -> str:
    if run.seal is None:
        return "Seams are measured when the run is verified, which it is not yet."
    return f"This run was sealed before seams were measured; overtile seams {run.output} measures them."


def _reasons(found: Mapping[str, Any]) -> str:
    named = [
        f"borders of {each['borders']}s along {each['axis']}: {each['reason']}" for each in found["unmeasured"]
    ]
    return "; ".join(named) or "the result is one chunk of one tile, and has no borders"


def _sentence(found: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    where = f"borders of {first['borders']}s along {first['axis']}"
    if found["flagged"]:
        ratio = "" if first["ratio"] is None else f", {first['ratio']:.2f} times as much in the mean"
        return (
            f"The result has seams. At {where} it changes more than beside them in {percent(first['share'])} of the"
            f" places (50 % without a seam){ratio}."
        )
    return (
        f"No seam was found: no border stands out from what is beside it. The clearest are {where}, where the result"
        f" changes more in {percent(first['share'])} of the places (p {first['p']:.2g}; 50 % without a seam)."
    )


def _row(each: Mapping[str, Any]) -> tuple[str, ...]:
    ratio = "–" if each["ratio"] is None else f"{each['ratio']:.3f}"
    borders = f"{each['borders']}s along {each['axis']}"
    return (
        borders,
        each["scale"],
        f"{each['strips']:,}",
        f"{100 * each['share']:.1f} %",
        ratio,
        f"{each['p']:.2g}",
    )


def _plot(found: Mapping[str, Any], scale: str) -> Plot | None:
    """Return the mean gap at borders and beside them, a line for each kind of border and axis."""
    lines = [each for each in found["profile"] if len(each["offsets"]) > 1]
    if not lines:
        return None
    names = [f"{each['borders']}s along {each['axis']}" for each in lines]
    courses = [Course(i, tuple(each["offsets"]), tuple(each[scale])) for i, each in enumerate(lines)]
    text = f"mean {scale} gap at borders (0) and at planes beside them, of {len(lines)} kinds of borders"
    return step_plot(courses, groups=names, label=f"mean {scale} gap", text=text, across="voxels from the border")
