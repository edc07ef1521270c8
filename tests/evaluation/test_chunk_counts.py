import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evaluations import write_statistics

from pipeline.errors import InputError
from pipeline.evaluation import chunk_counts
from pipeline.evaluation.chunk_counts import read_counts

COUNTS = np.arange(5 * 4).reshape(5, 2, 2)


def test_what_was_written_is_read(tmp_path):
    write_statistics(tmp_path / "s.parquet", COUNTS, ["a", "b"], ignored=7)
    found = read_counts(tmp_path / "s.parquet")
    assert (found.names, found.chunks, found.ignored) == (("a", "b"), 5, 7)
    assert np.array_equal(found.counts, COUNTS)


@pytest.mark.parametrize("most", [1, 2, 3, 4])
@pytest.mark.parametrize("at_once", [4, 12, 1000])
def test_many_chunks_become_few_units_of_neighbours(tmp_path, monkeypatch, most, at_once):
    monkeypatch.setattr(chunk_counts, "MOST_UNITS", most)
    monkeypatch.setattr(chunk_counts, "_AT_ONCE", at_once)
    write_statistics(tmp_path / "s.parquet", COUNTS, ["a", "b"])
    found = read_counts(tmp_path / "s.parquet")
    assert len(found.counts) == most
    assert np.array_equal(found.counts.sum(axis=0), COUNTS.sum(axis=0))
    starts = [np.flatnonzero(np.arange(5) * most // 5 == unit)[0] for unit in range(most)]
    assert np.array_equal(found.counts, np.add.reduceat(COUNTS, starts, axis=0))


def test_pairs_are_cut_alike_over_the_same_target(tmp_path):
    other = COUNTS[:, :, ::-1]  # another prediction of the same target
    for name, counts, edge in (("a", COUNTS, 10), ("b", other, 10), ("cut", other, 12), ("c", COUNTS + 1, 10)):
        write_statistics(tmp_path / f"{name}.parquet", counts, ["a", "b"], edge=edge)
    found = {name: read_counts(tmp_path / f"{name}.parquet") for name in ("a", "b", "cut", "c")}
    assert found["a"].is_paired_with(found["b"])
    assert not found["a"].is_paired_with(found["cut"])
    assert not found["a"].is_paired_with(found["c"])


def table(counts, classes='["a", "b"]', **columns):
    rows = len(counts)
    content = {"chunk": range(rows), "core": ["0:1"] * rows, "ignored": [0] * rows, "counts": counts} | columns
    made = pa.table({name: list(values) for name, values in content.items() if values is not None})
    return made.replace_schema_metadata({"classes": classes} if classes else {})


@pytest.mark.parametrize(
    "made",
    [
        table([[1, 2, 3]]),
        table([[1, 2, 3, -4]]),
        table([[1, 2, 3, None]]),
        table([[1, 2, 3, 4], None]),
        table([[1, 2, 3, 4]], classes=None),
        table([[1, 2, 3, 4]], classes="[]"),
        table([[1, 2, 3, 4]], classes="{"),
        table([[1, 2, 3, 4]], core=None),
        table([[1.5, 2.0, 3.0, 4.0]], ignored=["x"]),
        table([], chunk=pa.array([], pa.int64())),
    ],
)
def test_what_is_no_statistics_is_refused(tmp_path, made):
    pq.write_table(made, tmp_path / "s.parquet")
    with pytest.raises(InputError, match=r"s\.parquet: not what `overtile evaluate --out` writes"):
        read_counts(tmp_path / "s.parquet")


def test_what_is_no_table_is_refused(tmp_path):
    (tmp_path / "s.parquet").write_text(json.dumps({}))
    for path in (tmp_path / "s.parquet", tmp_path / "none.parquet"):
        with pytest.raises(InputError, match="not what"):
            read_counts(path)
