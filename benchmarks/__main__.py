"""Run the benchmarks: `python -m benchmarks [NAME ...] [--keep DIR]`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import (
    evaluate,
    exactness,
    export,
    formats,
    ingest,
    isbi_measures,
    ledger,
    memory,
    million,
    prefect_calls,
    real,
    seams,
    slide,
    soak,
    train_3d,
    train_buildings,
    train_compare,
    train_data,
    train_isbi,
    train_mito,
    train_nuclei,
    training_pictures,
)

BENCHMARKS = {
    "exactness": exactness.run,
    "memory": memory.run,
    "ledger": ledger.run,
    "million": million.run,
    "prefect": prefect_calls.run,
    "isbi": real.run_isbi,
    "isbi_measures": isbi_measures.run,
    "monuseg": real.run_monuseg,
    "ingest": ingest.run,
    "formats": formats.run,
    "export": export.run,
    "seams": seams.run,
    "evaluate": evaluate.run,
    "slide": slide.run,
    "soak": soak.run,
    "train_data": train_data.run,
    "train_isbi": train_isbi.run,
    "train_mito": train_mito.run,
    "train_nuclei": train_nuclei.run,
    "train_buildings": train_buildings.run,
    "train_3d": train_3d.run,
    "train_shapes": train_compare.run_shapes,
    "train_classics": train_compare.run_classics,
    "training_pictures": training_pictures.run,
}

LONG = (
    *("soak", "train_isbi", "train_mito", "train_nuclei", "train_buildings", "train_3d"),
    *("train_shapes", "train_classics", "training_pictures"),
)
"""Those that run for most of an hour or longer, or draw pictures; only when they are named."""


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help=f"which: {', '.join(BENCHMARKS)}; all but {', '.join(LONG)} by default"
    )
    parser.add_argument("--keep", type=Path, help="folder for the volumes, kept for the next time")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    with tempfile.TemporaryDirectory() as temporary:
        place = arguments.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        for name in arguments.names or [name for name in BENCHMARKS if name not in LONG]:
            what = (BENCHMARKS[name].__doc__ or "").partition("\n")[0]
            print(f"## {name}\n\n{what}\n\n{BENCHMARKS[name](place)}\n", flush=True)


if __name__ == "__main__":
    main()
