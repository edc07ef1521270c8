import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from volumes import files

from pipeline.errors import InputError, RunMismatchError
from pipeline.run.fingerprint import fingerprint
from pipeline.run.folder import FORMAT, RunFolder

IDENTITY = {"input": {"path": "/in.zarr", "level": 0}, "model": {"digest": "sha256:aa"}}
DETAILS = {"grid": {"shape": [4], "chunk": [2]}, "settings": {"workers": 1}}

BEGIN = """
import json, sys
from pipeline.run.folder import RunFolder
folder = RunFolder(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps(folder.begin({"a": 1}, {"who": sys.argv[2]})), flush=True)
"""


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out.zarr"


@pytest.fixture
def folder(output):
    return RunFolder(output)


@contextmanager
def process(script, *arguments):
    """Run a script in another process; its first word has been said when the block begins."""
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        try:
            assert started.stdout.readline().strip() == "ready"
            yield started
        finally:
            started.kill()


def test_a_folder_is_beside_the_output_and_looking_at_it_makes_none(folder, tmp_path):
    assert folder.place.url == str(tmp_path / "out.zarr.run")
    assert folder.journal.url == str(tmp_path / "out.zarr.run" / "journal")
    assert folder.output.url == str(tmp_path / "out.zarr")
    assert folder.state == "incomplete"
    assert not folder.exists
    assert not folder.is_sealed
    assert folder.read_seal() is None
    assert files(tmp_path) == {}


def test_beginning_records_who_the_run_is(folder):
    recorded = folder.begin(IDENTITY, DETAILS)
    assert len(recorded.pop("write")) == 32
    assert recorded == {"format": FORMAT, "fingerprint": fingerprint(IDENTITY), "identity": IDENTITY, **DETAILS}
    assert folder.exists
    assert folder.read().items() >= recorded.items()
    assert set(files(folder.place.root)) == {"run.json"}, "nothing half written is left"


def test_the_same_fingerprint_resumes_and_the_first_record_stays(folder):
    first = folder.begin(IDENTITY, DETAILS)
    before = files(folder.place.root)
    again = folder.begin(json.loads(json.dumps(IDENTITY)), {"settings": {"workers": 8}})
    assert again == first
    assert files(folder.place.root) == before


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (
            IDENTITY | {"model": {"digest": "sha256:bb"}},
            'model.digest: the run has "sha256:aa", you ask for "sha256:bb"',
        ),
        (IDENTITY | {"input": {"path": "/in.zarr", "level": 1}}, "input.level: the run has 0, you ask for 1"),
        (IDENTITY | {"tile": None}, "tile: the run has nothing, you ask for null"),
        ({"input": IDENTITY["input"]}, "model"),
    ],
)
def test_another_fingerprint_is_refused_and_the_difference_named(folder, asked, named):
    folder.begin(IDENTITY, DETAILS)
    before = files(folder.place.root)
    with pytest.raises(RunMismatchError) as raised:
        folder.begin(asked, DETAILS)
    assert named in str(raised.value)
    assert "choose another output" in str(raised.value)
    assert files(folder.place.root) == before


def test_a_fingerprint_that_was_edited_by_hand_is_refused(folder):
    folder.begin(IDENTITY, DETAILS)
    (folder.place.root / "run.json").write_text(json.dumps(folder.read() | {"fingerprint": "0" * 32}))
    with pytest.raises(RunMismatchError, match="fingerprint alone"):
        folder.begin(IDENTITY, DETAILS)


def test_of_twenty_threads_that_begin_at_once_one_writes_and_all_read_the_same(folder):
    start = threading.Barrier(20)

    def begin(number):
        start.wait()
        return folder.begin(IDENTITY, {"who": number})

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(begin, range(20)))
    assert all(one == found[0] for one in found)
    assert found[0] == folder.read()
    assert set(files(folder.place.root)) == {"run.json"}


def test_of_processes_that_begin_at_once_one_writes_and_all_read_the_same(folder, output):
    def begin(number):
        with process(BEGIN, output, number) as started:
            start.wait()
            return json.loads(started.communicate("go\n")[0])

    start = threading.Barrier(5)
    with ThreadPoolExecutor(5) as pool:
        found = list(pool.map(begin, range(5)))
    assert all(one == found[0] for one in found)
    assert found[0] == folder.read()


def test_of_threads_with_other_fingerprints_one_wins_and_the_others_are_refused(folder):
    start = threading.Barrier(8)

    def begin(number):
        start.wait()
        try:
            return folder.begin({"a": number}, {})["identity"]["a"]
        except RunMismatchError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(begin, range(8)))
    winner = folder.read()["identity"]["a"]
    assert found[winner] == winner
    losers = [text for number, text in enumerate(found) if number != winner]
    assert all(f"a: the run has {winner}" in text for text in losers)


def test_no_run_is_an_input_error(folder):
    with pytest.raises(InputError, match="there is no run here"):
        folder.read()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not readable"),
        (b'{"format": "overt', "not readable"),
        (b"\xff\xfe\x00", "not readable"),
        (b"[1, 2]", "not a run of this version"),
        (b"{}", "not a run of this version"),
        (b'{"format": "overtile-run/2", "fingerprint": "a", "identity": {}}', "not a run of this version"),
        (b'{"format": "overtile-run/1", "identity": {}}', "not a run of this version"),
        (b'{"format": "overtile-run/1", "fingerprint": "a"}', "not a run of this version"),
        (b'{"format": "overtile-run/1", "fingerprint": "a", "identity": 3}', "not a run of this version"),
    ],
)
def test_a_broken_record_is_an_input_error_and_is_not_written_over(folder, content, said):
    folder.place.root.mkdir()
    (folder.place.root / "run.json").write_bytes(content)
    for look in (folder.read, lambda: folder.begin(IDENTITY, DETAILS)):
        with pytest.raises(InputError, match=said):
            look()
    assert files(folder.place.root) == {"run.json": content}


def test_a_record_that_is_a_folder_is_an_input_error(folder):
    (folder.place.root / "run.json").mkdir(parents=True)
    with pytest.raises(InputError, match="not readable"):
        folder.read()


def test_seal_and_unseal(folder):
    folder.begin(IDENTITY, DETAILS)
    folder.seal({"state": "sealed", "root": "ab"})
    assert folder.is_sealed
    assert folder.state == "sealed"
    assert folder.read_seal() == {"state": "sealed", "root": "ab"}
    folder.seal({"state": "partial", "root": "cd"})
    assert folder.read_seal() == {"state": "partial", "root": "cd"}
    assert folder.state == "partial"
    assert not folder.is_sealed, "a partial run is not complete"
    folder.unseal()
    assert not folder.is_sealed
    assert folder.read_seal() is None
    folder.unseal()
    assert set(files(folder.place.root)) == {"run.json"}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"root": 3, "state": "sealed"}', b'{"root": "ab"}']
)
def test_a_broken_seal_is_an_input_error(folder, content):
    folder.begin(IDENTITY, DETAILS)
    (folder.place.root / "seal.json").write_bytes(content)
    with pytest.raises(InputError, match=r"seal\.json"):
        folder.read_seal()


def test_another_identity_supersedes_the_recorded_one(folder):
    folder.begin(IDENTITY, DETAILS)
    other = IDENTITY | {"model": {"digest": "sha256:bb"}}
    assert folder.supersede(other, DETAILS) == folder.read()
    assert folder.begin(other, DETAILS)["identity"] == other
    with pytest.raises(RunMismatchError, match="sha256:bb"):
        folder.begin(IDENTITY, DETAILS)
