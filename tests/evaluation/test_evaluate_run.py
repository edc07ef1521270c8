"""An evaluation is a run: resumed, refused, verified, mended and made again as any other."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from comparisons import class_maps, job, save_ids
from volumes import save
from waiting import wait_until

import pipeline
from pipeline.cli.main import run
from pipeline.config import AggregateJob
from pipeline.errors import DamageError, FailedChunksError, InputError, RunBusyError, RunMismatchError, VolumeError
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.run.folder import MAPS, RunFolder
from pipeline.run.journal import replay
from pipeline.run.records import DONE
from pipeline.store import PARTIAL, LocalPlace

NAMES = ("background", "cell", "wall")
SHAPE = (26, 35)


@pytest.fixture
def pair(tmp_path):
    """A prediction in shards of 8 voxels, so 4 x 5 chunks, and a target in chunks of 5."""
    prediction, target = class_maps(SHAPE)
    save_ids(tmp_path / "p.zarr", prediction, classes=NAMES)
    save(tmp_path / "t.zarr", target, "yx", chunks=5)
    return tmp_path


def kept(out):
    """What an evaluation wrote, but for times: of the maps, the values."""
    maps = zarr.open_group(str(out / MAPS), mode="r")
    arrays = {name: array[...].tobytes() for name, array in maps.arrays() if name != "seconds"}
    files = {name: (out / name).read_bytes() for name in ("metrics.json", "statistics.parquet")}
    place = LocalPlace(out / f"{MAPS}.run" / "chunks")
    chunks = {e.key: place.get(e.key) for e in place.entries() if not e.key.endswith(PARTIAL)}
    return arrays, files, chunks


def records(out):
    return [r for r in replay(RunFolder(out / MAPS).journal) if r is not None]


class Heard:
    """Notes what a job says."""

    def __init__(self, stop_after=None):
        self.notes, self.stop_after = [], stop_after

    def phase(self, name, total, unit):
        pass

    def progress(self, done, failed=0):
        if done == self.stop_after:
            raise KeyboardInterrupt

    def note(self, text):
        self.notes.append(text)


def test_what_is_written_lies_beside_the_run(pair):
    found = pipeline.evaluate(job(pair, out=str(pair / "m")))
    assert sorted(p.name for p in (pair / "m").iterdir()) == [
        "metrics.json",
        "statistics.parquet",
        MAPS,
        f"{MAPS}.run",
    ]
    told = pipeline.status(pair / "m")
    assert (told["state"], told["total"], told["done"]) == ("sealed", 20, 20)
    assert told == pipeline.status(pair / "m" / MAPS) | {"output": told["output"]}
    assert found["chunks"] == 20
    chunk = json.loads(gzip.decompress((pair / "m" / f"{MAPS}.run" / "chunks" / "c" / "0" / "0").read_bytes()))
    assert ConfusionStatistics.from_dict(chunk["classes"]).counts.sum() == 64


def test_a_finished_evaluation_is_only_told(pair):
    out = pair / "m"
    found = pipeline.evaluate(job(pair, out=str(out)))
    before, heard = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}, Heard()
    assert pipeline.evaluate(job(pair, out=str(out)), listener=heard) == found
    assert heard.notes == [f"{out} is complete already: nothing to do"]
    after = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != "lease.json"}
    assert after.items() <= before.items()


def test_one_that_was_interrupted_goes_on_and_gives_the_same_bytes(pair):
    whole, out = pair / "whole", pair / "m"
    pipeline.evaluate(job(pair, out=str(whole), boundary="1"))
    with pytest.raises(KeyboardInterrupt):
        pipeline.evaluate(job(pair, out=str(out), boundary="1", threads=1), listener=Heard(stop_after=7))
    assert not (out / "metrics.json").exists()
    assert pipeline.status(out)["state"] == "incomplete"
    done = {r.chunk for r in records(out) if r.state == DONE}
    assert 7 <= len(done) < 20
    pipeline.evaluate(job(pair, out=str(out), boundary="1"))
    assert sorted(r.chunk for r in records(out) if r.state == DONE) == list(range(20)), (
        "done chunks are not done again"
    )
    assert kept(out) == kept(whole)


@pytest.mark.slow
def test_one_that_was_killed_goes_on_and_gives_the_same_bytes(tmp_path):
    prediction, target = class_maps((640, 640))
    save(tmp_path / "p.zarr", prediction, "yx", chunks=160)
    save(tmp_path / "t.zarr", target, "yx", chunks=160)
    options = {"chunk": (16, 16), "instances": True, "classes": ("a", "b")}
    pipeline.evaluate(job(tmp_path, out=str(tmp_path / "whole"), **options))
    out = tmp_path / "m"
    command = [str(Path(sys.executable).with_name("overtile")), "evaluate", str(tmp_path / "p.zarr")]
    command += [str(tmp_path / "t.zarr"), "--out", str(out), "--chunk", "16,16", "--instances", "--classes", "a,b"]
    driver = subprocess.Popen(
        [*command, "--threads", "1", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_until(
        lambda: driver.poll() is not None or (RunFolder(out / MAPS).exists and len(records(out)) >= 100),
        seconds=300,
    )
    driver.kill()
    driver.communicate()
    assert driver.returncode == -9
    before = {r.chunk for r in records(out) if r.state == DONE}
    assert 100 <= len(before) < 1600
    done = subprocess.run([*command, "--json"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["chunks"] == 1600
    assert len([r for r in records(out) if r.state == DONE]) == 1600, "what was done is not done again"
    assert kept(out) == kept(tmp_path / "whole")


@pytest.mark.slow
def test_workers_find_the_same(pair):
    pipeline.evaluate(job(pair, out=str(pair / "threads"), boundary="1"))
    found = pipeline.evaluate(job(pair, out=str(pair / "workers"), boundary="1", workers=1))
    assert kept(pair / "workers") == kept(pair / "threads")
    assert pipeline.evaluate(job(pair, workers=1, boundary="1")) == found

    (pair / "t.zarr" / "c" / "2" / "3").unlink()
    with pytest.raises(FailedChunksError, match=r"of 20 chunks failed.*First: chunk 1/1 .*are missing"):
        pipeline.evaluate(job(pair, out=str(pair / "bad"), workers=1))
    assert pipeline.status(pair / "bad")["failed"] > 0
    assert not (pair / "bad" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("options", "differs"),
    [
        ({"ignore": 2}, "ignore: the run has null, you ask for 2"),
        ({"region": "0:8,0:8"}, "region"),
        ({"chunk": (16, 16)}, "chunk"),
        ({"classes": ("a", "b", "c")}, "classes"),
        ({"boundary": "1"}, "boundary"),
        ({"instances": True}, "measures"),
        ({"resamples": 0}, "resamples"),
    ],
)
def test_another_job_in_the_folder_is_refused_by_what_differs(pair, options, differs):
    pipeline.evaluate(job(pair, out=str(pair / "m")))
    before = kept(pair / "m")
    with pytest.raises(RunMismatchError, match=f"belongs to another run.*{differs}"):
        pipeline.evaluate(job(pair, out=str(pair / "m"), **options))
    assert kept(pair / "m") == before


def test_another_target_in_the_folder_is_refused(pair):
    pipeline.evaluate(job(pair, out=str(pair / "m")))
    save(pair / "other.zarr", class_maps(SHAPE)[1], "yx", chunks=5)
    with pytest.raises(RunMismatchError, match=r"target\.path: the run has"):
        pipeline.evaluate(job(pair, out=str(pair / "m"), target=str(pair / "other.zarr")))


@pytest.mark.parametrize("name", ["p.zarr/0", "t.zarr"])
def test_volumes_that_changed_are_refused_and_measured_again_when_asked(pair, name):
    out = pair / "m"
    pipeline.evaluate(job(pair, out=str(out)))
    array = zarr.open_array(str(pair / name), mode="r+")
    array[0, 0] = (array[0, 0] + 1) % 3
    with pytest.raises(RunMismatchError, match=r"changed since 1 of 20 chunks were measured, first 0/0.*--stale"):
        pipeline.evaluate(job(pair, out=str(out)))
    heard = Heard()
    assert pipeline.rerun(out, stale=True, listener=heard)["state"] == "sealed"
    assert heard.notes == ["1 finished chunks changed since; they are measured again"]
    again = pipeline.evaluate(job(pair, out=str(pair / "anew")))
    assert json.loads((out / "metrics.json").read_text()) == again
    assert kept(out) == kept(pair / "anew")


def test_chunks_are_measured_again_by_their_position(pair):
    out = pair / "m"
    pipeline.evaluate(job(pair, out=str(out)))
    before = kept(out)
    assert pipeline.rerun(out, chunks=["0/1", "3/4"])["state"] == "sealed"
    assert sorted(r.chunk for r in records(out))[-3:] == [19, 19, 19], "done, pending, and done again"
    assert len(records(out)) == 20 + 2 * 2
    assert kept(out) == before
    with pytest.raises(InputError, match="--chunks 9/9: not a chunk of this run"):
        pipeline.rerun(out, chunks=["9/9"])


def test_lost_and_damaged_statistics_are_found_and_made_again(pair):
    out = pair / "m"
    pipeline.evaluate(job(pair, out=str(out)))
    before, chunks = kept(out), out / f"{MAPS}.run" / "chunks" / "c"
    assert pipeline.verify(out).ok

    (chunks / "1" / "1").unlink()
    (chunks / "2" / "2").write_bytes(b"nothing")
    (chunks / "stranger").write_bytes(b"")
    found = pipeline.verify(out)
    assert (found.missing, found.damaged, found.foreign) == (("c/1/1",), ("c/2/2",), ("c/stranger",))
    (chunks / "stranger").unlink()
    pipeline.repair(out)
    assert pipeline.status(out)["pending"] == 2
    pipeline.rerun(out)
    assert kept(out) == before
    assert pipeline.verify(out).ok

    (chunks / "0" / "3").unlink()
    heard = Heard()
    pipeline.evaluate(job(pair, out=str(out)), listener=heard)
    assert kept(out) == before, "a chunk that is gone is noticed when the job is run again"
    assert heard.notes == ["the statistics of 1 finished chunks are gone; they are measured again"]


def test_statistics_that_rot_are_never_added_up(pair):
    """The size is right, so only the digest tells."""
    out = pair / "m"
    pipeline.evaluate(job(pair, out=str(out)))
    before, path = kept(out), out / f"{MAPS}.run" / "chunks" / "c" / "2" / "2"
    path.write_bytes(path.read_bytes()[::-1])
    (out / "metrics.json").unlink()
    with pytest.raises(DamageError, match=r"c/2/2: is not what was recorded; run again"):
        pipeline.evaluate(job(pair, out=str(out)))
    assert pipeline.status(out)["pending"] == 1
    pipeline.evaluate(job(pair, out=str(out)))
    assert kept(out) == before


def test_places_are_told_as_any_process_knows_them(pair, monkeypatch):
    """So going on from elsewhere gives the same bytes."""
    monkeypatch.chdir(pair)
    pipeline.evaluate(job(pair, prediction="p.zarr", target="t.zarr", out="m"))
    before = kept(pair / "m")
    (pair / "m" / "metrics.json").unlink()
    monkeypatch.chdir(pair / "m")
    pipeline.rerun(pair / "m")
    assert kept(pair / "m") == before


def test_a_run_that_is_busy_is_left_alone(pair):
    pipeline.evaluate(job(pair, out=str(pair / "m")))
    with RunFolder(pair / "m" / MAPS).lease(), pytest.raises(RunBusyError):
        pipeline.evaluate(job(pair, out=str(pair / "m")))


def test_a_region_skips_the_other_chunks(pair):
    found = pipeline.evaluate(job(pair, out=str(pair / "m"), region="3:20,9:30"))
    told = pipeline.status(pair / "m")
    assert (told["done"], told["skipped"]) == (9, 11)
    assert told["skipped_reasons"] == {"outside of what is compared": 11}
    rows = pq.read_table(pair / "m" / "statistics.parquet").to_pylist()
    assert [r["core"] for r in rows][:2] == ["3:8,9:16", "3:8,16:24"]
    assert sum(r["voxels"] for r in rows) == found["voxels"] == 17 * 21


def test_commands_look_at_a_folder(pair, capsys):
    out = str(pair / "m")
    assert run(["evaluate", str(pair / "p.zarr"), str(pair / "t.zarr"), "--out", out, "--boundary", "1"]) == 0
    assert "outline of cell  boundary IoU" in capsys.readouterr().out
    assert run(["status", out]) == 0
    assert "20 done" in capsys.readouterr().out
    assert run(["verify", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checked"] == 20
    assert run(["rerun", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "sealed"
    assert run(["segment", str(pair / "p.zarr"), f"{out}/{MAPS}", "--model", "none.safetensors"]) == 2
    assert "another kind of run (evaluation)" in capsys.readouterr().err


def test_a_table_of_many_runs_takes_evaluations_that_are_complete(pair):
    for name in ("a", "b"):
        (pair / "all").mkdir(exist_ok=True)
        pipeline.evaluate(job(pair, out=str(pair / "all" / name)))
    made = AggregateJob(sources=(str(pair / "all"),), out=str(pair / "table.parquet"))
    found = pipeline.aggregate(made)
    assert found["other_runs"] == []
    assert pq.read_table(pair / "table.parquet").num_rows == 2
    RunFolder(pair / "all" / "b" / MAPS).unseal()
    with pytest.raises(InputError, match="b: the evaluation is not complete; `overtile rerun"):
        pipeline.aggregate(made)


@pytest.mark.parametrize("role", ["prediction", "target"])
def test_holes_are_left_out_counted_and_named_when_asked(pair, role):
    name, key, box = {
        "prediction": ("p.zarr/0", "c/1/2", (slice(8, 16), slice(16, 24))),
        "target": ("t.zarr", "c/2/3", (slice(10, 15), slice(15, 20))),
    }[role]
    prediction, target = class_maps(SHAPE)
    (pair / name / key).unlink()
    with pytest.raises(VolumeError, match=rf"1 stored chunk.* are missing \({key}\).*--holes skip"):
        pipeline.evaluate(job(pair))
    known = np.ones(SHAPE, bool)
    known[box] = False
    expected = ConfusionStatistics.of(prediction[known], target[known], classes=3)
    found = [pipeline.evaluate(job(pair, holes="skip", chunk=chunk)) for chunk in ((8, 8), (26, 35), (5, 9))]
    for each in found:
        assert each["confusion"] == expected.counts.tolist()
        assert each["holes"]["chunks"] >= 1
    assert found[1]["holes"] == {"chunks": 1, "missing": {"0/0": {role: [key]}}}


def test_an_outline_near_a_hole_is_that_near_ignored_voxels(pair):
    prediction, target = class_maps(SHAPE)
    (pair / "t.zarr" / "c/2/3").unlink()
    found = pipeline.evaluate(job(pair, holes="skip", boundary="1,2"))
    marked = target.copy()
    marked[10:15, 15:20] = 9
    save(pair / "marked.zarr", marked, "yx", chunks=5)
    other = pipeline.evaluate(job(pair, target=str(pair / "marked.zarr"), ignore=9, boundary="1,2"))
    assert found["boundary"] == other["boundary"]
    assert found["voxels"] == other["voxels"]
    assert prediction.shape == SHAPE
