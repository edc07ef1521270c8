"""``overtile plan, segment, rerun, status, verify``: the main job and what becomes of it."""

from __future__ import annotations

import time
from typing import Any

import click

import pipeline
from pipeline.cli.options import Console, TerminalListener, job_command, print_json
from pipeline.cli.texts import borders_text, count, duration, overlaps_text, size, split, table
from pipeline.config import SegmentJob
from pipeline.errors import DamageError

_ARGUMENTS = ("input", "output")


@job_command(
    SegmentJob, arguments=_ARGUMENTS, example="overtile plan slide.zarr nuclei.zarr --model nuclei.safetensors"
)
def plan_command(job: SegmentJob, as_json: bool) -> None:
    """Say what `segment` would do, without doing it: chunks, tiles, bytes, memory, time."""
    plan = pipeline.plan(job).describe()
    if as_json:
        print_json(plan)
    else:
        click.echo(_plan_text(plan))


@job_command(
    SegmentJob, arguments=_ARGUMENTS, example="overtile segment slide.zarr nuclei.zarr --model nuclei.safetensors"
)
def segment_command(job: SegmentJob, as_json: bool) -> None:
    """Segment a volume. Running it again resumes: only what is lacking is done."""
    _finish(job.output, as_json, lambda listener: pipeline.segment(job, listener=listener))


@click.command("rerun")
@click.argument("output")
@click.option("--failed", is_flag=True, help="only the chunks that failed [default: all that the run lacks]")
@click.option("--stale", is_flag=True, help="only the chunks whose input, model or libraries changed since")
@click.option("--chunks", metavar="Y/X,...", help="only these chunks, by position on the grid: 3/4,3/5")
@click.option(
    "--accept-failures",
    type=click.IntRange(min=0),
    metavar="N",
    help="publish the result, as partial, with up to N failed chunks [default: as the run recorded]",
)
@click.option("--json", "as_json", is_flag=True, help="print one JSON document to stdout")
def rerun_command(
    output: str, failed: bool, stale: bool, chunks: str | None, accept_failures: int | None, as_json: bool
) -> None:
    r"""Process chunks of a run again, with the settings that the run recorded.

    \b
    Example:
      overtile rerun nuclei.zarr --chunks 3/4,3/5
    """
    if failed + stale + (chunks is not None) > 1:
        raise click.UsageError("--failed, --stale and --chunks exclude each other")
    listed = [part.strip() for part in chunks.split(",")] if chunks else None
    _finish(
        output,
        as_json,
        lambda listener: pipeline.rerun(
            output, chunks=listed, failed=failed, stale=stale, accept_failures=accept_failures, listener=listener
        ),
    )


@click.command("status")
@click.argument("output")
@click.option("--json", "as_json", is_flag=True, help="print one JSON document to stdout")
def status_command(output: str, as_json: bool) -> None:
    r"""Say what a run has done so far, and which chunks failed.

    \b
    Example:
      overtile status nuclei.zarr --json
    """
    found = pipeline.status(output)
    if as_json:
        print_json(found)
    else:
        click.echo(_status_text(found))


@click.command("verify")
@click.argument("output")
@click.option(
    "--replay", type=click.IntRange(min=1), metavar="N", help="compute N random chunks again, and compare"
)
@click.option(
    "--repair",
    is_flag=True,
    help="make what is missing or damaged pending again; `segment` or `rerun` computes it",
)
@click.option("--json", "as_json", is_flag=True, help="print one JSON document to stdout")
def verify_command(output: str, replay: int | None, repair: bool, as_json: bool) -> None:
    r"""Compare every stored byte of a result with what its run recorded, and decode it.

    \b
    Example:
      overtile verify nuclei.zarr --replay 5
    """
    found = (pipeline.repair(output) if repair else pipeline.verify(output)).to_json()
    if replay is not None:
        found["replay"] = _replay(output, replay)
        found["ok"] = found["ok"] and not found["replay"]["differ"]
    if as_json:
        print_json(found)
    else:
        rows = [(k, v) for k, v in found.items() if not isinstance(v, dict) and v not in (None, [])]
        click.echo(table(rows + _replay_rows(found.get("replay"))))
    replayed = found.get("replay")
    if replayed and replayed["differ"]:
        raise DamageError(
            f"{output}: {replayed['differ']} of {replayed['replayed']} recomputed chunks differ from what is stored,"
            f" first {replayed['differing'][0]['position']}"
        )
    if not found["ok"]:
        counts = ", ".join(f"{n} {name}" for name, n in found["counts"].items() if n)
        what = f"{output}: {counts or 'the root digest differs from the seal'}"
        if repair:
            raise DamageError(
                f"{what}; {len(found['chunks'])} chunk(s) are pending now: `overtile rerun {output}`"
            )
        raise DamageError(f"{what}; `overtile verify --repair` makes those chunks pending again")


def _replay(output: str, count: int) -> dict[str, Any]:
    with TerminalListener() as listener:
        return pipeline.replay(output, count, listener=listener)


