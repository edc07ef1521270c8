"""``overtile ingest`` and ``overtile info``: bring volumes in, and look at them."""

from __future__ import annotations

import math
from typing import Any

import click

import pipeline
from pipeline.cli.options import Console, TerminalListener, job_command, print_json
from pipeline.cli.texts import duration, size, table
from pipeline.config import InfoJob, IngestJob


@job_command(
    IngestJob,
    arguments=("source", "output"),
    example="overtile ingest 'slices/*.tif' stack.zarr --voxel-size 50,4,4 --unit nanometer",
)
def ingest_command(job: IngestJob, as_json: bool) -> None:
    """Bring an image of any format into OME-Zarr, out of core. Running it again resumes: only what is lacking is done.

    Polygons become class ids on the grid of an image, with --like. `values` (a map from value to class id) is for the
    job file alone.
    """
    console = Console()
    with TerminalListener(console) as listener:
        found = pipeline.ingest(job, listener=listener)
    if as_json:
        print_json(found)
        return
    console.say(_info_text(found))
    console.say(_made(job, found), style="bold green")


@job_command(InfoJob, arguments=("path",), example="overtile info slide.svs --json")
def info_command(job: InfoJob, as_json: bool) -> None:
    """Say what a volume or an image file is: shape, axes, voxel size, how it is stored, whether a chunk is missing."""
    found = pipeline.info(**job.model_dump())
    if as_json:
        print_json(found)
    else:
        click.echo(_info_text(found))


def _info_text(found: dict[str, Any]) -> str:
    missing, chunks, in_zarr = found["missing_chunks"], found["stored_chunks"], found["zarr_format"] is not None
    holes = (
        f"{missing['count']:,} MISSING: {', '.join(missing['keys'])} ..." if missing["count"] else "none missing"
    )
    rows = [
        ("volume", found["url"]),
        ("format", _format(found)),
        ("shape", f"{_by(found['shape'])} ({found['axes']}) {found['dtype']}"),
        ("voxel", f"{_by(found['voxel_size'])} {found['unit'] or '(no unit)'} ({found['spatial_axes']})"),
        ("origin", f"{_by(found['translation'])} {found['unit'] or ''}".rstrip()),
        ("chunks", _chunks(found)),
        ("stored", f"{chunks:,} of {chunks + missing['count']:,} {'chunks' if in_zarr else 'files'}, {holes}"),
        ("size", f"{size(found['stored_bytes'])} stored, {size(found['bytes'])} decoded"),
        ("levels", ", ".join(f"{each['path'] or '/'}: {_by(each['shape'])}" for each in found["levels"])),
    ]
    if found["georeference"]:
        geo = found["georeference"]
        nodata = "none" if geo["nodata"] is None else geo["nodata"]
        rows.append(("crs", f"{geo['name']} ({geo['code'] or 'no code'}), nodata {nodata}"))
        rows.append(("transform", ", ".join(f"{value:.12g}" for value in geo["transform"])))
    if found["channel_names"]:
        rows.append(("channels", ", ".join(found["channel_names"])))
    if found["classes"]:
        rows.append(("classes", ", ".join(f"{i} {name}" for i, name in enumerate(found["classes"]))))
    return table(rows)


def _format(found: dict[str, Any]) -> str:
    if found["zarr_format"] is None:
        return str(found["format"])
    version = f"OME-Zarr {found['ome_version']}, " if found["ome_version"] else ""
    return f"{version}Zarr v{found['zarr_format']}"


def _chunks(found: dict[str, Any]) -> str:
    if found["chunks"] is None:
        return "read in any pieces"
    return _by(found["chunks"]) + (f" in shards of {_by(found['shards'])}" if found["shards"] else "")


def _made(job: IngestJob, found: dict[str, Any]) -> str:
    """Return the last line: what was made, how large it is, and how fast that went."""
    did, voxels = found["ingest"], math.prod(found["shape"])
    made = f"{job.output}: made of {job.source}, {voxels:,} voxels"
    if not did["bytes"]:
        return f"{made}; all of them were there already, nothing to do"
    earlier = f"; {did['resumed']} slabs were there already" if did["resumed"] else ""
    rate = f", {did['mb_per_s']:,.0f} MB/s" if did["bytes"] >= 1e6 else ""
    return f"{made}; {size(did['bytes'])} read in {duration(did['seconds'])}{rate}{earlier}"


def _by(values: list[Any]) -> str:
    return " x ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
