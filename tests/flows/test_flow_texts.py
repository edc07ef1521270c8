import shlex

import pytest

from flows.failures import failure_rows, rerun_text
from flows.session import MOST_REGIONS, region_count
from flows.texts import class_rows, facts, fold_rows, seam_rows
from flows.trained import plan_rows


@pytest.mark.parametrize(
    ("seconds", "chunks", "regions"),
    [
        (0.0, 1, 1),
        (29.0, 100, 1),
        (60.0, 100, 2),
        (3600.0, 1000, 120),
        (3600.0, 7, 7),
        (1e9, 10**6, MOST_REGIONS),
    ],
)
def test_regions_hold_half_a_minute_of_work_and_there_are_never_many(seconds, chunks, regions):
    assert region_count(seconds, chunks) == regions


def test_facts_leave_out_what_is_not_known():
    text = facts("out|1.zarr", {"shape": (3, 40), "bytes": 12345, "loss": 0.123456, "unit": None, "ok": True})
    assert text.splitlines() == [
        "### out\\|1.zarr",
        "",
        "| | |",
        "|---|---|",
        "| shape | 3, 40 |",
        "| bytes | 12,345 |",
        "| loss | 0.1235 |",
        "| ok | True |",
    ]


def test_class_rows_end_with_the_means():
    ratios = {"iou": 0.51236, "dice": None, "precision": 1.0, "recall": 0.5}
    found = {
        "classes": {"cell": {**ratios, "target_voxels": 7, "prediction_voxels": 8}},
        **{f"mean_{name}": value for name, value in ratios.items()},
    }
    cell, mean = class_rows(found)
    assert cell == {
        "class": "cell",
        "IoU": 0.5124,
        "Dice": None,
        "precision": 1.0,
        "recall": 0.5,
        "target voxels": 7,
        "prediction voxels": 8,
    }
    assert mean["class"] == "mean"
    assert mean["IoU"] == 0.5124


def test_the_commands_that_try_again_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = rerun_text({"failed": 1234, "total": 10**6, "output": "a b.zarr"}, "1-2-3")
    assert f"overtile rerun '{tmp_path}/a b.zarr'" in text
    assert "prefect flow-run retry 1-2-3" in text
    command = text[text.index("prefect deployment run") :].partition("\n```")[0]
    words = shlex.split(command.replace("\\\n", ""))
    assert words[3:] == ["rerun-failed/rerun-failed", "--param", f"output={tmp_path}/a b.zarr"]
    assert "1,234 of 1,000,000 chunks failed" in text


def test_rows_of_failed_chunks_say_what_happened_before_what_is_the_same_in_all():
    each = {"chunk": 9, "position": "1/2", "attempts": 3, "error": "/data/in.zarr: voxels 0:9 are missing"}
    found = {"failed": 1, "total": 10, "output": "/data/a b.zarr", "failures": [each]}
    (row,) = failure_rows(found, "/data/in.zarr")
    assert row == {
        "position": "1/2",
        "attempts": 3,
        "error": "voxels 0:9 are missing",
        "rerun": "overtile rerun '/data/a b.zarr' --chunks 1/2",
        "chunk": 9,
    }
    assert next(iter(row)) == "position"


def test_fold_rows_have_mean_and_spread():
    spread = {"mean": 0.51236, "std": 0.1, "folds": 3}
    unknown = {"mean": None, "std": None, "folds": 0}
    summary = {"mean_iou": spread, "mean_dice": unknown, "classes": {"cell": {"iou": spread, "dice": spread}}}
    assert fold_rows(summary) == [
        {"class": "cell", "IoU mean": 0.5124, "IoU std": 0.1, "Dice mean": 0.5124, "Dice std": 0.1},
        {"class": "mean", "IoU mean": 0.5124, "IoU std": 0.1, "Dice mean": None, "Dice std": None},
    ]


def test_plan_rows_show_values_as_people_read_them():
    choices = [
        {"name": "patch", "value": [256, 128], "reason": "fits"},
        {"name": "loss", "value": {"kind": "dice", "squared": False, "smooth": 1e-5}, "reason": "rare"},
    ]
    assert [row["value"] for row in plan_rows(choices)] == ["256,128", "kind dice, smooth 1e-05"]


def test_seam_rows_are_the_contrasts_that_show_one():
    first = {"borders": "tile", "axis": "y", "scale": "fine", "strips": 96, "share": 0.8, "ratio": 1.9, "p": 1e-9}
    assert seam_rows({"flagged_by": [first | {"cells": 40, "z": 5.2}]}) == [first]
