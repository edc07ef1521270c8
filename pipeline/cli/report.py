"""``overtile report``: a run as one page."""

from __future__ import annotations

import click

import pipeline


@click.command("report")
@click.argument("output")
@click.option("--out", metavar="FILE.html", help="page to write [default: report.html in the run's folder]")
@click.option("--target", metavar="TARGET.zarr", help="class ids of the same shape; adds a map of the errors")
@click.option("--metrics", metavar="METRICS.json", help="what `overtile evaluate --out` wrote; adds its numbers")
def report_command(output: str, out: str | None, target: str | None, metrics: str | None) -> None:
    r"""Make one self-contained HTML page of a run: the result, how good it is, and how it was made.

    \b
    Example:
      overtile report nuclei.zarr --target nuclei-target.zarr --metrics nuclei-metrics/metrics.json
    """
    click.echo(pipeline.report(output, out=out, target=target, metrics=metrics))
