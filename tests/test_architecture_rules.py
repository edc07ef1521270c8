"""The layers hold, and what runs without torch stays so."""

import subprocess
import sys
from pathlib import Path

import pytest

import pipeline

ROOT = Path(__file__).parents[1]


def test_import_layers_are_kept():
    found = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("command", ["plan", "status", "verify", "--help", "plan --help"])
def test_looking_needs_no_torch(command, tmp_path):
    """Each command is refused or helps here; what matters is what has been imported when it is."""
    arguments = [*command.split(), *(["in.zarr"] if command == "plan" else []), "out.zarr"]
    code = (
        "import sys; from pipeline.cli.main import run; run(sys.argv[1:]);"
        " sys.exit(bool({'torch', 'lightning', 'prefect'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_planning_imports_no_torch():
    code = (
        "import sys, pipeline; pipeline.plan, pipeline.status, pipeline.verify; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names():
    assert sorted(pipeline.__all__) == [
        "AggregateJob", "CheckJob", "CollectionJob", "CompareJob", "ConvertJob", "EvaluateJob", "ExportJob",
        "IngestJob", "OvertileError", "Pair", "SeamsJob", "SegmentJob", "TrainJob",
        "aggregate", "check_model", "collect", "compare", "convert", "evaluate", "export", "info", "ingest", "plan",
        "repair", "replay", "report", "rerun", "seams", "segment", "status", "train", "verify",
    ]  # fmt: skip
    assert all(getattr(pipeline, name) is not None for name in pipeline.__all__)
    assert set(dir(pipeline)) >= set(pipeline.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pipeline.nothing
