"""A long run on an object store that often fails, with its processes killed all the time: what is lost, what is redone?

`python -m benchmarks soak` is the long one; `python -m benchmarks.soak --chunks 300 --kills 10` a short one.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections import Counter
from pathlib import Path

# The killer and the S3 server are those of the tests: what a test shows in a minute, this shows for an hour.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from chaos import Killer, Light, done_lines
from s3 import S3Server

from pipeline.run.verify import verify

CHUNKS, KILLS, RATE = 20_000, 500, 0.1
"""Chunks at least, processes killed, and the share of requests that are answered with 503."""

DRIVERS = 50
"""One of so many kills is a driver's; each costs the time after which its lease is taken over (40 s)."""

SIDE = 16
"""Voxels along each axis of a chunk."""


def run(place: Path, *, chunks: int = CHUNKS, kills: int = KILLS, rate: float = RATE, seed: int = 1) -> str:
    """Run one job undisturbed and once under fire, and return the table of both.

    Args:
        place: folder for what the workers count.
        chunks: of each run, at least: their number is a square.
        kills: processes that are killed under fire.
        rate: share of requests that are answered with 503 under fire, from 0 to 1.
        seed: of the moments of kills and of the requests that fail.
    """
    lines = [
        "| run | chunks | worker kills | driver kills | requests | 503 | lost | recomputed | same bytes | seconds |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    drivers = math.ceil(kills / DRIVERS)
    with S3Server(patience=60, seed=seed) as server, tempfile.TemporaryDirectory(dir=place) as counted:
        _light(server, counted, "undisturbed", chunks).make_input()
        peaceful, root = _row(server, _light(server, counted, "undisturbed", chunks), 0, 0, seed, None)
        server.rate = rate
        killed, _ = _row(server, _light(server, counted, "killed", chunks), kills - drivers, drivers, seed, root)
        server.heal()
    return "\n".join([*lines, peaceful, killed])


def _light(server: S3Server, counted: str, name: str, chunks: int) -> Light:
    side = math.ceil(math.sqrt(chunks)) * SIDE
    where = server.url("in.zarr"), server.url(f"{name}.zarr"), f"{counted}/{name}"
    return Light(*where, shape=(side, side), chunk=(SIDE, SIDE))


def _row(
    server: S3Server, light: Light, workers: int, drivers: int, seed: int, root: str | None
) -> tuple[str, str]:
    """Run to the end, and return a line of the table and the root digest."""
    server.forget()
    found = Killer(light, workers=workers, drivers=drivers, seed=seed).run(math.inf)
    requests, refused = server.requests, server.failed["503"]
    rate, server.rate = server.rate, 0.0
    total, lines = len(light.grid), Counter(done_lines(light.output))
    lost = total - sum(lines[chunk] > 0 for chunk in range(total)) + len(verify(light.output).chunks)
    server.rate = rate
    cells = [
        "undisturbed" if root is None else "under fire",
        total,
        found.workers,
        found.drivers,
        requests,
        refused,
        lost,
        found.begun - total,
        "" if root is None else ("yes" if found.root == root else "NO"),
        f"{found.seconds:.0f}",
    ]
    return f"| {' | '.join(map(str, cells))} |", found.root


def main() -> None:
    """Run a soak of the asked size, and print its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--chunks", type=int, default=CHUNKS)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--rate", type=float, default=RATE, help="share of requests answered with 503")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        print(run(Path(place), chunks=asked.chunks, kills=asked.kills, rate=asked.rate, seed=asked.seed))


if __name__ == "__main__":
    main()
