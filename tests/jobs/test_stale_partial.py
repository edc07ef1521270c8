"""Runs whose input, model or store changed behind them, and runs that end with holes: told, and mended exactly."""

import json
import os

import numpy as np
import pytest
from networks import make_checkpoint, make_image
from volumes import files

import pipeline
from pipeline.config import SegmentJob
from pipeline.errors import DamageError, FailedChunksError, InputError, RunMismatchError
from pipeline.jobs.listener import Silent
from pipeline.jobs.planning import REPLACEABLE, plan
from pipeline.jobs.segmentation import Segmentation
from pipeline.run.records import FAILED, Record
from pipeline.run.status import status
from pipeline.run.verify import verify
from pipeline.store import LocalPlace
from pipeline.volume import ShardWriter, open_volume
from pipeline.volume.state import KEY, read_attributes

CHUNKS = 6
"""Of 32 x 32 voxels, 3 x 2 of them; the network's halo reaches 5 voxels into the neighbours."""


@pytest.fixture
def job(tmp_path):
    make_image(tmp_path / "in.zarr", (90, 60), shard=(16, 16))
    make_checkpoint(tmp_path / "model.safetensors", depth=2, width=2, padding="same")
    paths = {"input": "in.zarr", "output": "out.zarr", "model": "model.safetensors"}
    return SegmentJob(
        **{name: str(tmp_path / path) for name, path in paths.items()}, chunk=(32, 32), workers=1, pyramid=False
    )


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out.zarr"


def attributes(output):
    return read_attributes(LocalPlace(output))


def process(run, chunks):
    processor = run.work().open(1)
    run.ledger.append(
        [Record(int(c), "done", run.ledger.attempts(c) + 1, processor.process(int(c))) for c in chunks]
    )


def finish(run):
    run.check_complete()
    found = run.verify()
    run.build_pyramid()
    run.seal(found)
    run.publish()


def complete(job, **settings):
    """Do what a run lacks, through all its phases; return the chunks that were computed."""
    run = Segmentation(plan(job.model_copy(update=settings)), Silent())
    with run.opened():
        lacking = run.ledger.lacking().tolist()
        process(run, lacking)
        finish(run)
    return lacking


def mend(job):
    """What ``rerun --stale`` does; returns the chunks that were stale, with the reasons."""
    run = Segmentation(plan(job, replacing=REPLACEABLE), Silent())
    with run.opened(stale=True) as found:
        process(run, found.stale)
        finish(run)
    return found.stale


def rewrite(tmp_path, key):
    """Store other voxels under one key of the input."""
    volume = open_volume(tmp_path / "in.zarr")
    core = next(c for c in volume.storage_grid.cores() if volume.stored_key(0, c.start) == key)
    ShardWriter(volume.array).write(core, 255 - np.asarray(volume.array[core.slices]))


def key_at(tmp_path, y, x):
    """Return the key of the input's stored chunk that holds a voxel."""
    return open_volume(tmp_path / "in.zarr").stored_key(0, (y, x))


@pytest.mark.parametrize(
    ("voxel", "touched"),
    [
        ((0, 0), [0]),
        ((40, 0), [0, 2]),  # the stored chunk of rows 32 to 47 is under the halo of the chunk above
        ((40, 40), [0, 1, 2, 3]),
        ((89, 59), [5]),
    ],
)
def test_exactly_the_chunks_over_a_changed_input_are_computed_again(job, output, tmp_path, voxel, touched):
    complete(job)
    key = key_at(tmp_path, *voxel)
    rewrite(tmp_path, key)
    before = files(output.with_name("out.zarr.run"))
    with pytest.raises(RunMismatchError, match=f"{len(touched)} of 6 finished chunks.*{key}.*rerun .* --stale"):
        complete(job)
    assert status(output)["state"] == "sealed", "refused: nothing has changed"
    assert before["run.json"] == files(output.with_name("out.zarr.run"))["run.json"]

    stale = mend(job)
    assert sorted(stale) == touched
    assert all(key in reason for reason in stale.values())
    assert complete(job) == []
    complete(job, output=str(tmp_path / "anew.zarr"))
    assert files(output / "0") == files(tmp_path / "anew.zarr" / "0")
    assert status(output)["seal"]["root"] == status(tmp_path / "anew.zarr")["seal"]["root"]


def test_an_input_that_was_only_touched_counts_as_changed(job, tmp_path):
    complete(job)
    path = tmp_path / "in.zarr" / "0" / key_at(tmp_path, 0, 0)
    os.utime(path, ns=(1, 1))
    with pytest.raises(RunMismatchError, match="1 of 6"):
        complete(job)
    assert list(mend(job)) == [0]


def test_a_run_that_was_cut_short_does_not_go_on_over_another_input(job, tmp_path):
    run = Segmentation(plan(job), Silent())
    with run.opened():
        process(run, [0, 1])
    rewrite(tmp_path, key_at(tmp_path, 0, 0))
    with pytest.raises(RunMismatchError, match="1 of 2 finished chunks"):
        complete(job)
    with Segmentation(plan(job), Silent()).opened(stale=True) as found:
        assert list(found.stale) == [0]
        assert found.lacking == 5
    assert complete(job) == [0, 2, 3, 4, 5]


