import json
import uuid
from collections import Counter

import pytest
import zarr
from fakes import FakeWork
from volumes import files
from zarr.storage import LocalStore

from pipeline.errors import InputError
from pipeline.run.folder import RunFolder
from pipeline.run.journal import frame, replay
from pipeline.run.ledger import Ledger
from pipeline.run.parts import last_epoch
from pipeline.run.records import DONE, FAILED, SKIPPED, Done, Record
from pipeline.run.verify import SHOWN, Verification, claims_hold, last_done, verify
from pipeline.store import LocalPlace
from pipeline.volume import digest_bytes

CHUNKS = 12


class Run:
    """A finished run of fake work: 4 x 3 chunks, each one shard."""

    def __init__(self, root):
        self.output, self.array = root / "out.zarr", root / "out.zarr" / "0"
        work = FakeWork(self.output, (30, 22), (8, 8))
        work.create()
        self.folder, self.grid, self.processor = RunFolder(self.output), work.grid, work.open(1)
        grid = {"shape": list(work.shape), "chunk": list(work.chunk)}
        self.folder.begin({"work": "fake"}, {"array": "0", "grid": grid})
        self.record(*range(CHUNKS))

    def record(self, *chunks):
        ledger = self.ledger()
        ledger.append([Record(c, DONE, 1, self.processor.process(c)) for c in chunks])
        ledger.close()

    def note(self, *records):
        ledger = self.ledger()
        ledger.append(records)
        ledger.close()

    def seal(self, **more):
        self.folder.seal({"state": "sealed", "root": self.ledger().root_digest()} | more)

    def ledger(self):
        return Ledger(self.folder.journal, CHUNKS, epoch=1 + last_epoch(self.folder.journal))

    def shard(self, chunk):
        return self.array / self.key(chunk)

    def key(self, chunk):
        return "c/" + "/".join(map(str, self.grid.position(chunk)))


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def flip(path, place, bit=0):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def test_a_whole_run_is_ok(run):
    run.seal(metadata=digest_bytes((run.array / "zarr.json").read_bytes()))
    before = files(run.output.parent)
    found = verify(run.output)
    assert found.ok
    assert (found.checked, found.incomplete) == (CHUNKS, 0)
    assert (found.missing, found.damaged, found.foreign, found.leftovers) == ((), (), (), ())
    assert found.sealed_root == found.root == run.ledger().root_digest()
    assert files(run.output.parent) == before, "looking changes nothing"


def test_progress_is_told_and_the_findings_are_json(run):
    seen = []
    found = verify(run.output, threads=3, on_progress=lambda *args: seen.append(args)).to_json()
    assert seen == [(n, CHUNKS) for n in range(1, CHUNKS + 1)]
    assert json.loads(json.dumps(found)) == found
    assert found["ok"]
    assert found["counts"] == {"missing": 0, "damaged": 0, "foreign": 0, "leftovers": 0}


def test_the_voxels_of_each_whole_chunk_are_told(run):
    run.shard(4).unlink()
    flip(run.shard(7), 9)
    seen = {}
    verify(run.output, on_voxels=seen.__setitem__)
    array = zarr.open_array(run.array, mode="r")
    assert sorted(seen) == [chunk for chunk in range(CHUNKS) if chunk not in (4, 7)]
    assert all((voxels == array[run.grid.core(chunk).slices]).all() for chunk, voxels in seen.items())


def test_a_deleted_shard_is_missing(run):
    run.shard(4).unlink()
    run.shard(7).unlink()
    found = verify(run.output)
    assert not found.ok
    assert found.missing == ("c/1/1", "c/2/1")
    assert (found.damaged, found.foreign) == ((), ())


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("keep", [lambda n: 0, lambda n: 1, lambda n: n // 2, lambda n: n - 1])
def test_a_truncated_shard_is_damaged(run, keep, decode):
    data = run.shard(5).read_bytes()
    run.shard(5).write_bytes(data[: keep(len(data))])
    found = verify(run.output, decode=decode)
    assert not found.ok
    assert found.damaged == (run.key(5),)
    assert (found.missing, found.foreign) == ((), ())


def test_a_shard_that_has_grown_is_damaged(run):
    run.shard(5).write_bytes(run.shard(5).read_bytes() + b"\0")
    assert verify(run.output).damaged == (run.key(5),)


def test_a_flipped_bit_anywhere_in_a_shard_is_damage(run):
    for place in range(run.shard(2).stat().st_size):
        flip(run.shard(2), place, place % 8)
        assert verify(run.output, decode=False).damaged == (run.key(2),)
        flip(run.shard(2), place, place % 8)
    assert verify(run.output).ok


def test_swapped_shards_are_both_damaged_though_each_is_whole(run):
    first, second = run.shard(0).read_bytes(), run.shard(1).read_bytes()
    run.shard(0).write_bytes(second)
    run.shard(1).write_bytes(first)
    assert verify(run.output).damaged == (run.key(0), run.key(1))


@pytest.mark.parametrize("name", ["c/9/9", "c/7/0/0", "c/0/x", "notes.txt", "c/.hidden", "1/zarr.json"])
def test_a_file_that_no_chunk_claims_is_foreign(run, name):
    (run.array / name).parent.mkdir(parents=True, exist_ok=True)
    (run.array / name).write_text("x")
    found = verify(run.output)
    assert not found.ok
    assert found.foreign == (name,)


def test_what_a_dying_process_left_half_written_is_told_and_harmless(run):
    name = f"{run.key(3)}.{uuid.uuid4().hex}.partial"
    (run.array / name).write_bytes(b"half")
    found = verify(run.output)
    assert found.ok
    assert found.leftovers == (name,)


@pytest.mark.parametrize("decode", [True, False])
def test_an_unfinished_run_is_ok_as_far_as_it_goes(run, decode):
    run.note(Record(3, FAILED, 1, error="no"), Record(4, SKIPPED, 1))
    ledger = run.ledger()
    ledger.requeue([8], "for the test")
    ledger.close()
    run.shard(8).unlink()
    found = verify(run.output, decode=decode)
    assert found.incomplete == 2
    assert found.checked == CHUNKS - 3
    assert found.foreign == (run.key(4),), "3 may have been written without a word; 4 must not be"
    assert (found.missing, found.damaged) == ((), ())
    assert found.sealed_root is None


def test_the_last_record_of_a_chunk_is_the_one_that_counts(run):
    claim = run.processor.process(0)
    run.note(Record(0, FAILED, 2, error="no"), Record(0, DONE, 3, Done(())), Record(0, DONE, 4, claim))
    assert verify(run.output).ok
    run.note(Record(1, DONE, 2, Done((*claim.stored,))))
    assert verify(run.output).foreign == (run.key(1),)


def test_another_root_than_the_sealed_one_is_not_ok(run):
    run.folder.seal({"state": "sealed", "root": "0" * 64})
    found = verify(run.output)
    assert not found.ok
    assert found.sealed_root == "0" * 64
    assert (found.missing, found.damaged, found.foreign) == ((), (), ())


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"zarr_format": 3}', b'{"zarr_format": 3, "node_type": "group"}']
)
def test_metadata_that_cannot_be_read_are_damaged(run, content):
    (run.array / "zarr.json").write_bytes(content)
    found = verify(run.output)
    assert not found.ok
    assert found.damaged == ("zarr.json",)
    run.shard(0).unlink()
    assert verify(run.output).missing == (run.key(0),), "the bytes are compared all the same"


