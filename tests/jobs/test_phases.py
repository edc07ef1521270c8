"""The phases of the main job, without workers: what was cut short is taken up, what was damaged is found."""

import dataclasses

import pytest
from networks import make_checkpoint, make_image
from volumes import files

from pipeline.config import SegmentJob
from pipeline.errors import DamageError, FailedChunksError, RunMismatchError, VolumeError
from pipeline.jobs.listener import Silent
from pipeline.jobs.planning import plan
from pipeline.jobs.recording import run_details
from pipeline.jobs.segmentation import Segmentation
from pipeline.run.records import DONE, FAILED, Record
from pipeline.run.status import status
from pipeline.run.verify import verify

CHUNKS = 6


@pytest.fixture
def job(tmp_path):
    make_image(tmp_path / "in.zarr", (90, 60))
    make_checkpoint(tmp_path / "model.safetensors", depth=2, width=2, padding="same")
    paths = {"input": "in.zarr", "output": "out.zarr", "model": "model.safetensors"}
    return SegmentJob(**{name: str(tmp_path / path) for name, path in paths.items()}, chunk=(32, 32), workers=1)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out.zarr"


def process(run, chunks):
    processor = run.work().open(1)
    run.ledger.append([Record(int(c), DONE, 1, processor.process(int(c))) for c in chunks])


def finish(run):
    found = run.verify()
    run.build_pyramid()
    run.seal(found)
    run.publish()


def complete(job):
    """Take a run through all its phases, as far as it lacks them; returns what opening it found."""
    run = Segmentation(plan(job), Silent())
    with run.opened() as found:
        process(run, run.ledger.lacking())
        finish(run)
    return found


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_run_is_sealed_and_says_what_it_did(job, output):
    found = complete(job)
    assert (found.lacking, found.lost, found.sealed) == (CHUNKS, 0, False)
    assert verify(output).ok
    said = status(output)
    assert (said["state"], said["done"], said["pending"]) == ("sealed", CHUNKS, 0)
    assert said["voxels"] == 90 * 60
    again = complete(job)
    assert (again.lacking, again.lost, again.sealed) == (0, 0, True)


def test_status_counts_the_voxels_of_what_is_done(job, output):
    run = Segmentation(plan(job), Silent())
    with run.opened():
        assert status(output)["voxels"] == 0
        process(run, [0, 1, 5])
        assert status(output)["voxels"] == 32 * 32 + 32 * 28 + 26 * 28


@pytest.mark.parametrize(
    "left", [[], ["zarr.json.0f9a.partial"], ["zarr.json.0f9a.partial", "zarr.json.77aa.partial"]]
)
def test_a_run_killed_while_it_made_its_array_is_taken_up(job, output, left):
    run = Segmentation(plan(job), Silent())
    run.folder.begin(run.plan.identity, run_details(run.plan))
    (output / "0").mkdir(parents=True)
    for name in left:
        (output / "0" / name).write_bytes(b"{")
    complete(job)
    assert verify(output).ok
    assert verify(output).leftovers == ()


@pytest.mark.parametrize("content", [b"", b"{}", b"not json"])
def test_something_else_in_the_place_of_the_array_is_refused_and_kept(job, output, content):
    run = Segmentation(plan(job), Silent())
    run.folder.begin(run.plan.identity, run_details(run.plan))
    (output / "0").mkdir(parents=True)
    (output / "0" / "zarr.json").write_bytes(content)
    with pytest.raises(VolumeError, match="in the way"), run.opened():
        pass
    assert files(output) == {"0/zarr.json": content} | {k: v for k, v in files(output).items() if k == "zarr.json"}


def test_an_array_of_another_layout_is_refused(job, output):
    complete(job)
    document = output / "0" / "zarr.json"
    document.write_text(document.read_text().replace('"data_type": "uint8"', '"data_type": "uint16"'))
    assert verify(output).damaged == ("zarr.json",)
    with pytest.raises(VolumeError, match="of another layout"):
        complete(job)


def test_finished_chunks_that_are_gone_are_lacking_again_and_the_seal_is_broken(job, output):
    complete(job)
    before = files(output / "0")
    root = status(output)["seal"]["root"]
    (output / "0/c/0/1").unlink()
    (output / "0/c/2/0").write_bytes(b"short")
    run = Segmentation(plan(job), Silent())
    with run.opened() as found:
        assert (found.lacking, found.lost, found.sealed) == (2, 2, False)
        assert not run.folder.is_sealed
        with pytest.raises(FailedChunksError, match="2 are pending"):
            run.check_complete()
    complete(job)
    assert files(output / "0") == before
    assert status(output)["seal"]["root"] == root


def test_damage_is_named_and_computed_again(job, output):
    run = Segmentation(plan(job), Silent())
    with run.opened():
        process(run, range(CHUNKS))
        flip(output / "0/c/1/1")
        (output / "0/c/0/0").unlink()
        with pytest.raises(DamageError, match=r"1 stored chunks missing, 1 damaged, 0 foreign \(c/0/0, c/1/1\)"):
            run.verify()
        assert run.ledger.lacking().tolist() == [0, 3]
    complete(job)
    assert verify(output).ok


@pytest.mark.parametrize("kind", ["labels", "probabilities"])
def test_damage_is_traced_to_chunks_of_several_shards(job, tmp_path, kind):
    job = job.model_copy(update={"chunk": (64, 32), "shard": (32, 16), "kind": kind})
    run = Segmentation(plan(job), Silent())
    with run.opened():
        process(run, run.ledger.lacking())
        assert len(run.ledger.lacking()) == 0
        lead = "c/" if kind == "labels" else "c/0/"
        flip(tmp_path / "out.zarr" / "0" / f"{lead}1/3")
        with pytest.raises(DamageError, match=f"{lead}1/3"):
            run.verify()
        assert run.ledger.lacking().tolist() == [1]


def test_a_foreign_file_is_named_and_nothing_is_computed_again_for_it(job, output):
    run = Segmentation(plan(job), Silent())
    with run.opened():
        process(run, range(CHUNKS))
        (output / "0/c/9").mkdir()
        (output / "0/c/9/9").write_bytes(b"x")
        with pytest.raises(DamageError, match=r"1 foreign \(c/9/9\).*remove the foreign ones"):
            run.verify()
        assert run.ledger.is_complete()
    (output / "0/c/9/9").unlink()
    complete(job)


def test_a_failed_chunk_keeps_the_run_from_being_sealed(job, output):
    run = Segmentation(plan(job), Silent())
    with run.opened():
        process(run, range(CHUNKS - 1))
        run.ledger.append([Record(5, FAILED, 3, error="no such chunk", kind="MissingChunkError")])
        found = run.verify()
        with pytest.raises(
            FailedChunksError, match=r"1 of 6 chunks failed.*First: chunk 2/1 after 3 attempt\(s\): no"
        ):
            run.seal(found)
    assert not run.folder.is_sealed


def test_one_process_has_the_run_at_a_time(job):
    run, other = Segmentation(plan(job), Silent()), Segmentation(plan(job), Silent())
    with run.opened(), pytest.raises(RunMismatchError, match="another process is writing"), other.opened():
        pass


def test_other_settings_do_not_get_into_the_run(job, output):
    complete(job)
    before = files(output.parent)
    other = dataclasses.replace(plan(job), precision="float64")
    with pytest.raises(RunMismatchError, match=r"numeric\.precision"), Segmentation(other, Silent()).opened():
        pass
    assert files(output.parent) == before
