"""An ingest as a run: every format, class maps, levels, progress; interrupted, killed, resumed, refused."""

import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr
from faults import Crash, Faults, failing_places, failing_system
from ingests import Watched, fail_in, ingest, records
from inline import REFUSALS, is_image
from PIL import Image
from s3 import S3Server
from volumes import files, numbers, save

import pipeline
from pipeline.config import IngestJob
from pipeline.errors import (
    EnvironmentFaultError,
    InputDamageError,
    MissingChunkError,
    RunMismatchError,
    StoreError,
    VolumeError,
)
from pipeline.geometry import Box
from pipeline.run.folder import RunFolder
from pipeline.run.ledger import Ledger
from pipeline.run.records import DONE
from pipeline.store import PARTIAL, open_place
from pipeline.volume import Space, open_volume, pyramid, reduce
from pipeline.volume.sources import open_source
from pipeline.volume.sources.reading import Reading
from pipeline.volume.sources.source import ArraySource
from pipeline.volume.sources.zarrs import VolumeSource

REAL = Path(__file__).parents[3] / "shared" / "data" / "em_isbi2012"


@pytest.fixture
def small_levels(monkeypatch):
    """Volumes of a few voxels have coarser levels too."""
    monkeypatch.setattr(pyramid, "COARSEST", 8)


def voxels_of(path, level=0):
    volume = open_volume(path, level=level)
    return volume.read(volume.box)


def stored(output):
    """Return everything that a volume stores, without what was left half written."""
    place = open_place(output)
    return {entry.key: place.get(entry.key) for entry in place.entries() if not entry.key.endswith(PARTIAL)}


@pytest.mark.parametrize(
    ("save_as", "axes", "data"),
    [
        (lambda p, v: Image.fromarray(v).save(p / "a.png"), None, numbers("yx", "u1")),
        (lambda p, v: Image.fromarray(v).save(p / "a.png"), None, numbers("yx", "u2") * 99),
        (lambda p, v: Image.fromarray(v).save(p / "a.png"), None, numbers("yxc", "u1")),
        (lambda p, v: tifffile.imwrite(p / "a.tif", v, tile=(16, 16)), "zyx", numbers("zyx")),
        (
            lambda p, v: tifffile.imwrite(p / "a.tif", v, photometric="minisblack", rowsperstrip=3),
            "cyx",
            numbers("cyx"),
        ),
        (lambda p, v: np.save(p / "a.npy", v), "czyx", numbers("czyx", "f4")),
        (lambda p, v: np.save(p / "a.npy", v), "yxc", numbers("yxc", ">i2")),
        (lambda p, v: save(p / "a.zarr", v, zarr_format=2), "zcyx", numbers("zcyx")),
        (lambda p, v: save(p / "a.zarr", v, "yx", sharded=True), None, numbers("yx", "?")),
    ],
)
def test_every_format_is_copied_exactly(tmp_path, save_as, axes, data):
    save_as(tmp_path, data)
    (path,) = tmp_path.iterdir()
    out = tmp_path / "out.zarr"
    with open_source(path, Reading(axes=axes)) as source:
        expected = source.read(Box.of_shape(source.shape))
        shard = (8,) * len(source.shape)
    found = pipeline.ingest(IngestJob(source=str(path), output=str(out), axes=axes, shard=shard))
    volume = open_volume(out)
    np.testing.assert_array_equal(volume.read(volume.box), expected)
    assert sorted(expected.ravel().tolist()) == sorted(data.ravel().tolist())
    assert volume.missing(volume.box) == []
    assert found["ingest"]["bytes"] == expected.nbytes
    if data.dtype.kind != "b":
        yaozarrs.validate_zarr_store(str(out))


def test_an_image_gets_levels_by_the_mean_and_keeps_its_space(tmp_path):
    data = np.random.default_rng(0).integers(0, 255, (3, 700, 600)).astype("u1")
    space = Space("zyx", (50.0, 4.0, 4.0), (100.0, 0.0, 8.0), "nanometer")
    ingest(Watched(data, space), tmp_path / "a.zarr")
    spaces = [open_volume(tmp_path / "a.zarr", level=i).space for i in (0, 1)]
    assert spaces == [space, space.coarser((1, 2, 2))]
    np.testing.assert_array_equal(voxels_of(tmp_path / "a.zarr", 1)[0], reduce(data, (1, 2, 2), "mean"))
    assert zarr.open_group(str(tmp_path / "a.zarr")).attrs["ome"]["multiscales"][0]["name"] == "a"
    yaozarrs.validate_zarr_store(str(tmp_path / "a.zarr"))


