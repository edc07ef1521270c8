"""What is refused before the first step: by name, with exit code 2, and nothing is written."""

import json

import numpy as np
import pytest
import yaml

from flows.shapes import CLASS_NAMES, render
from pipeline.cli.main import run
from pipeline.config import Pair, TrainJob
from pipeline.errors import InputError
from pipeline.jobs.training import train
from pipeline.model.checkpoint import read_header

NETWORK = {"in_channels": 3, "classes": 1, "depth": 2, "width": 2, "padding": "same"}
IMAGE, TARGET = render((0, 0), (96, 96), seed=1)


def job(pairs, tmp_path, **changes):
    values = {
        "pairs": pairs,
        "output": str(tmp_path / "out" / "model.safetensors"),
        "architecture": NETWORK,
        "classes": CLASS_NAMES,
        "patch": (16, 16),
        "steps": 2,
        "threads": 1,
    }
    return TrainJob.model_validate(values | changes)


def damaged(make_pair, how):
    image, target = IMAGE.astype("f4"), TARGET.copy()
    match how:
        case "another shape":
            return make_pair(image, target[:64])
        case "nothing labelled":
            return make_pair(image, np.full_like(target, 9))
        case "one class":
            return make_pair(image, np.zeros_like(target))
        case "a class too many":
            target[50, 50] = 2
        case "NaN":
            image[1, 70, 30] = np.nan
    return make_pair(image, target)


@pytest.mark.parametrize(
    ("how", "changes", "message"),
    [
        ("another shape", {}, r"pairs\.0 .*has \(96, 96\) voxels along yx, the target \(64, 96\)"),
        ("nothing labelled", {"ignore": 9}, r"pairs\.0 .*no voxel of the target is labelled"),
        ("one class", {}, r"hold nothing but 'background'"),
        ("a class too many", {}, r"pairs\.0 .*holds the value 2, but there are 2 classes"),
        ("NaN", {}, r"pairs\.0 .*the image holds NaN or infinity"),
        ("NaN", {"cache": 1}, r"pairs\.0 .*the image holds NaN or infinity"),
        ("whole", {"patch": (128, 128)}, r"pairs\.0 .*less than a patch of \(128, 128\); the largest patch is 96,96"),
        ("whole", {"split": {"by": "volume"}}, r"there is only 1 volume with labels, so one side would be empty"),
        ("whole", {"split": {"by": "block", "guard": 96}}, r"no labelled voxel is left to learn from"),
        ("whole", {"precision": "float16", "device": "cpu"}, r"float16 is for GPUs; on a CPU take bfloat16"),
        ("whole", {"loggers": "csv,wandb"}, r"loggers: wandb needs the package wandb.*pip install 'overtile\[wandb\]'"),
    ],
)  # fmt: skip
def test_bad_data_are_refused_before_the_first_step(make_pair, tmp_path, how, changes, message):
    with pytest.raises(InputError, match=message):
        train(job([damaged(make_pair, how)], tmp_path, **changes))
    assert not (tmp_path / "out").exists()


def test_the_command_leaves_with_2(make_pair, tmp_path, capsys):
    bad = job([damaged(make_pair, "one class")], tmp_path)
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(bad.model_dump(mode="json")))
    assert run(["train", "--config", str(tmp_path / "job.yaml")]) == 2
    assert "error: the targets hold nothing but 'background'" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_pairs_of_different_kinds_are_refused(make_pair, tmp_path):
    pairs = [make_pair(IMAGE, TARGET), make_pair(IMAGE[:1], TARGET)]
    with pytest.raises(InputError, match=r"pairs\.1 .*has 1 channel\(s\)"):
        train(job(pairs, tmp_path, architecture=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": {"by": "none", "folds": 3}}, "3 folds are measured on parts of the pairs"),
        ({"loss": "border_cross_entropy"}, "made of instance ids: say what becomes of them"),
        ({"instances": "three_class"}, "instances: three_class makes 3 classes, but 2 are named"),
        ({"validation": [{"image": "i", "target": "t"}], "split": "block"}, "give one"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        job([{"image": "i", "target": "t"}], tmp_path, **changes)


def test_a_dry_run_says_the_plan_with_its_reasons_and_writes_nothing(make_pair, tmp_path, capsys):
    least = {
        "pairs": [make_pair(IMAGE, TARGET).model_dump()],
        "output": str(tmp_path / "out" / "model.safetensors"),
        "classes": list(CLASS_NAMES),
        "threads": 1,
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(least))
    command = ["train", "--config", str(tmp_path / "job.yaml"), "--dry-run"]
    assert run([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"architecture.depth", "patch", "batch", "steps", "loss", "augment"} <= {
        c["name"] for c in found["plan"]
    }
    assert all(choice["reason"] for choice in found["plan"])
    assert found["split"][0]["by"] == "block"
    assert found["resumed"] is False
    settled = TrainJob.model_validate(found["job"])
    assert None not in (settled.architecture, settled.patch, settled.batch, settled.steps, settled.loss)
    assert run(command) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "model.safetensors: would be trained" in said
    assert "split by block: " in said
    assert not (tmp_path / "out").exists()


def test_with_nothing_but_data_classes_and_output_a_network_is_trained(make_pair, tmp_path):
    least = TrainJob(
        pairs=(make_pair(IMAGE, TARGET),), output=str(tmp_path / "m.safetensors"), classes=CLASS_NAMES
    )
    found = train(least.model_copy(update={"steps": 2, "threads": 1, "loaders": 1}))
    assert found["validation"]["voxels"] == found["split"]["voxels"]["measured"]
    assert [choice["name"] for choice in found["plan"]][:2] == ["architecture.dims", "architecture.depth"]
    assert read_header(least.output).provenance["split"] == "block"
    assert [point["step"] for point in found["curve"]] == [1, 2]


def test_what_is_learnt_from_cannot_be_measured_on(make_pair, tmp_path):
    pair = make_pair(IMAGE, TARGET)
    with pytest.raises(InputError, match="under `pairs` and under `validation`"):
        train(job([pair], tmp_path, validation=[Pair(image=pair.image, target=pair.target)]))


def test_what_is_measured_on_may_be_smaller_than_a_patch(make_pair, tmp_path):
    small = make_pair(IMAGE[:, :10, :13], TARGET[:10, :13])
    found = train(job([make_pair(IMAGE, TARGET)], tmp_path, validation=[small]))
    assert found["validation"]["voxels"] == 130