def test_metadata_that_are_gone_are_missing(run):
    (run.array / "zarr.json").unlink()
    assert verify(run.output).missing == ("zarr.json",)


def test_metadata_that_are_not_those_that_were_sealed_are_damaged(run):
    document = run.array / "zarr.json"
    run.seal(metadata=digest_bytes(document.read_bytes()))
    assert verify(run.output).ok
    document.write_text(document.read_text().replace('"fill_value": 0', '"fill_value": 1'))
    assert verify(run.output).damaged == ("zarr.json",)


def test_stored_bytes_that_the_ledger_has_as_they_are_but_that_do_not_decode_are_damaged(run):
    data = run.shard(6).read_bytes()[:-3] + b"xyz"
    run.shard(6).write_bytes(data)
    (stored,) = run.processor.process(6).stored
    run.shard(6).write_bytes(data)
    wrong = type(stored)(stored.key, digest_bytes(data), len(data))
    run.note(Record(6, DONE, 2, Done((wrong,))))
    assert verify(run.output, decode=False).ok
    assert verify(run.output).damaged == (run.key(6),)


def test_each_stored_byte_is_read_once(run, monkeypatch):
    """A second read that fails would be taken for damage."""
    array = zarr.open_array(str(run.array), mode="r")
    monkeypatch.setattr("pipeline.run.verify._open", lambda place: array)
    reads = Counter()
    get = LocalPlace.get
    monkeypatch.setattr(LocalPlace, "get", lambda place, key: reads.update([key]) or get(place, key))

    async def refuse(*_, **__):
        raise OSError("the store does not answer")

    monkeypatch.setattr(LocalStore, "get", refuse)
    found = verify(run.output)
    assert (found.ok, found.checked) == (True, CHUNKS)
    assert {reads[run.key(chunk)] for chunk in range(CHUNKS)} == {1}


def test_what_another_writer_adds_meanwhile_does_not_hide_what_is_done(run, monkeypatch):
    """Even in an earlier epoch, where a process that lost its lease is late."""
    early = run.folder.journal.root / "000001.jsonl"
    early.rename(early.with_name("000002.jsonl"))

    def replay_and_add(*which):
        yield from replay(*which)
        early.write_bytes(frame(Record(0, FAILED, 1)) * 5)

    monkeypatch.setattr("pipeline.run.verify.replay", replay_and_add)
    assert [record.chunk for record in last_done(run.folder, run.ledger())] == list(range(CHUNKS))


def test_a_run_that_has_only_begun_is_ok(tmp_path):
    folder = RunFolder(tmp_path / "out.zarr")
    folder.begin({"work": "fake"}, {"array": "0", "grid": {"shape": [8, 8], "chunk": [4, 4]}})
    found = verify(tmp_path / "out.zarr")
    assert found.ok
    assert (found.checked, found.incomplete) == (0, 4)


def test_no_run_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="there is no run here"):
        verify(tmp_path / "out.zarr")


def test_long_lists_are_cut_and_their_counts_are_not():
    keys = tuple(f"c/{n}" for n in range(SHOWN + 50))
    found = Verification(0, keys, (), keys, (), 0, (3,), "a", None).to_json()
    assert len(found["missing"]) == len(found["foreign"]) == SHOWN
    assert found["counts"]["missing"] == SHOWN + 50
    assert not found["ok"]


def test_claims_hold_where_each_stored_object_has_its_size(run):
    def lost():
        return claims_hold(run.folder, "0", run.ledger())

    assert lost() == []
    run.shard(9).unlink()
    run.shard(2).write_bytes(b"short")
    flip(run.shard(5), 0)
    assert lost() == [2, 9], "a quick look sees sizes, and no flipped bits"
    run.note(Record(9, FAILED, 2, error="no"))
    assert lost() == [2], "what is not claimed cannot be lost"
    run.record(2, 9)
    assert lost() == []
