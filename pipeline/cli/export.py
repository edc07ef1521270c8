"""``overtile export``: a result as a file that other programs open."""

from __future__ import annotations

import click

import pipeline
from pipeline.cli.options import TerminalListener, job_command, print_json
from pipeline.cli.texts import size
from pipeline.config import ExportJob


@job_command(
    ExportJob,
    arguments=("result", "target"),
    example="overtile export nuclei.zarr nuclei.geojson --min-size 30",
)
def export_command(job: ExportJob, as_json: bool) -> None:
    r"""Write a result for other programs; the target's ending names the format.

    \b
    .geojson .gpkg         polygons, for QuPath and QGIS
    .ome.tif .ome.tiff     pyramidal OME-TIFF, for viewers
    .tif .tiff             cloud-optimised GeoTIFF, for QGIS
    .png                   overview with a legend
    .zarr                  OME-Zarr with all levels; --ngff 0.4 for tools without Zarr v3
    """
    with TerminalListener() as listener:
        found = pipeline.export(job, listener=listener)
    if as_json:
        print_json(found)
        return
    polygons = f", {found['polygons']:,} polygons" if "polygons" in found else ""
    holes_are = f", {found['holes']:,} failed chunks as background" if found["holes"] else ""
    click.echo(f"{found['target']}: {size(found['bytes'])}{polygons}{holes_are}")
