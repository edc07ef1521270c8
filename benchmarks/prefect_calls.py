"""What Prefect costs a run: API calls, counted on the wire for more and more chunks, and seconds beside the job."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.material import checkpoint
from benchmarks.relay import relay_to
from pipeline.volume import ArraySpec, Space, create_level, publish

SIDES = (4, 16, 32)
"""Chunks along each side of the images whose calls are counted."""

REGIONS = 4
CHUNK = 32
"""Voxels along a chunk's sides: so little work that what stands around it shows."""

REPEATS = 5
BY_TIME = ("PATCH /api/artifacts/{id}", "POST /api/logs/")
"""Calls that grow with the time of a run: updates of what is shown, one a second at most, and batches of logs."""

PARTS = ("import", "begin", "work", "end", "exit")
"""Of a process: until its modules are there, until the run's first task, its tasks, until the flow returns, its end."""


def run(place: Path) -> str:
    """What Prefect costs one segment run: API calls by the number of chunks, and seconds beside the bare job."""
    with server(place / "prefect") as url:
        counts = [count_calls(place, side, url) for side in SIDES]
        runs = [measure(place, url) for _ in range(REPEATS)]
    return "\n".join([*_call_rows(counts), "", *_second_rows(runs)])


def count_calls(place: Path, side: int, url: str) -> tuple[Counter[str], float]:
    """Segment an image as a flow run in a process of its own; returns the calls, and seconds that the run took."""
    job = tiny_job(place, side)
    with relay_to(url) as relay:
        found = child("flow", job, f"http://127.0.0.1:{relay.port}/api")
    return relay.calls, found["all"]


def measure(place: Path, url: str) -> dict[str, dict[str, float]]:
    """Return the seconds of the parts of a flow run and of the bare job, on the same image."""
    return {kind: child(kind, tiny_job(place, SIDES[0]), url) for kind in ("bare", "flow")}


def tiny_job(place: Path, side: int) -> dict[str, Any]:
    """Return a job of ``side * side`` chunks, with nothing done of it yet."""
    image, output = place / f"tiny{side}.zarr", place / f"tiny{side}_out.zarr"
    for old in (output, output.with_name(f"{output.name}.run")):
        shutil.rmtree(old, ignore_errors=True)
    if not (image / "zarr.json").exists():
        shape = (CHUNK * side,) * 2
        spec = ArraySpec(shape, 1, np.dtype("u1"), (CHUNK,) * 2, (CHUNK,) * 2, Space.unscaled("yx"))
        create_level(image, "0", spec)[...] = np.random.default_rng(0).integers(0, 255, (1, *shape), np.uint8)
        publish(image, name=image.stem, axes=spec.axes, levels=[("0", spec.space)], classes=None)
    model = checkpoint(place / "tiny.safetensors", depth=2, width=2, padding="same")
    return {
        **{"input": str(image), "output": str(output), "model": str(model)},
        **{"chunk": [CHUNK] * 2, "tile": [CHUNK] * 2, "workers": 1, "threads": 1},
    }


def child(kind: Literal["flow", "bare"], job: dict[str, Any], url: str) -> dict[str, float]:
    """Run a job in a process of its own; returns the seconds of its :data:`PARTS`, of all of them, and of CPU."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    settings = {"PREFECT_API_URL": url, "PREFECT_HOME": str(Path(job["output"]).parent / "client")}
    command = [sys.executable, "-m", f"benchmarks.run_{kind}", json.dumps(job)] + [str(REGIONS)] * (kind == "flow")
    started, before = time.time(), _cpu()
    done = subprocess.run(command, env=inherited | settings, capture_output=True, text=True)
    ended = time.time()
    if done.returncode:
        raise RuntimeError(f"{kind}: {done.stderr}")
    moments = [started, *json.loads(done.stdout.splitlines()[-1]), ended]
    parts = {part: b - a for part, a, b in zip(PARTS, moments, moments[1:], strict=False)}
    return parts | {"all": ended - started, "CPU": _cpu() - before}


def _cpu() -> float:
    """Return the CPU seconds of all processes that have been started from here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def server(home: Path) -> Iterator[str]:
    """Have a Prefect server with a database in this folder; gives the address of its API."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    home.mkdir(parents=True, exist_ok=True)
    settings = {"PREFECT_HOME": str(home), "PREFECT_API_URL": url, "PREFECT_SERVER_UI_ENABLED": "false"}
    command = [str(Path(sys.executable).with_name("prefect")), "server", "start", "--port", str(port)]
    with (home / "server.log").open("wb") as log:
        running = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log)
    try:
        _wait_for(url, running)
        yield url
    finally:
        running.terminate()
        running.wait()


def _wait_for(url: str, running: subprocess.Popen[bytes]) -> None:
    while running.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError("the Prefect server does not start; see server.log in its folder")


def steady(calls: Counter[str]) -> Counter[str]:
    """Return the calls of which there are as many however long a run takes."""
    return Counter({call: count for call, count in calls.items() if call not in BY_TIME})


def _call_rows(counts: list[tuple[Counter[str], float]]) -> list[str]:
    heads = [f"{side * side:,} chunks" for side in SIDES]
    rows = [f"| API call | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for name in sorted({name for calls, _ in counts for name in calls}):
        rows.append(f"| `{name}` | {' | '.join(str(calls[name]) for calls, _ in counts)} |")
    rows.append(f"| without those by time | {' | '.join(str(steady(calls).total()) for calls, _ in counts)} |")
    return rows


def _second_rows(runs: list[dict[str, dict[str, float]]]) -> list[str]:
    rows = ["| seconds, median (range) | bare job | flow run | more |", "|---|---|---|---|"]
    for part in (*PARTS, "all", "CPU"):
        bare, flow = ([each[kind][part] for each in runs] for kind in ("bare", "flow"))
        more = [b - a for a, b in zip(bare, flow, strict=True)]
        rows.append(f"| {part} | {_span(bare)} | {_span(flow)} | {_span(more)} |")
    return rows


def _span(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"
