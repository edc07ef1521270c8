"""``overtile ingest`` and ``overtile info``: bring volumes in, and look at them."""

from __future__ import annotations

from typing import Any

import click

import pipeline
from pipeline.cli.options import Console, TerminalListener, job_command, print_json
from pipeline.cli.texts import size, table
from pipeline.config import IngestJob


@job_command(
    IngestJob,
    arguments=("source", "output"),
    example="overtile ingest 'slices/*.tif' stack.zarr --voxel-size 50,4,4 --unit nanometer",
)
def ingest_command(job: IngestJob, as_json: bool) -> None:
    """Bring an image file, slices, an .npy file or a Zarr into OME-Zarr, out of core.

    `values` (a map from value to class id) is for the job file alone.
    """
    console = Console()
    with TerminalListener(console) as listener:
        found = pipeline.ingest(job, listener=listener)
    if as_json:
        print_json(found)
        return
    console.say(f"{job.output}: made of {job.source}", style="bold green")
    console.say(_info_text(found))


@click.command("info")
@click.argument("path")
@click.option("--level", type=click.IntRange(min=0), default=0, metavar="N", help="resolution level [default: 0]")
@click.option("--axes", metavar="TEXT", help="names of the stored axes (cyx, zyx ...), where the store has none")
@click.option("--json", "as_json", is_flag=True, help="print one JSON document to stdout")
def info_command(path: str, level: int, axes: str | None, as_json: bool) -> None:
    r"""Say what a volume is: shape, axes, voxel size, how it is stored, and whether a stored chunk is missing.

    \b
    Example:
      overtile info slide.zarr --json
    """
    found = pipeline.info(path, level=level, axes=axes)
    if as_json:
        print_json(found)
    else:
        click.echo(_info_text(found))


def _info_text(found: dict[str, Any]) -> str:
    missing, chunks = found["missing_chunks"], found["stored_chunks"]
    version = f"OME-Zarr {found['ome_version']}, " if found["ome_version"] else ""
    holes = (
        f"{missing['count']:,} MISSING: {', '.join(missing['keys'])} ..." if missing["count"] else "none missing"
    )
    rows = [
        ("volume", found["url"]),
        ("format", f"{version}Zarr v{found['zarr_format']}"),
        ("shape", f"{_by(found['shape'])} ({found['axes']}) {found['dtype']}"),
        ("voxel", f"{_by(found['voxel_size'])} {found['unit'] or '(no unit)'} ({found['spatial_axes']})"),
        ("origin", f"{_by(found['translation'])} {found['unit'] or ''}".rstrip()),
        ("chunks", _by(found["chunks"]) + (f" in shards of {_by(found['shards'])}" if found["shards"] else "")),
        ("stored", f"{chunks:,} of {chunks + missing['count']:,} chunks, {holes}"),
        ("size", f"{size(found['stored_bytes'])} stored, {size(found['bytes'])} decoded"),
        ("levels", ", ".join(f"{each['path'] or '/'}: {_by(each['shape'])}" for each in found["levels"])),
    ]
    if found["georeference"]:
        geo = found["georeference"]
        nodata = "none" if geo["nodata"] is None else geo["nodata"]
        rows.append(("crs", f"{geo['name']} ({geo['code'] or 'no code'}), nodata {nodata}"))
        rows.append(("transform", ", ".join(f"{value:.12g}" for value in geo["transform"])))
    if found["classes"]:
        rows.append(("classes", ", ".join(f"{i} {name}" for i, name in enumerate(found["classes"]))))
    return table(rows)


def _by(values: list[Any]) -> str:
    return " x ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
