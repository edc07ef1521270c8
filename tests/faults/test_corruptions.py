"""Thousands of corruptions of stored bytes, in results and in inputs: none goes unnoticed."""

import os
import random
from collections import Counter

import numpy as np
import pytest
from corruptions import KINDS, corrupted, damage, swap
from inline import drive, look, tiny_job
from networks import make_checkpoint
from volumes import create_filled, small_spec

from pipeline.errors import ChunkError, FailedChunksError
from pipeline.geometry import Box
from pipeline.run.folder import RunFolder
from pipeline.run.journal import replay
from pipeline.run.ledger import Ledger
from pipeline.run.verify import verify
from pipeline.volume import open_volume, publish

SIDE, SHARD = 256, 32
OBJECTS = (SIDE // SHARD) ** 2
ROUNDS = 25
"""Times that every stored object of a result, and of an input, is corrupted: 1,600 corruptions each."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("corruptions")
    make_input(root / "image.zarr")
    make_checkpoint(root / "model.safetensors", depth=1, width=2, padding="same")
    drive(tiny_job(root, root / "out.zarr"))
    return root


def make_input(path):
    """A volume of noise, which does not compress: every stored bit counts."""
    voxels = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    spec = small_spec((SIDE, SIDE), shard=(SHARD, SHARD))
    create_filled(path, spec, voxels)
    publish(path, name="noise", axes=spec.axes, levels=[("0", spec.space)], classes=None)


def chunk_files(path):
    return sorted(p for p in (path / "0" / "c").rglob("*") if p.is_file())


def box_of(path):
    """The voxels that a stored object holds."""
    y, x = int(path.parent.name), int(path.name)
    return Box((y * SHARD, x * SHARD), ((y + 1) * SHARD, (x + 1) * SHARD))


def test_no_corruption_of_a_result_goes_unnoticed(root):
    chance, seen = random.Random(11), Counter()
    paths = chunk_files(root / "out.zarr")
    assert len(paths) == OBJECTS
    for _ in range(ROUNDS):
        with corrupted(paths, chance) as happened:
            found = verify(root / "out.zarr")
            keys = {kind: [] for kind in KINDS}
            for path, kind in happened.items():
                keys[kind].append(str(path.relative_to(root / "out.zarr" / "0")))
            assert not found.ok
            assert set(found.missing) == set(keys.pop("delete"))
            assert set(found.damaged) == {key for some in keys.values() for key in some}
            assert len(found.chunks) == OBJECTS
        seen.update(happened.values())
    assert seen.total() == ROUNDS * OBJECTS == 1600
    assert min(seen[kind] for kind in KINDS) > 100
    assert verify(root / "out.zarr").ok, "everything is as it was"


def test_no_corruption_of_an_input_is_read_as_data(root):
    chance, seen = random.Random(12), Counter()
    volume = open_volume(root / "image.zarr")
    paths = chunk_files(root / "image.zarr")
    whole = {path: volume.read(box_of(path)) for path in paths}
    silent = 0
    for _ in range(ROUNDS):
        for path in paths:
            kind = chance.choice([k for k in KINDS if k != "swap"])
            before = path.read_bytes()
            damage(path, kind, chance)
            silent += not is_noticed(volume, box_of(path), whole[path])
            path.write_bytes(before)
            seen[kind] += 1
    assert silent == 0
    assert seen.total() == ROUNDS * OBJECTS == 1600


def is_noticed(volume, box, voxels):
    """Whether reading is an error of that chunk, or gives the right voxels all the same (bits that mean nothing)."""
    try:
        return np.array_equal(volume.read_shown(box), voxels)
    except ChunkError:
        return True


def test_swapped_inputs_are_told_from_what_a_run_has_seen(root):
    """Each of two swapped files is sound in itself; what tells them is the identity that the ledger keeps."""
    chance = random.Random(13)
    volume = open_volume(root / "image.zarr")
    paths = chunk_files(root / "image.zarr")
    seen = {path: volume.look(box_of(path), holes="error").seen for path in paths}
    for _ in range(200):
        one, other = chance.sample(paths, 2)
        swap(one, other)
        for path in (one, other):
            assert volume.look(box_of(path), holes="error").seen != seen[path]
        swap(one, other)
    assert all(volume.look(box_of(path), holes="error").seen == seen[path] for path in paths)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "swap"])
def test_a_run_over_a_corrupt_input_fails_those_chunks_and_no_others(root, tmp_path, kind):
    chance = random.Random(kind)
    job = tiny_job(root, tmp_path / "out.zarr")
    hit = chance.sample(chunk_files(root / "image.zarr"), 5)
    before = {path: (path.read_bytes(), path.stat()) for path in hit}
    for path in hit:
        damage(path, kind, chance)
        if path.exists():
            set_time(path, before[path][1])
    with pytest.raises(FailedChunksError):
        drive(job)
    left = look(job.output)
    assert (left.state, left.published) == ("incomplete", False)
    folder = RunFolder(job.output)
    failed = set(Ledger(folder.journal, OBJECTS).failures)
    cores = {int(p.parent.name) * (SIDE // SHARD) + int(p.name) for p in hit}
    assert cores <= failed
    assert failed <= {c for core in cores for c in around(core)}
    for path, (data, stat) in before.items():
        path.write_bytes(data)
        set_time(path, stat)
    drive(job)
    assert look(job.output).root == look(root / "out.zarr").root


def set_time(path, stat):
    """Give a file back the time of its last change: bytes that rot on a disk do not move it."""
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def around(chunk):
    """A chunk and those whose reading windows can touch it."""
    n = SIDE // SHARD
    y, x = divmod(chunk, n)
    return [r * n + c for r in range(y - 1, y + 2) for c in range(x - 1, x + 2) if 0 <= r < n and 0 <= c < n]


def test_no_flip_in_a_journal_makes_a_claim(root):
    """A damaged line is left out, and its chunk done again: what is claimed was claimed before, word for word."""
    chance = random.Random(14)
    folder = RunFolder(root / "out.zarr")
    claims = {record for record in map(repr, replay(folder.journal)) if record != "None"}
    lost = 0
    for path in [p for p in (root / "out.zarr.run" / "journal").rglob("*") if p.is_file()]:
        before = path.read_bytes()
        for _ in range(300):
            damage(path, "flip", chance)
            found = list(map(repr, replay(folder.journal)))
            assert claims >= set(found) - {"None"}
            lost += len(claims) - len(set(found) - {"None"})
            path.write_bytes(before)
    assert lost >= 300
