"""All pictures of one run: the overview, and a few places at full resolution that are chosen by rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.geometry import Box
from pipeline.reporting.camera import Camera, Marks, Seen
from pipeline.reporting.figures import (
    Figure,
    colouring,
    error_colouring,
    fitted,
    photo,
    place_text,
    scale_bar,
    wrong_pixels,
)
from pipeline.reporting.places import WINDOW, Place, borders, busiest, middles, window
from pipeline.reporting.recorded import Recorded
from pipeline.reporting.views import View
from pipeline.volume import Space

PIXELS = 1200
"""Longer side of the overview, in pixels."""

PLACES = 4
"""Places that are shown; with a target, half of them for the errors."""


@dataclass(frozen=True, slots=True)
class Detail:
    """One place at full resolution.

    Attributes:
        figure: its pictures.
        reason: why it is shown.
        chunk: position of the chunk in its middle, or of the one that it is shown for.
        mark: x, y, width and height in pixels of the overview; None where it lies in another plane.
    """

    figure: Figure
    reason: str
    chunk: str
    mark: tuple[float, float, float, float] | None


@dataclass(frozen=True, slots=True)
class Album:
    """What a report shows.

    Attributes:
        overview: the whole plane; None where the result cannot be read.
        details: places, in the order of their numbers.
        shares: share of the shown voxels that each class has, by id; empty without an overview.
        notes: what could not be shown, and why.
        space: of the result; None where it is not there.
        lacking: whether the overview shows chunks that have not been computed.
    """

    overview: Figure | None
    details: list[Detail]
    shares: list[float]
    notes: list[str]
    space: Space | None
    lacking: bool = False


def make_album(run: Recorded, *, target: View | None, ignore: int | None, worst: Box | None) -> Album:
    """Take all pictures of a run, in memory that does not grow with it.

    Args:
        run: the run; its result and its image need not be there.
        target: class ids over the result's voxels; None where there are none.
        ignore: target value that does not count.
        worst: core of the chunk with the most errors, as an evaluation found it.
    """
    camera = Camera(run, target)
    space = camera.space
    if space is None:
        return Album(None, [], [], camera.notes, None)
    whole = camera.overview(run.middle, fitted(run.middle.shape, PIXELS))
    details: list[Detail] = []
    for place in _places(run, whole, worst, ignore):
        seen = camera.close(place.box)
        if seen is not None:
            figure = _figure(f"place-{len(details) + 1}", seen, run, space, ignore)
            details.append(
                Detail(figure, place.reason, _chunk(place.about or place.box, run), _mark(place.box, whole))
            )
    if whole is None:
        return Album(None, details, [], camera.notes, space)
    overview = _figure("overview", whole, run, space, ignore)
    return Album(overview, details, _shares(whole, run), camera.notes, space, bool(whole.lacking.any()))


def _figure(name: str, seen: Seen, run: Recorded, space: Space, ignore: int | None) -> Figure:
    """Return all layers of what was seen."""
    height, width = seen.prediction.shape
    errors = None
    if seen.target is not None:
        errors = error_colouring(seen.prediction, seen.target, ignore=ignore, lacking=seen.lacking)
    return Figure(
        name,
        width,
        height,
        None if seen.image is None else photo(seen.image),
        colouring(seen.prediction, names=len(run.classes), lacking=seen.lacking),
        errors,
        scale_bar(space, seen.box.shape[-1], width),
        place_text(seen.box, space.axes),
    )


def _places(run: Recorded, whole: Seen | None, worst: Box | None, ignore: int | None) -> list[Place]:
    """Choose where to look closely: where the errors are, then where the classes meet."""
    plane = run.middle
    if whole is None:
        return [Place(box, "spread evenly") for box in middles(plane, wanted=PLACES)]
    if 2 * max(plane.shape[-2:]) <= 3 * WINDOW:  # the overview shows it all
        return []
    wrong = np.zeros(whole.lacking.shape, np.bool_)
    if whole.target is not None:
        wrong = wrong_pixels(whole.prediction, whole.target, ignore=ignore) & ~whole.lacking
    places = [Place(box, "many errors") for box in busiest(wrong, plane, wanted=PLACES // 2)]
    if worst is not None:
        first = Place(_worst_window(worst, wrong, run), "in the chunk with the most errors", worst)
        places = [first, *(place for place in places if place.box != first.box)][: PLACES // 2]
    rich = busiest(borders(whole.prediction) & ~whole.lacking, plane, wanted=PLACES)
    taken = [place.box for place in places]
    places += [Place(box, "many class borders") for box in rich if box not in taken][: PLACES - len(places)]
    return places or [Place(box, "spread evenly") for box in middles(plane, wanted=1)]


def _worst_window(core: Box, wrong: Marks, run: Recorded) -> Box:
    """Return the window with the most errors in a chunk, or its middle where the overview shows none of it."""
    plane, part = run.middle, core.intersect(run.middle)
    inside = np.zeros_like(wrong)
    if not part.is_empty:
        inside[_pixels(part, plane, wrong.shape)] = True
    found = busiest(wrong & inside, plane, wanted=1)
    if found:
        return found[0]
    whole = Box.of_shape(run.grid.shape)
    z = [(a + b) // 2 for a, b in list(core)[:-2]]
    return window(core, Box((*z, *whole.start[-2:]), (*(i + 1 for i in z), *whole.stop[-2:])))


def _pixels(part: Box, plane: Box, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the pixels of a picture of a plane that show a part of it."""
    edges = zip(list(part)[-2:], list(plane)[-2:], shape, strict=True)
    return tuple(
        slice((a - low) * m // (high - low), -(-(b - low) * m // (high - low))) for (a, b), (low, high), m in edges
    )


def _mark(box: Box, whole: Seen | None) -> tuple[float, float, float, float] | None:
    if whole is None or not whole.box.contains(box):
        return None
    scale = [m / n for m, n in zip(whole.prediction.shape, whole.box.shape[-2:], strict=True)]
    (top, bottom), (left, right) = list(box)[-2:]
    return left * scale[1], top * scale[0], (right - left) * scale[1], (bottom - top) * scale[0]


def _chunk(box: Box, run: Recorded) -> str:
    return "/".join(str((a + b) // 2 // c) for (a, b), c in zip(box, run.grid.chunk, strict=True))


def _shares(whole: Seen, run: Recorded) -> list[float]:
    shown = whole.prediction[~whole.lacking].astype(np.intp)
    counts = np.bincount(shown, minlength=len(run.classes))
    return [float(n) / max(1, shown.size) for n in counts]