def _replay_rows(found: dict[str, Any] | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    rows = [
        ("replayed", f"{found['replayed']} chunks ({', '.join(found['positions'])}), {found['differ']} differ")
    ]
    return rows + [
        (f"differs {each['position']}", f"{each['voxels']:,} values, by {each['largest']:g} at most")
        for each in found["differing"][:10]
    ]


def _finish(output: str, as_json: bool, work: Any) -> None:
    """Run a job with progress, then say what was made."""
    console, started = Console(), time.monotonic()
    with TerminalListener(console) as listener:
        found = work(listener)
    if as_json:
        print_json(found)
        return
    console.say(f"{output}: {found['state']}", style="bold green")
    console.say(_status_text(found))
    console.say(f"took    {duration(time.monotonic() - started)}")
    console.say(f"next    overtile status {output} · overtile verify {output}")


def _plan_text(plan: dict[str, Any]) -> str:
    memory = plan["memory"]
    return table(
        [
            ("input", f"{plan['input']['url']}  {plan['input']['shape']} {plan['input']['dtype']}"),
            ("voxels", _voxels(plan["resolution"])),
            ("output", f"{plan['output']['url']}  {plan['output']['shape']} {plan['output']['dtype']}"),
            ("chunks", f"{plan['chunks']} of {plan['chunk']}"),
            (
                "tiles",
                f"{plan['tiles']} of {plan['tile']}, network input {plan['tile_input']}, batch {plan['batch']}",
            ),
            *_tiling_rows(plan),
            *_mask_rows(plan["mask"]),
            ("read", f"{size(plan['bytes_read'])} (decoded), {plan['read_amplification']} times the region"),
            ("written", f"{size(plan['bytes_written'])} (before compression)"),
            ("workers", f"{plan['workers']} x {plan['threads']} thread(s), {plan['device']}, {plan['precision']}"),
            ("memory", f"{size(memory['peak'])} a worker at most, limit {size(plan['memory_limit'])}"),
            ("time", f"about {duration(plan['seconds'])} by nominal rates: {count(plan['operations'])}FLOP"),
            ("run", plan["fingerprint"]),
        ]
    )


def _voxels(resolution: dict[str, Any]) -> str:
    """Say in which voxels the network sees the image."""
    extent = " x ".join(f"{size:.4g}" for size in resolution["voxel_size"])
    said = f"{extent} {resolution['unit']}" if resolution["unit"] else "of unknown size"
    factor = " x ".join(f"{f:.4g}" for f in resolution["factor"])
    made = f", each resampled from {factor} as they are read" if resolution["resampled"] else ""
    return f"level {resolution['level']}, {said}{made}"


def _tiling_rows(plan: dict[str, Any]) -> list[tuple[str, str]]:
    """Say how tiles become the whole, and why not exactly where they do not."""
    turns = [] if plan["tta"] == "none" else [("turns", f"mean over {plan['tta']} flips and turns (--tta)")]
    if plan["exact"]:
        return [("halo", f"{plan['halo']}, stride {plan['stride']}: exact, stitched equals whole"), *turns]
    rows = [("overlap", f"{plan['overlap']}, blended ({plan['blend']}): NOT exact, seams are measured")]
    return rows + [("because", reason) for reason in plan["reasons"]] + turns


def _mask_rows(mask: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Say what a mask leaves out, where one is used."""
    if mask is None:
        return []
    skipped = mask["skipped"]
    left_out = mask["known"] if skipped is None else f"{skipped} chunks ({mask['share']:.1%})"
    return [("mask", f"{mask['kind']}, {mask['shape']}; skipped: {left_out} ({mask['reason']})")]


def _seams(found: dict[str, Any]) -> list[str]:
    """Say how far overlapping tiles disagree, where they do, and what is wrong at borders, if something is."""
    overlapping = [overlaps_text(found)] if "overlapped" in found else []
    return overlapping + ([borders_text(found)] if found.get("flagged") else [])


def _status_text(found: dict[str, Any]) -> str:
    planned = f", {size(found['predicted_memory'])} planned" if found["predicted_memory"] else ""
    rows = [
        ("state", found["state"]),
        ("chunks", ", ".join(f"{found[s]} {s}" for s in ("done", "failed", "skipped", "pending") if found[s])),
        ("stored", size(found["stored_bytes"])),
        ("time", split(found["seconds"])),
        ("memory", f"{size(found['peak_memory'])} peak of a worker{planned}"),
    ]
    rows += [
        ("skipped", f"{n} of {found['total']} chunks ({n / found['total']:.1%}): {reason}")
        for reason, n in found["skipped_reasons"].items()
    ]
    rows += [("seams", text) for text in _seams(found["seams"] or {})]
    shown = found["failures"][:10]
    rows += [(f"failed {f['position']}", f"{f['attempts']} attempt(s): {f['error']}") for f in shown]
    if found["failed"] > len(shown):
        rows.append(("", f"and {found['failed'] - len(shown)} more (--json lists them)"))
    return table(rows)