@pytest.mark.parametrize(
    ("options", "classes"),
    [
        ({"values": {0: 1, 255: 0}, "classes": ("inside", "membrane")}, ("inside", "membrane")),
        ({"values": {0: 1, 255: 0}}, ("class 0", "class 1")),
        ({"threshold": 127, "classes": ["low", "high"]}, ("low", "high")),
    ],
)
def test_a_class_map_gets_levels_by_the_mode_and_names(tmp_path, options, classes):
    data = np.random.default_rng(0).choice([0, 255], (600, 520)).astype("u1")
    ingest(Watched(data), tmp_path / "a.zarr", **options)
    ids = data > 127 if "threshold" in options else data == 0
    np.testing.assert_array_equal(voxels_of(tmp_path / "a.zarr")[0], ids)
    np.testing.assert_array_equal(voxels_of(tmp_path / "a.zarr", 1)[0], reduce(ids.view("u1"), (2, 2), "mode"))
    label = zarr.open_group(str(tmp_path / "a.zarr")).attrs["ome"]["image-label"]
    assert [entry["class"] for entry in label["properties"]] == list(classes)
    yaozarrs.validate_zarr_store(str(tmp_path / "a.zarr"))


def test_channels_keep_their_names(tmp_path):
    source = Watched(np.zeros((30, 20), "u1"))
    source.channels, source.channel_names = 2, ("DAPI", "GFP")
    source.read = lambda box: np.zeros((2, *box.shape), "u1")
    ingest(source, tmp_path / "a.zarr")
    omero = zarr.open_group(str(tmp_path / "a.zarr")).attrs["ome"]["omero"]
    assert [channel["label"] for channel in omero["channels"]] == ["DAPI", "GFP"]
    yaozarrs.validate_zarr_store(str(tmp_path / "a.zarr"))


def test_without_a_pyramid_there_is_one_level(tmp_path):
    ingest(Watched(np.zeros((600, 600), "u1")), tmp_path / "a.zarr", pyramid=False)
    assert sorted(p.name for p in (tmp_path / "a.zarr").iterdir()) == ["0", "zarr.json"]


@pytest.mark.parametrize("slab", [None, (8, 8, 8), (1, 20, 30), (3, 20, 5)])
@pytest.mark.parametrize("threads", [1, 3])
def test_bytes_do_not_depend_on_pieces_and_threads(tmp_path, small_levels, slab, threads):
    data = np.arange(5 * 20 * 30, dtype="u2").reshape(5, 20, 30)
    ingest(Watched(data), tmp_path / "a.zarr", shard=(4, 8, 8))
    ingest(Watched(data, slab=slab), tmp_path / "b.zarr", shard=(4, 8, 8), threads=threads)
    one, two = ({k: v for k, v in stored(tmp_path / n).items() if "/c/" in k} for n in ("a.zarr", "b.zarr"))
    assert one == two
    np.testing.assert_array_equal(voxels_of(tmp_path / "b.zarr")[0], data)


