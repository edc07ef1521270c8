"""One run as one page: everything that it shows is in the file, so that it can be sent and opened anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.reporting import card, facts, words
from pipeline.reporting.album import Album, make_album
from pipeline.reporting.measured import Measured, check_metrics
from pipeline.reporting.page import template
from pipeline.reporting.pictures import ERROR_COLOURS, STATE_COLOURS, class_colours, data_uri, grid_picture
from pipeline.reporting.recorded import Recorded, read_run
from pipeline.reporting.seams import seam_facts
from pipeline.reporting.views import open_view
from pipeline.store import absolute, open_place

GRID_PIXELS = 520
"""Longer side of the picture of the chunks, as far as each chunk has a pixel."""

_ERRORS = {1: "rightly found", 2: "found, but not there", 3: "missed", 4: "another class", 5: "not counted"}


def make_report(output: str, *, report: str, target: str | None, metrics: Mapping[str, Any] | None) -> str:
    """Write the page of one run, complete or not; works without the input, the model and the result.

    Args:
        output: the result, ``OUT.zarr``; its run lies beside it.
        report: path or address of the HTML file to write, in one step.
        target: class ids of the result's shape, for pictures of the errors.
        metrics: what :func:`pipeline.evaluate` gave; nothing is measured here.

    Returns:
        ``report``.

    Raises:
        InputError: there is no run; the target cannot be opened; the metrics are none.
    """
    run = read_run(output)
    view = None if target is None else open_view(target)
    measured = None if metrics is None else check_metrics(metrics)
    album = make_album(
        run,
        target=view,
        ignore=measured.ignore if measured else None,
        worst=measured.worst_core(run.grid.shape) if measured and view else None,
    )
    folder, _, name = absolute(report).rpartition("/")
    page = template("report.html.j2", "report.css").render(**_content(run, album, measured), target=target)
    open_place(folder).put(name, page.encode())
    return report


def _content(run: Recorded, album: Album, measured: Measured | None) -> dict[str, Any]:
    """Return everything that the template puts in."""
    state, sentence = facts.state_text(run)
    model, amiss = card.model_facts(run)
    failed, more = facts.failures(run)
    return {
        "name": run.output.rstrip("/").rpartition("/")[2],
        "image": Path(run.settings["input"]).name,
        "model_name": Path(run.settings["model"]).name,
        "state": state,
        "state_sentence": sentence,
        "headline": _headline(run, measured),
        "tiling": facts.tiling_sentence(run),
        "classes": _classes(run, album),
        "album": album,
        "flat": len(run.grid.shape) == 2,
        "errors": _error_legend(run, measured),
        "metrics": measured,
        "chunks": _chunks(run),
        "seams": seam_facts(run),
        "failed": failed,
        "more_failed": more,
        "bars": facts.time_bars(run),
        "time_sentence": facts.time_sentence(run),
        "outcomes": facts.outcomes(run),
        "model": model,
        "model_amiss": amiss,
        "input": card.input_facts(run, album.space),
        "settings": card.settings_facts(run),
        "command": card.command(run),
        "origin": card.origin_facts(run),
        "version": run.document.get("versions", {}).get("overtile", ""),
    }


def _headline(run: Recorded, measured: Measured | None) -> list[tuple[str, str]]:
    """Return the figures that stand at the top: value, and what it is."""
    counts, total = run.ledger.counts(), run.ledger.total
    done = counts["done"] + counts["skipped"]
    rows = []
    if measured:
        rows += [(words.ratio(measured.mean_iou), "mean IoU"), (words.ratio(measured.accuracy), "accuracy")]
    rows.append((words.about(run.plan["voxels"]), "voxels"))
    rows.append((words.whole(total) if done == total else f"{words.whole(done)} / {words.whole(total)}", "chunks"))
    if (speed := facts.speed(run)) is not None:
        rows.append((speed, "voxels a second"))
    if run.ledger.memory:
        rows.append((words.size(run.ledger.memory), "peak of a worker"))
    return rows


def _classes(run: Recorded, album: Album) -> dict[str, dict[str, Any]]:
    """Return colour (None where transparent) and share (None where unknown) of each class, by name."""
    colours = class_colours(len(run.classes))
    shares: list[float | None] = [*album.shares, *[None] * len(run.classes)]
    return {
        name: {"colour": _colour(colours[i]) if colours[i, 3] else None, "share": shares[i]}
        for i, name in enumerate(run.classes)
    }


def _error_legend(run: Recorded, measured: Measured | None) -> list[tuple[str, str]]:
    """Return colour and name of what the pictures of errors tell apart."""
    codes = [1, 2, 3]
    codes += [4] if len(run.classes) > 2 else []
    codes += [5] if measured and measured.ignored else []
    return [(_colour(ERROR_COLOURS[code]), _ERRORS[code]) for code in codes]


def _chunks(run: Recorded) -> dict[str, Any]:
    """Return the picture of the grid of chunks; its gaps are transparent, to suit any background."""
    counts = run.grid.counts
    across = max(counts[-2:]) * math.ceil(math.sqrt(counts[0]) if len(counts) == 3 else 1)
    picture = grid_picture(run.states, counts, cell_px=min(44, max(1, GRID_PIXELS // across)))
    alpha = np.where((picture == 255).all(axis=-1, keepdims=True), 0, 255).astype(np.uint8)
    found = run.ledger.counts()
    return {
        "uri": data_uri(np.concatenate([picture, alpha], axis=-1)),
        "width": picture.shape[1],
        "layout": words.by(list(counts)),
        "size": words.by(list(run.grid.chunk)),
        "states": [(_colour(STATE_COLOURS[s]), s, found[s]) for s in facts.SHOWN_STATES if found[s]],
    }


def _colour(rgb: Any) -> str:
    return "#" + "".join(f"{int(v):02x}" for v in rgb[:3])
