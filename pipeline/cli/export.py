"""``overtile export``: a result as a file that other programs open."""

from __future__ import annotations

from typing import get_args

import click

import pipeline
from pipeline.cli.options import TerminalListener, print_json
from pipeline.cli.texts import size
from pipeline.volume.export.geojson import ObjectType

_HELP = """Write a result as one file, whose ending names the format.

\b
.geojson .gpkg         polygons, for QuPath and QGIS
.ome.tif .ome.tiff     pyramidal OME-TIFF, for viewers
.tif .tiff             cloud-optimised GeoTIFF, for QGIS
.png                   overview with a legend

\b
Example:
  overtile export nuclei.zarr nuclei.geojson --min-size 30
"""


@click.command("export", help=_HELP)
@click.argument("result")
@click.argument("target")
@click.option("--simplify", type=float, metavar="X", help="voxels by which boundaries of polygons may move")
@click.option("--min-size", type=int, metavar="N", help="leave out polygons of fewer voxels")
@click.option("--classes", metavar="TEXT", help="names of the class ids: background,cell [default: the result's]")
@click.option(
    "--object-type",
    type=click.Choice(get_args(ObjectType)),
    default="annotation",
    help="what QuPath takes polygons for [default: annotation]",
)
@click.option("--threads", type=int, default=2, metavar="N", help="chunks at work at once [default: 2]")
@click.option("--json", "as_json", is_flag=True, help="print one JSON document to stdout")
def export_command(
    result: str,
    target: str,
    simplify: float | None,
    min_size: int | None,
    classes: str | None,
    object_type: ObjectType,
    threads: int,
    as_json: bool,
) -> None:
    """Run the command."""
    with TerminalListener() as listener:
        found = pipeline.export(
            result,
            target,
            simplify=simplify,
            min_size=min_size,
            classes=None if classes is None else [name.strip() for name in classes.split(",")],
            object_type=object_type,
            threads=threads,
            listener=listener,
        )
    if as_json:
        print_json(found)
        return
    polygons = f", {found['polygons']:,} polygons" if "polygons" in found else ""
    click.echo(f"{found['target']}: {size(found['bytes'])}{polygons}")
