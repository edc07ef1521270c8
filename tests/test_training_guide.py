"""docs/training.md: its jobs are valid, its settings exist, its commands and pictures are there."""

import re
from pathlib import Path

import pytest
import yaml

from benchmarks.__main__ import BENCHMARKS
from pipeline.cli.main import Commands
from pipeline.config import Augmentation, CompareJob, Pair, TrainJob, losses
from pipeline.config.training import Split

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "training.md").read_text()
JOBS = re.findall(r"```yaml\n# (\S+)\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize(("name", "text"), JOBS, ids=[name for name, _ in JOBS])
def test_its_jobs_are_valid(name, text):
    model = {"job.yaml": TrainJob, "compare.yaml": CompareJob}[name]
    assert model.model_validate(yaml.safe_load(text))


def test_it_has_both_jobs():
    assert [name for name, _ in JOBS] == ["job.yaml", "compare.yaml"]


def test_every_setting_of_pairs_splits_and_augmentation_is_told():
    prose = re.sub(r"```.*?```", "", GUIDE, flags=re.DOTALL)
    told = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]+)`", prose)).lower()))
    for model in (Pair, Split, Augmentation):
        assert set(model.model_fields) <= told, model


def test_every_loss_is_told():
    kinds = {each.model_fields["kind"].default for each in _losses()}
    rows = re.findall(r"^\| `(\w+)` \| [^|]*\|[^|]*\|[^|]*\|$", GUIDE.partition("## Losses")[2], re.MULTILINE)
    assert kinds == set(rows) - {"loss"}


def test_every_command_of_its_results_is_a_benchmark():
    names = re.findall(r"^\| `(\w+)` \|", GUIDE.partition("## Results")[2], re.M)
    assert {"train_isbi", "train_mito", "train_nuclei", "train_buildings", "train_3d", "train_shapes"} <= set(
        names
    )
    assert set(names) <= set(BENCHMARKS)


def test_commands_and_links_are_there():
    known = set(Commands().list_commands(None))
    assert set(re.findall(r"overtile ([a-z]+)", GUIDE)) <= known
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", GUIDE):
        assert (ROOT / "docs" / link).exists(), link


def _losses():
    return [
        each
        for each in vars(losses).values()
        if isinstance(each, type) and "kind" in getattr(each, "model_fields", {})
    ]