def test_another_model_makes_everything_stale_and_never_mixes(job, output, tmp_path):
    complete(job)
    old = status(output)
    make_checkpoint(tmp_path / "model.safetensors", depth=2, width=2, padding="same", seed=7)
    with pytest.raises(RunMismatchError, match=r"model\.digest"):
        plan(job)
    run = Segmentation(plan(job, replacing=REPLACEABLE), Silent())
    with run.opened(stale=True) as found:
        assert len(found.stale) == CHUNKS
        assert "another model" in found.stale[0]
        assert "model.digest" in found.stale[0]
        assert found.lacking == CHUNKS
        assert "ome" not in attributes(output)
    assert status(output)["fingerprint"] != old["fingerprint"]
    assert status(output)["state"] == "incomplete"
    assert complete(job) == list(range(CHUNKS))
    assert status(output)["seal"]["root"] != old["seal"]["root"]


def test_another_grid_is_never_what_stale_means(job):
    complete(job)
    with pytest.raises(RunMismatchError, match="chunk"):
        plan(job.model_copy(update={"chunk": (48, 48)}), replacing=REPLACEABLE)


def test_accepted_failures_make_a_partial_result_that_lists_its_holes(job, output, tmp_path):
    accepting = job.model_copy(update={"accept_failures": 1})
    run = Segmentation(plan(accepting), Silent())
    with run.opened():
        assert attributes(output)[KEY] == {"state": "incomplete", "run": "out.zarr.run"}
        process(run, range(CHUNKS - 1))
        run.ledger.append([Record(5, FAILED, 2, error="its input is damaged", kind="InputDamageError")])
        finish(run)
        with pytest.raises(FailedChunksError, match=r"partial: 1 of 6 chunks failed.*chunk 2/1.*damaged"):
            run.conclude()
    assert status(output)["state"] == "partial"
    assert status(output)["seal"]["state"] == "partial"
    assert attributes(output)[KEY]["state"] == "partial"
    assert attributes(output)[KEY]["holes"] == ["2/1"]
    assert "ome" in attributes(output)
    assert verify(output).ok
    with pytest.raises(InputError, match="not complete"):
        pipeline.evaluate(pipeline.EvaluateJob(prediction=str(output), target=str(tmp_path / "in.zarr")))

    assert complete(accepting) == [5]
    assert status(output)["state"] == "sealed"
    assert attributes(output)[KEY]["state"] == "sealed"
    assert "holes" not in attributes(output)[KEY]
    complete(job, output=str(tmp_path / "anew.zarr"))
    assert status(output)["seal"]["root"] == status(tmp_path / "anew.zarr")["seal"]["root"]


@pytest.mark.parametrize(("failed", "pending"), [(2, 0), (1, 1)])
def test_more_failures_than_accepted_or_pending_chunks_publish_nothing(job, output, failed, pending):
    run = Segmentation(plan(job.model_copy(update={"accept_failures": 1})), Silent())
    with run.opened():
        process(run, range(CHUNKS - failed - pending))
        run.ledger.append([Record(CHUNKS - 1 - n, FAILED, 1, error="no", kind="X") for n in range(failed)])
        with pytest.raises(FailedChunksError, match=f"{failed} of 6 chunks failed, {pending} are pending"):
            finish(run)
    assert status(output)["state"] == "incomplete"
    assert "ome" not in attributes(output)


def damage(output):
    path = output / "0" / "c" / "1" / "1"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    (output / "0" / "c" / "0" / "0").unlink()


def test_repair_takes_back_what_is_damaged_and_nothing_else(job, output):
    complete(job)
    whole, root = files(output / "0"), status(output)["seal"]["root"]
    assert pipeline.repair(output).ok
    assert status(output)["state"] == "sealed", "a whole result stays as it is"
    damage(output)
    found = pipeline.repair(output)
    assert not found.ok
    assert (found.missing, found.damaged, found.chunks) == (("c/0/0",), ("c/1/1",), (0, 3))
    assert status(output)["state"] == "incomplete"
    assert status(output)["pending"] == 2
    assert "ome" not in attributes(output)
    assert not (output / "0" / "c" / "1" / "1").exists(), "nobody reads damaged bytes any more"
    assert complete(job) == [0, 3]
    assert files(output / "0") == whole
    assert status(output)["seal"]["root"] == root


def test_repair_and_rerun_refuse_what_is_no_run_or_somebody_elses(job, output, tmp_path):
    with pytest.raises(InputError, match="no run here"):
        pipeline.repair(tmp_path / "none.zarr")
    complete(job)
    with pytest.raises(InputError, match="exclude each other"):
        pipeline.rerun(output, failed=True, stale=True)
    run = Segmentation(plan(job), Silent())
    with run.opened(), pytest.raises(RunMismatchError, match="another process is writing"):
        pipeline.repair(output)


def test_a_seal_is_gone_before_the_first_chunk_is_computed_again(job, output):
    """Whatever happens between two steps of opening, an unfinished result never looks finished."""
    complete(job)
    damage(output)
    run = Segmentation(plan(job), Silent())
    with run.opened(), pytest.raises(DamageError):
        run.verify()
    assert json.loads((output / "zarr.json").read_text())["attributes"].keys() == {KEY}
    assert not (output.with_name("out.zarr.run") / "seal.json").exists()
