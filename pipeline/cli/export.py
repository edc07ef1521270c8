"""``overtile export``: a result as a file that other programs open."""

from __future__ import annotations

from typing import get_args

import click

import pipeline
from pipeline.cli.options import TerminalListener, print_json
from pipeline.cli.texts import size
from pipeline.config.values import Holes
from pipeline.volume.export.geojson import ObjectType
from pipeline.volume.export.ome_zarr import Version

_HELP = """Write a result for other programs; the target's ending names the format.

\b
.geojson .gpkg         polygons, for QuPath and QGIS
.ome.tif .ome.tiff     pyramidal OME-TIFF, for viewers
.tif .tiff             cloud-optimised GeoTIFF, for QGIS
.png                   overview with a legend
.zarr                  OME-Zarr with all levels; --ngff 0.4 for tools without Zarr v3

\b
Examples:
  overtile export nuclei.zarr nuclei.geojson --min-size 30
  overtile export nuclei.zarr for-qupath.zarr --ngff 0.4
"""


@click.command("export", help=_HELP)
@click.argument("result")
@click.argument("target")
@click.option(
    "--simplify", type=float, metavar="X", help="voxels of the result by which boundaries of polygons may move"
)
@click.option("--min-size", type=int, metavar="N", help="leave out specks: polygons of fewer voxels")
@click.option("--classes", metavar="TEXT", help="names of the class ids: background,cell [default: the result's]")
@click.option(
    "--object-type",
    type=click.Choice(get_args(ObjectType)),
    default="annotation",
    help="what QuPath takes polygons for [default: annotation]",
)
@click.option("--ngff", type=click.Choice(get_args(Version)), help="version of OME-NGFF of a .zarr [default: 0.5]")
@click.option(
    "--holes",
    type=click.Choice(get_args(Holes)),
    default="error",
    help="what chunks that failed, or are missing, are: error or background [default: error]",
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
    ngff: Version | None,
    holes: Holes,
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
            ngff=ngff,
            holes=holes,
            threads=threads,
            listener=listener,
        )
    if as_json:
        print_json(found)
        return
    polygons = f", {found['polygons']:,} polygons" if "polygons" in found else ""
    holes_are = f", {found['holes']:,} failed chunks as background" if found["holes"] else ""
    click.echo(f"{found['target']}: {size(found['bytes'])}{polygons}{holes_are}")
