"""Make the page of one run: the last step of the data's path as one function call."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import InputError
from pipeline.evaluation.comparison import open_class_ids
from pipeline.reporting.measured import read_metrics
from pipeline.reporting.recorded import read_run
from pipeline.reporting.report import make_report
from pipeline.run.folder import RunFolder
from pipeline.store import same_place


def report(
    output: str | Path,
    *,
    out: str | Path | None = None,
    target: str | Path | None = None,
    metrics: str | Path | None = None,
) -> str:
    """Write one self-contained HTML page of a run, complete or not. Measures nothing.

    Args:
        output: the result, ``OUT.zarr``, with its run beside it.
        out: page to write, ``.html``; None for ``report.html`` in the run's folder.
        target: class ids of the result's shape; adds pictures of the errors.
        metrics: ``metrics.json`` of an evaluation; adds its numbers.

    Returns:
        Path or address of the page.

    Raises:
        InputError: there is no run; the target has another shape or is no map of class ids; the metrics are none;
            the page cannot be written there.
    """
    run = read_run(output)
    page = _page(run.output, out)
    if target is not None:
        found = open_class_ids(str(target), role="target")
        if found.shape != run.grid.shape:
            raise InputError(
                f"target {target}: has the shape {found.shape}, the result {output} {run.grid.shape}; they must be"
                " equal"
            )
    measured = None if metrics is None else read_metrics(metrics)
    return make_report(run.output, report=page, target=None if target is None else str(target), metrics=measured)


def _page(output: str, out: str | Path | None) -> str:
    """Return where the page is written.

    Raises:
        InputError: it is no ``.html`` file, lies in the result, or has no folder.
    """
    if out is None:
        return f"{RunFolder(output).place.url}/report.html"
    page = Path(out)
    place = page.resolve()
    if page.suffix != ".html" or place.is_dir():
        raise InputError(f"--out {out}: a report is a file whose name ends in .html")
    if same_place(output, place):
        raise InputError(f"--out {out}: lies in the result {output}; choose a place outside of it")
    if not place.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {place.parent}; make it first")
    return str(page)
