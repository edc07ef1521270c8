import json
import os

import numpy as np
import pytest
from evaluations import write_statistics
from runs import make_run
from volumes import save

from pipeline.errors import InputError
from pipeline.jobs.gathering import gather
from pipeline.jobs.listener import Silent
from pipeline.run.folder import RunFolder

COUNTS = [[[5, 1], [2, 4]], [[3, 0], [1, 7]]]


def evaluated(folder):
    folder.mkdir(parents=True, exist_ok=True)
    write_statistics(folder / "statistics.parquet", COUNTS, ["a", "b"])
    told = {"prediction": "p", "target": "t", "region": None, "ignore": None, "ignored": 0}
    told |= {"classes": {"a": {}, "b": {}}, "confusion": [[8, 1], [3, 11]]}
    (folder / "metrics.json").write_text(json.dumps(told))


def look(*sources, tolerant=False):
    return gather([str(source) for source in sources], tolerant=tolerant, listener=Silent())


@pytest.fixture
def archive(tmp_path):
    """Two evaluations, one in the other; a run; an ingest; volumes; and files of others."""
    evaluated(tmp_path / "e")
    evaluated(tmp_path / "e" / "inner")
    (tmp_path / "r").mkdir()
    make_run(tmp_path / "r", np.zeros((64, 64), "u1"))
    RunFolder(tmp_path / "r" / "other.zarr").begin({}, {"kind": "ingest"})
    (tmp_path / "some.run").mkdir()
    (tmp_path / "notes.txt").write_text("metrics.json")
    return tmp_path


def names(found, root):
    evaluations = [os.path.relpath(each.source, root) for each in found.evaluations]
    return evaluations, [os.path.relpath(run.output, root) for run in found.runs]


def test_a_folder_is_searched(archive):
    found = look(archive)
    assert names(found, archive) == (["e", "e/inner"], ["r/out.zarr"])
    assert found.others == [str(archive / "r" / "other.zarr")]
    assert found.broken == {}


def test_the_order_and_repetition_of_sources_do_not_matter(archive, monkeypatch):
    monkeypatch.chdir(archive)
    expected = names(look("."), archive)
    assert names(look("r", "e/inner", "e", archive, "r/out.zarr.run"), archive) == expected


def test_links_are_followed_and_what_they_lead_to_counts_once(archive):
    expected = names(look(archive), archive)
    elsewhere = archive / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "linked").symlink_to(archive / "e")
    (archive / "e" / "inner" / "back").symlink_to(archive)
    assert names(look(elsewhere), archive) == expected
    assert names(look(archive, elsewhere), archive) == expected


@pytest.mark.parametrize("source", ["r/out.zarr", "r/out.zarr.run"])
def test_a_result_is_named_itself(archive, source):
    assert names(look(archive / source), archive) == ([], ["r/out.zarr"])


def test_the_run_of_a_result_that_is_gone_is_found(archive):
    os.rename(archive / "r" / "out.zarr", archive / "elsewhere")
    assert names(look(archive / "r"), archive) == ([], ["r/out.zarr"])
    assert names(look(archive / "r" / "out.zarr"), archive) == ([], ["r/out.zarr"])


def break_evaluation(root):
    (root / "e" / "inner" / "metrics.json").unlink()
    return root / "e" / "inner", "has no metrics.json"


def stop_evaluation(root):
    (root / "e" / "inner" / "metrics.json").unlink()
    (root / "e" / "inner" / "statistics.parquet").rename(root / "e" / "inner" / "statistics.parquet.partial")
    return root / "e" / "inner", "has no metrics.json"


def break_run(root):
    (root / "r" / "out.zarr.run" / "run.json").write_text("{")
    return root / "r" / "out.zarr", "not readable"


def empty_run(root):
    (root / "r" / "out.zarr.run" / "run.json").unlink()
    return root / "r" / "out.zarr", "there is no run here"


@pytest.mark.parametrize("damage", [break_evaluation, stop_evaluation, break_run, empty_run])
def test_what_is_broken_is_refused_by_name_or_listed(archive, damage):
    place, why = damage(archive)
    with pytest.raises(InputError, match=f"1 evaluation.*{place}.*{why}.*--broken list"):
        look(archive)
    found = look(archive, tolerant=True)
    assert list(found.broken) == [str(place)]
    assert why in found.broken[str(place)]
    assert len(found.evaluations) + len(found.runs) == 2


def test_many_broken_ones_are_counted(tmp_path):
    for number in range(7):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match=r"7 evaluation.*and 2 more"):
        look(tmp_path)


def test_a_folder_that_cannot_be_listed_is_broken(archive, monkeypatch):
    walk = os.walk

    def refused(root, onerror, **options):
        onerror(PermissionError(13, "not for you", str(archive / "secret")))
        return walk(root, onerror=onerror, **options)

    monkeypatch.setattr(os, "walk", refused)
    assert list(look(archive, tolerant=True).broken) == [str(archive / "secret")]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none", "none: is not there"),
        ("notes.txt", "notes.txt: is a file"),
        ("empty", r"empty: holds no evaluation \(metrics.json\) and no run"),
        ("volume.zarr", "volume.zarr: is a volume without a run"),
    ],
)
def test_what_holds_nothing_is_refused_whatever_is_borne(archive, source, message):
    (archive / "empty").mkdir()
    save(archive / "volume.zarr", np.zeros((4, 4), "u1"))
    for tolerant in (False, True):
        with pytest.raises(InputError, match=message):
            look(archive / source, tolerant=tolerant)
