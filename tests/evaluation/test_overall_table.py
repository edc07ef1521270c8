import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evaluations import evaluation, summary

from pipeline.errors import InputError
from pipeline.evaluation import overall_table
from pipeline.evaluation.bootstrap import Resampling, chunk_intervals
from pipeline.evaluation.overall_table import read_series, table_bytes
from pipeline.evaluation.rows import broken_row, differing_settings, evaluation_row, in_order, run_row
from pipeline.evaluation.trend import Series

HOW = Resampling(resamples=200)
COUNTS = [[[5, 1], [2, 4]], [[3, 0], [1, 7]]]


def row(each, settings=()):
    return evaluation_row(
        each, chunk_intervals(each.counts.counts, each.counts.names, HOW), model="m", settings=settings
    )


def written(tmp_path, rows, names=("a", "b")):
    path = tmp_path / "t.parquet"
    path.write_bytes(table_bytes(rows, names, HOW))
    return path


def test_a_row_tells_everything(tmp_path):
    table = pq.read_table(written(tmp_path, [row(evaluation(COUNTS), ["tta"])]))
    (found,) = table.to_pylist()
    run = summary(model="m", sealed="2026-05-03T14:05:00Z")
    assert found["sealed"] == run.sealed
    expected = {
        "kind": "evaluation", "source": "e", "note": None, "volume": "/data/image.zarr", "prediction": "/p/e.zarr",
        "target": "/data/t.zarr", "target_identity": "t", "region": None, "ignore": None, "model": "m",
        "model_path": "/models/m.safetensors", "model_digest": "sha256:m", "fingerprint": "f", "run": "run of m",
        "settings": '{"tta": "none"}', "state": "sealed", "chunks": 4, "done": 3, "failed": 0, "skipped": 1,
        "pending": 0, "seconds": 300.0, "seconds_read": 1.0, "seconds_wait": 0.5, "seconds_compute": 4.0,
        "seconds_write": 1.0, "voxels_per_second": 1500.0, "network_share": 2 / 300, "chunks_compared": 2,
        "voxels": 23, "ignored": 0, "accuracy": 19 / 23, "iou_a": 8 / 12, "recall_b": 11 / 14,
    }  # fmt: skip
    assert found.items() >= expected.items()
    assert found["low_accuracy"] <= found["accuracy"] <= found["high_accuracy"]
    assert json.loads(table.schema.metadata[b"resampling"]) == {"resamples": 200, "confidence": 0.95, "seed": 0}
    assert table.schema.metadata[b"overtile"] == b"overtile-aggregate/1"


def test_the_documented_columns_are_those_of_the_table(tmp_path):
    names = pq.read_table(written(tmp_path, [], names=[])).schema.names
    for name in names:
        kind = name.removeprefix("low_").removeprefix("high_")
        told = "seconds_<phase>" if name.startswith("seconds_") else kind
        assert told in overall_table.__doc__ or kind.startswith("mean_"), name


def test_what_is_not_known_is_null(tmp_path):
    rows = [
        row(evaluation(COUNTS, model=None)),
        broken_row("x", "why"),
        run_row(summary(), model="m", settings=[]),
    ]
    found = pq.read_table(written(tmp_path, in_order(rows))).to_pylist()
    assert [each["kind"] for each in found] == ["evaluation", "run", "broken"]
    assert found[0]["model"] is found[0]["state"] is found[0]["sealed"] is None
    assert (found[1]["source"], found[1]["accuracy"], found[1]["seconds"]) == ("/r/m.zarr", None, None)
    assert (found[2]["source"], found[2]["note"]) == ("x", "why")


def test_no_class_s_name_can_be_taken_for_another_column(tmp_path):
    names = ("a", "low_a", "a_low", "mean", "", 'x"y')
    assert len(set(pq.read_table(written(tmp_path, [], names)).schema.names)) == len(
        pq.read_table(written(tmp_path, [], names)).schema
    )


def test_the_same_rows_give_the_same_bytes():
    rows = [row(evaluation(COUNTS))]
    assert table_bytes(rows, ("a", "b"), HOW) == table_bytes([dict(each) for each in rows], ("a", "b"), HOW)


def test_rows_without_work_or_an_end_have_no_speed():
    found = run_row(summary(seconds={}), model="m", settings=["tta"])
    assert (found["voxels_per_second"], found["network_share"], found["seconds_read"]) == (None, None, None)


def test_settings_that_differ_are_named_and_places_are_not():
    runs = [
        summary(settings={"tta": tta, "output": tta, "tile": [1, 2], **more})
        for tta, more in (("none", {}), ("flips", {}), ("none", {"batch": 1}))
    ]
    assert differing_settings(runs) == ["batch", "tta"]
    assert differing_settings([]) == []


def test_a_table_gives_the_newest_of_each_series(tmp_path):
    several = [
        evaluation(COUNTS, source="old", sealed="2026-05-01T00:00:00Z"),
        evaluation([[[9, 0], [0, 9]]], source="new", sealed="2026-05-02T00:00:00Z"),
        evaluation(COUNTS, source="p", model=None, region="0:1"),
        evaluation(COUNTS, source="no target", target=None),
    ]
    found = read_series(written(tmp_path, [*map(row, several), broken_row("x", "why")]))
    assert found.keys() == {
        Series("/models/m.safetensors", "t", None, None),
        Series("/p/p.zarr", "t", "0:1", None),
    }
    assert found[Series("/models/m.safetensors", "t", None, None)]["accuracy"] == 1.0


def test_no_table_has_no_series(tmp_path):
    assert read_series(tmp_path / "none.parquet") == {}


def test_what_somebody_else_wrote_is_refused(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: is not a table that `overtile aggregate` made"):
        read_series(tmp_path / "a.parquet")
    Path(tmp_path / "b.parquet").write_text("no table")
    with pytest.raises(InputError, match=r"b\.parquet: cannot be read as a table"):
        read_series(tmp_path / "b.parquet")