def test_progress_ends_at_all_bytes_of_all_levels_also_when_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(pyramid, "COARSEST", 256)
    told: list[int] = []
    data = np.zeros((2048, 2048), "u1")
    failing = Watched(data, fail=fail_in(Box((2047, 2047), (2048, 2048)), VolumeError("planned failure")))
    with pytest.raises(VolumeError, match="planned failure"):
        ingest(failing, tmp_path / "a.zarr", shard=(512, 512), told=told.append)
    assert told == sorted(told)
    again: list[int] = []
    ingest(Watched(data), tmp_path / "a.zarr", shard=(512, 512), told=again.append)
    assert again[0] >= 1
    assert again == sorted(again)
    assert again[-1] == -(-sum(4**-i * data.nbytes for i in range(4)) // 2**20)


def test_an_interrupted_ingest_goes_on_with_what_is_lacking_and_gives_the_same_bytes(tmp_path, small_levels):
    data = np.random.default_rng(0).integers(0, 255, (600, 40)).astype("u1")
    whole, again = tmp_path / "whole.zarr", tmp_path / "again.zarr"
    ingest(Watched(data), whole, shard=(64, 64))
    failing = Watched(data, fail=fail_in(Box((300, 0), (301, 1)), VolumeError("planned failure")))
    with pytest.raises(VolumeError, match="planned failure"):
        ingest(failing, again, shard=(64, 64))
    assert not is_image(open_place(again))
    found = pipeline.status(again)
    assert (found["state"], found["failed"]) == ("incomplete", 1)
    assert "planned failure" in found["failures"][0]["error"]
    (again / "0" / "c" / "0" / "0.abc.partial").write_bytes(b"left over")
    source = Watched(data)
    ingest(source, again, shard=(64, 64))
    done = [record.chunk for record in records(again) if record.state == DONE]
    assert sorted(done) == list(range(found["total"]))
    assert len(source.boxes) == found["total"] - found["done"]
    expected = {k: v for k, v in stored(whole).items() if k != "zarr.json"}
    assert {k: v for k, v in stored(again).items() if k != "zarr.json"} == expected
    assert RunFolder(again).read_seal()["root"] == RunFolder(whole).read_seal()["root"]


def test_finished_chunks_that_are_gone_are_copied_again(tmp_path):
    data = np.arange(40 * 40, dtype="u2").reshape(40, 40)
    ingest(Watched(data), tmp_path / "a.zarr", shard=(8, 8))
    (tmp_path / "a.zarr" / "0" / "c" / "3" / "3").unlink()
    source = Watched(data)
    run = ingest(source, tmp_path / "a.zarr", shard=(8, 8))
    assert len(source.boxes) == 1
    assert run.copied == data[24:32, 24:32].nbytes
    np.testing.assert_array_equal(voxels_of(tmp_path / "a.zarr")[0], data)
    assert RunFolder(tmp_path / "a.zarr").is_sealed


def test_verify_finds_damage_and_repair_lets_an_ingest_mend_it(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(40 * 40, dtype="u2").reshape(40, 40))
    out = tmp_path / "a.zarr"
    job = IngestJob(source=str(tmp_path / "a.npy"), output=str(out), shard=(8, 8))
    pipeline.ingest(job)
    before = stored(out)
    assert pipeline.verify(out).ok
    shard = out / "0" / "c" / "3" / "3"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    assert pipeline.repair(out).damaged == ("c/3/3",)
    assert not is_image(open_place(out))
    assert pipeline.rerun(out)["state"] == "sealed"
    assert pipeline.verify(out).ok
    assert stored(out) == before


def test_a_finished_ingest_has_nothing_to_do(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((40, 40), "u1"))
    job = IngestJob(source=str(tmp_path / "a.npy"), output=str(tmp_path / "a.zarr"))
    first = pipeline.ingest(job)
    before = files(tmp_path / "a.zarr")
    again = pipeline.ingest(job.model_copy(update={"threads": 7, "retries": 0}))
    assert files(tmp_path / "a.zarr") == before
    assert (again["ingest"]["bytes"], again["ingest"]["mb_per_s"], again["ingest"]["resumed"]) == (0, None, 1)
    assert (first["ingest"]["bytes"], first["ingest"]["resumed"]) == (1600, 0)
    assert first["ingest"]["mb_per_s"] > 0
    del again["ingest"], first["ingest"]
    assert again == first


CHANGES = {
    "shard": ({"shard": (16, 16)}, r"layout\.shard: the run has \[8, 8\], you ask for \[16, 16\]"),
    "pyramid": ({"pyramid": False}, r"pyramid: the run has true, you ask for false"),
    "voxels": ({"voxel_size": (2, 2)}, r"space\.voxel_size: the run has \[1\.0, 1\.0\]"),
    "threshold": ({"threshold": 3}, r"source\.threshold: the run has nothing, you ask for 3"),
    "classes": ({"classes": tuple("abcdefgh")}, r"classes: the run has null, you ask for \[\"a\""),
    "source": ({"source": "b.npy"}, r"source\.url: the run has .*a\.npy\", you ask for .*b\.npy"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_source_or_other_settings_are_refused_and_named(tmp_path, name):
    changes, message = CHANGES[name]
    for source in ("a.npy", "b.npy"):
        np.save(tmp_path / source, np.ones((40, 40), "u1"))
    settings = {"source": "a.npy", "output": str(tmp_path / "a.zarr"), "shard": (8, 8)}
    pipeline.ingest(IngestJob.model_validate(settings | {"source": str(tmp_path / "a.npy")}))
    before = files(tmp_path)
    asked = settings | changes
    with pytest.raises(RunMismatchError, match=message):
        pipeline.ingest(IngestJob.model_validate(asked | {"source": str(tmp_path / asked["source"])}))
    assert files(tmp_path) == before


def write_slices(folder, values):
    folder.mkdir(exist_ok=True)
    for z, value in enumerate(values):
        Image.fromarray(np.full((20, 30), value, "u1")).save(folder / f"{z}.png")


def later(path, seconds=5):
    """Give a file another time of its last change, so that a test need not wait for one."""
    then = path.stat()
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns + seconds * 10**9))


def test_slices_that_changed_since_are_copied_again_and_no_others(tmp_path):
    write_slices(tmp_path / "slices", range(6))
    job = IngestJob(source=str(tmp_path / "slices"), output=str(tmp_path / "a.zarr"), shard=(2, 20, 30))
    (tmp_path / "slices" / "5.png").write_bytes((tmp_path / "slices" / "5.png").read_bytes()[:48])
    with pytest.raises(VolumeError, match=r"5\.png"):
        pipeline.ingest(job)
    Image.fromarray(np.full((20, 30), 5, "u1")).save(tmp_path / "slices" / "5.png")
    Image.fromarray(np.full((20, 30), 77, "u1")).save(tmp_path / "slices" / "2.png")
    later(tmp_path / "slices" / "2.png")
    heard = Heard()
    found = pipeline.ingest(job, listener=heard)
    assert found["ingest"]["resumed"] == 1
    assert any("2.png changed since; 1 finished chunks are copied again" in note for note in heard.notes)
    assert np.unique(voxels_of(tmp_path / "a.zarr")[0, 2]).tolist() == [77]
    later(tmp_path / "slices" / "2.png")
    changed = r"is complete, but .*2\.png changed since it was copied, under 1 of 3"
    with pytest.raises(RunMismatchError, match=changed):
        pipeline.ingest(job)
    assert is_image(open_place(tmp_path / "a.zarr"))
    assert pipeline.rerun(tmp_path / "a.zarr", stale=True)["state"] == "sealed"
    assert pipeline.ingest(job)["ingest"]["bytes"] == 0


class Heard:
    def __init__(self):
        self.notes = []

    def phase(self, name, total, unit):
        pass

    def progress(self, done, failed=0):
        pass

    def note(self, text):
        self.notes.append(text)


def test_a_file_that_changes_while_it_is_read_is_found(tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    np.save(path, np.ones((40, 40), "u1"))
    read = ArraySource.read
    monkeypatch.setattr(ArraySource, "read", lambda self, box: (later(path), read(self, box))[1])
    job = IngestJob(source=str(path), output=str(tmp_path / "a.zarr"), retries=0)
    with pytest.raises(InputDamageError, match=r"changed"):
        pipeline.ingest(job)
    assert not is_image(open_place(tmp_path / "a.zarr"))
    monkeypatch.undo()
    assert pipeline.ingest(job)["ingest"]["bytes"] == 1600


def test_a_zarr_that_changes_while_or_after_it_is_read_is_found(tmp_path, monkeypatch):
    save(tmp_path / "in.zarr", numbers("yx"), "yx")
    chunk = tmp_path / "in.zarr" / "c" / "1" / "1"
    job = IngestJob(source=str(tmp_path / "in.zarr"), output=str(tmp_path / "a.zarr"), retries=0)
    read = VolumeSource.read
    monkeypatch.setattr(VolumeSource, "read", lambda self, box: (read(self, box), later(chunk))[0])
    with pytest.raises(InputDamageError, match="a file changed while it was read; run again when nothing writes"):
        pipeline.ingest(job)
    monkeypatch.undo()
    assert pipeline.ingest(job)["ingest"]["resumed"] == 0
    later(chunk)
    with pytest.raises(
        RunMismatchError, match=r"is complete, but c/1/1 changed since it was copied, under 1 of 1"
    ):
        pipeline.ingest(job)


def test_bad_values_name_the_file_and_stop_the_run(tmp_path):
    write_slices(tmp_path / "slices", [128 if z == 9 else 255 for z in range(12)])
    job = {"source": str(tmp_path / "slices"), "output": str(tmp_path / "a.zarr"), "values": {0: 1, 255: 0}}
    with pytest.raises(VolumeError, match=r"9\.png \(slice 9\), voxel 0,0: value 128, but the map has 0, 255"):
        pipeline.ingest(IngestJob.model_validate(job))
    with pytest.raises(RunMismatchError, match=r"source\.values\.128: the run has nothing, you ask for 2"):
        pipeline.ingest(IngestJob.model_validate(job | {"values": {0: 1, 255: 0, 128: 2}}))


def test_holes_of_a_source_are_errors(tmp_path):
    save(tmp_path / "a.zarr", numbers("yx"), "yx")
    (tmp_path / "a.zarr" / "c" / "1" / "1").unlink()
    with pytest.raises(MissingChunkError):
        pipeline.ingest(IngestJob(source=str(tmp_path / "a.zarr"), output=str(tmp_path / "b.zarr")))
    job = IngestJob(source=str(tmp_path / "a.zarr"), output=str(tmp_path / "c.zarr"), holes="background")
    assert pipeline.ingest(job)["missing_chunks"]["count"] == 0


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), StoreError("the store does not answer")]
)
def test_faults_of_the_machine_and_the_store_leave_no_failed_chunk(tmp_path, error):
    data = np.arange(40 * 40, dtype="u2").reshape(40, 40)
    failing = Watched(data, fail=fail_in(Box((0, 0), (40, 40)), error))
    with pytest.raises(EnvironmentFaultError, match=r"What is done is kept; mend that and run again to resume"):
        ingest(failing, tmp_path / "a.zarr", shard=(8, 8), retries=0)
    assert pipeline.status(tmp_path / "a.zarr")["failed"] == 0
    ingest(Watched(data), tmp_path / "a.zarr", shard=(8, 8))
    np.testing.assert_array_equal(voxels_of(tmp_path / "a.zarr")[0], data)


