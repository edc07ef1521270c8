"""``overtile demo``: the command that runs the flows on this machine, without a server of its own."""

from __future__ import annotations

import importlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import Console, TerminalListener, print_json
from pipeline.cli.texts import duration, size, table
from pipeline.errors import InputError, OvertileError

NEEDED = 0.85
"""Mean IoU of the ellipses that the demo must reach to be called a success."""


@click.command("demo")
@click.option(
    "--out", default="demo", show_default=True, metavar="DIR", help="folder for everything that it makes"
)
@click.option("--size", "pixels", default=20480, show_default=True, metavar="N", help="pixels along each side")
@click.option(
    "--memory-limit", default=704, show_default=True, metavar="MIB", help="memory of each worker, in MiB"
)
@click.option("--steps", default=400, show_default=True, metavar="N", help="steps of training")
@click.option("--json", "as_json", is_flag=True, help="print one JSON document to stdout")
def demo_command(out: str, pixels: int, memory_limit: int, steps: int, as_json: bool) -> None:
    r"""Find ellipses among other shapes, in an image much larger than the memory given to the run.

    Paints an image, brings it into OME-Zarr, trains a U-Net (about a minute), segments, measures against the exact
    truth, and writes a report; as Prefect flows, on local Dask workers. Running it again keeps what is there.

    \b
    Example:
      overtile demo --out demo
    """
    folder, started, console = Path(out), time.monotonic(), Console()
    _check_room(folder, pixels)
    folder.mkdir(parents=True, exist_ok=True)
    flows = _flows(folder)
    demo = flows.Demo(folder, pixels, memory_limit << 20, steps)
    nbytes = demo.canvases[0].nbytes
    console.say(
        f"An image of {pixels} x {pixels} pixels x 3 channels, 16 bits: {size(nbytes)},"
        f" {nbytes / (memory_limit << 20):.1f} times the memory that each worker may use ({memory_limit} MiB)."
    )
    with TerminalListener(console) as listener:
        metrics = flows.run_demo(demo, listener)
    _finish(demo, metrics, time.monotonic() - started, console, as_json)


def _check_room(folder: Path, pixels: int) -> None:
    """Refuse before any work what cannot end well."""
    if pixels < 512:
        raise InputError(f"--size {pixels}: the shapes need at least 512 pixels")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder}: is a file; name a folder")
    parent = next(p for p in [folder, *folder.resolve().parents] if p.exists())
    needed, free = 3 * pixels * pixels * 6, shutil.disk_usage(parent).free
    if free < needed:
        raise InputError(
            f"--out {folder}: needs {size(needed)} of disk for a while, {size(free)} are free; lower --size"
        )


def _flows(folder: Path) -> Any:
    """Import the flows; Prefect is quiet, and keeps its own files in the demo's folder unless it is set up already."""
    if "PREFECT_API_URL" not in os.environ and not (Path.home() / ".prefect" / "profiles.toml").exists():
        os.environ.setdefault("PREFECT_HOME", str((folder / ".prefect").resolve()))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    # Prefect gives its temporary server 20 s to start, which is too little where the machine is slow or busy.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
    return importlib.import_module("flows.demo")


def _finish(demo: Any, metrics: dict[str, Any], seconds: float, console: Console, as_json: bool) -> None:
    """Say what was made, how good it is, how long it took and what to do next."""
    ellipse = metrics["classes"]["ellipse"]
    made = {
        "iou": ellipse["iou"],
        "dice": ellipse["dice"],
        "report": str(demo.folder / "report.html"),
        "result": str(demo.prediction),
        "model": str(demo.model),
        "metrics": str(demo.folder / "metrics.json"),
        "seconds": round(seconds, 1),
    }
    if as_json:
        print_json(made)
    else:
        console.say("\nDone.", style="bold green")
        rows = [
            (
                "ellipses",
                f"IoU {ellipse['iou']:.3f}, Dice {ellipse['dice']:.3f} on an image never seen in training",
            )
        ]
        rows += [(name, made[name]) for name in ("report", "result", "model", "metrics")]
        rows += [("took", duration(seconds)), ("next", f"overtile status {demo.prediction}")]
        console.say(table(rows))
    if ellipse["iou"] < NEEDED:
        raise OvertileError(f"the IoU of the ellipses is {ellipse['iou']:.3f}, below {NEEDED}: raise --steps")
