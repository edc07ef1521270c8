import numpy as np
import pytest

import pipeline
from pipeline.config import IngestJob, load_job
from pipeline.errors import InputError
from pipeline.jobs.ingest import MIB
from pipeline.volume import open_volume


class Heard:
    def __init__(self):
        self.phases, self.done = [], []

    def phase(self, name, total, unit):
        self.phases.append((name, total, unit))

    def progress(self, done, failed=0):
        self.done.append(done)

    def note(self, text):
        raise AssertionError(text)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(1200 * 1000, dtype="u2").reshape(1200, 1000))
    return path


def test_makes_a_volume_and_tells_of_it(tmp_path, source):
    heard = Heard()
    options = {"source": str(source), "output": str(tmp_path / "a.zarr"), "shard": "512,512"}
    job = load_job(IngestJob, options | {"voxel_size": "0.5,0.25", "unit": "um"})
    found = pipeline.ingest(job, listener=heard)
    assert found["source"] == str(source)
    assert (found["shape"], found["shards"], found["unit"]) == ([1200, 1000], [512, 512], "micrometer")
    assert found["missing_chunks"]["count"] == 0
    volume = open_volume(tmp_path / "a.zarr")
    assert np.array_equal(volume.read(volume.box)[0], np.load(source))
    total = -(-sum(np.prod(level["shape"]) * 2 for level in found["levels"]) // MIB)
    assert heard.phases == [("ingest", total, "MiB")]
    assert heard.done == sorted(heard.done)
    assert heard.done[-1] == total


def test_class_maps_get_names_and_values(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0, 7], [7, 0]], "u1"))
    job = {"source": str(tmp_path / "a.npy"), "output": str(tmp_path / "a.zarr"), "values": {0: 0, 7: 1}}
    found = pipeline.ingest(load_job(IngestJob, job | {"classes": "background,cell"}))
    assert found["classes"] == ["background", "cell"]
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.read(volume.box)[0].tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("b.tif", "the name of a volume ends in .zarr"),
        ("none/b.zarr", "there is no folder"),
        ("old.zarr", "exists already"),
        ("slices/b.zarr", "is the source, holds it or lies in it"),
    ],
)
def test_refusals(tmp_path, source, output, message):
    (tmp_path / "old.zarr").mkdir()
    (tmp_path / "old.zarr" / "mine").write_text("")
    (tmp_path / "slices").mkdir()
    place = tmp_path / "slices" if output.startswith("slices") else source
    with pytest.raises(InputError, match=message):
        pipeline.ingest(IngestJob(source=str(place), output=str(tmp_path / output)))
    assert not (tmp_path / output / "zarr.json").exists()