def test_a_second_writer_is_refused(tmp_path):
    with RunFolder(tmp_path / "a.zarr").lease(), pytest.raises(RunMismatchError, match="another process"):
        ingest(Watched(np.ones((20, 20), "u1")), tmp_path / "a.zarr")


def test_what_is_made_by_other_runs_is_not_an_ingest_and_the_other_way_round(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((20, 20), "u1"))
    job = IngestJob(source=str(tmp_path / "a.npy"), output=str(tmp_path / "a.zarr"))
    pipeline.ingest(job)
    for asked in ({"chunks": ["0/0"]}, {"failed": True}):
        with pytest.raises(pipeline.OvertileError, match="an ingest, which goes on as a whole"):
            pipeline.rerun(tmp_path / "a.zarr", **asked)
    for call in (lambda: pipeline.replay(tmp_path / "a.zarr", 1), lambda: pipeline.report(tmp_path / "a.zarr")):
        with pytest.raises(RunMismatchError, match=r"the output of another kind of run \(ingest\)"):
            call()
    RunFolder(tmp_path / "b.zarr").begin({}, {"kind": "segmentation"})
    with pytest.raises(RunMismatchError, match=r"belongs to a run of another kind \(segmentation\)"):
        pipeline.ingest(job.model_copy(update={"output": str(tmp_path / "b.zarr")}))


