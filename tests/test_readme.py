"""What the README says is run: every command, the job file and the Python block, in their order, on a small image."""

import re
import shlex
from pathlib import Path

import pytest

from flows.paint import Canvas, paint
from pipeline.cli.main import run

README = (Path(__file__).parents[1] / "README.md").read_text()
FEWER = """
architecture: {in_channels: 3, classes: 2, depth: 4, width: 4, padding: same, norm: batch}
patch: [64, 64]
steps: 30
threads: 1
"""


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
def test_the_readme_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paint(
        Canvas(Path("slide.tif"), Path("slide_truth.zarr"), 512, seed=5), processes=1, on_progress=lambda _: None
    )
    (job,) = blocks("yaml")
    Path("job.yaml").write_text(job + FEWER)
    commands = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
    ingest = next(c for c in commands if " ingest " in c)
    train = next(c for c in commands if " train " in c)
    for command in [ingest, train, *(c for c in commands if c not in (ingest, train))]:
        words = shlex.split(command, comments=True)
        assert words[0] == "overtile"
        assert run(words[1:]) == 0, command
    (code,) = blocks("python")
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["status"]["state"] == "sealed"


def test_links_lead_somewhere():
    root = Path(__file__).parents[1]
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (root / link).exists(), link