DATA = np.random.default_rng(1).integers(0, 9, (24, 24)).astype("u1")


LEAST = 30
"""Operations that an ingest has, at least: a loop that goes through fewer goes through nothing."""

SLABS = 4
"""Chunks of an ingest of :data:`DATA`: slabs of 2 x 2 shards."""


def tiny(out):
    """Ingest a few small shards; each operation on the output may fail."""
    ingest(Watched(DATA), out, shard=(8, 8), threads=1, retries=0)


def attempt(out):
    try:
        tiny(out)
    except (Crash, *REFUSALS):
        return False
    return True


def check_resumed(out, expected):
    """Check what a fault left, go on, and check that the end is that of a run without faults."""
    folder = RunFolder(out)
    if is_image(open_place(out)):
        assert folder.is_sealed
    before = []
    if folder.exists:
        ledger = Ledger(folder.journal, SLABS)
        before = [chunk for chunk in range(ledger.total) if ledger.state(chunk) == DONE]
    tiny(out)
    done = [record.chunk for record in records(out) if record.state == DONE]
    assert all(done.count(chunk) == 1 for chunk in before)
    assert {k: v for k, v in stored(out).items() if k != "zarr.json"} == expected
    assert is_image(open_place(out))


@pytest.fixture
def expected(tmp_path, small_levels):
    tiny(tmp_path / "undisturbed.zarr")
    return {k: v for k, v in stored(tmp_path / "undisturbed.zarr").items() if k != "zarr.json"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "failing"),
    [
        ("crash", lambda faults, root: failing_system(faults, root)),
        ("full", lambda faults, root: failing_places(faults)),
        ("crash-after", lambda faults, root: failing_places(faults)),
    ],
)
def test_whatever_operation_fails_it_resumes_to_the_same_bytes(tmp_path, expected, kind, failing):
    for n in count(1, 7 if kind == "crash" else 3):
        out, faults = tmp_path / f"{n}.zarr", Faults(n, kind)
        with failing(faults, tmp_path):
            ended = attempt(out)
        if not faults.struck:
            assert ended
            break
        check_resumed(out, expected)
    assert n > LEAST


KILLED = """
import os, sys
import numpy as np
sys.path.insert(0, {support!r})
from ingests import Watched, ingest
from pipeline.geometry import Box
from pipeline.volume import pyramid
from pathlib import Path
pyramid.COARSEST = 8
reads = []
def die(box):
    reads.append(box)
    if len(reads) == {after}:
        os.kill(os.getpid(), 9)
data = np.random.default_rng(1).integers(0, 9, (24, 24)).astype("u1")
ingest(Watched(data, fail=die), Path({out!r}), shard=(8, 8), threads=2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 3, 4])
def test_a_killed_process_leaves_what_can_be_gone_on_with(tmp_path, expected, after):
    support = str(Path(__file__).parents[1] / "support")
    text = KILLED.format(support=support, after=after, out=str(tmp_path / "a.zarr"))
    root = str(Path(__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, "-c", text], env={**os.environ, "PYTHONPATH": root}, timeout=120, check=False
    )
    assert ended.returncode == -9
    check_resumed(tmp_path / "a.zarr", expected)


@pytest.mark.slow
def test_a_volume_in_an_object_store_is_ingested_and_resumed(tmp_path, small_levels, expected):
    with S3Server(patience=0.05) as server:
        np.save(tmp_path / "a.npy", DATA)
        job = IngestJob(source=str(tmp_path / "a.npy"), output=server.url("a.zarr"), shard=(8, 8), retries=0)
        server.fail(30, "403")
        with pytest.raises(REFUSALS):
            pipeline.ingest(job)
        server.heal()
        found = pipeline.ingest(job)
        assert {k: v for k, v in stored(job.output).items() if k != "zarr.json"} == expected
        assert found["ingest"]["resumed"] < SLABS
        assert pipeline.ingest(job)["ingest"]["bytes"] == 0
        assert pipeline.status(job.output)["state"] == "sealed"
        assert pipeline.verify(job.output).ok


@pytest.mark.skipif(not REAL.is_dir(), reason="the ISBI 2012 slices are not in ../shared/data/em_isbi2012")
def test_real_sections_and_their_labels(tmp_path):
    shared = {"voxel_size": (50, 4, 4), "unit": "nm"}
    label = {"values": {0: 1, 255: 0}, "classes": ("inside", "membrane")}
    for name, more in (("image", {}), ("label", label)):
        paths = {"source": str(REAL / name), "output": str(tmp_path / f"{name}.zarr")}
        pipeline.ingest(IngestJob.model_validate(paths | shared | more))
    paths = [f"{z:02}.png" for z in range(24)]
    image = np.stack([np.asarray(Image.open(REAL / "image" / p)) for p in paths])
    label = np.stack([np.asarray(Image.open(REAL / "label" / p)) for p in paths])
    np.testing.assert_array_equal(voxels_of(tmp_path / "image.zarr")[0], image)
    np.testing.assert_array_equal(voxels_of(tmp_path / "label.zarr")[0], label == 0)
    for name in ("image.zarr", "label.zarr"):
        assert open_volume(tmp_path / name).space == Space("zyx", (50, 4, 4), (0, 0, 0), "nanometer")
        yaozarrs.validate_zarr_store(str(tmp_path / name))
