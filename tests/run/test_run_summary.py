import json

import numpy as np
import pytest
from runs import make_run

from pipeline.errors import InputError, RunMismatchError
from pipeline.run.folder import RunFolder
from pipeline.run.summary import summarise


def test_a_run_in_short(tmp_path):
    output = make_run(
        tmp_path, np.zeros((128, 192), "u1"), states={1: "failed", 2: "skipped", 3: "pending"}, sealed=False
    )
    folder = RunFolder(output)
    found = summarise(folder)
    assert (found.id, found.fingerprint) == (folder.read()["write"], folder.read()["fingerprint"])
    assert found.chunks == {"total": 6, "done": 3, "failed": 1, "skipped": 1, "pending": 1}
    assert found.voxels == 3 * 64 * 64
    assert (found.state, found.root, found.sealed, found.elapsed) == ("incomplete", None, None, None)
    assert found.input == str(tmp_path / "image.zarr")
    assert found.model_digest.startswith("sha256:")
    assert found.network_seconds == pytest.approx(3 * found.seconds["compute"] / 3)
    assert found == type(found).model_validate_json(found.model_dump_json())


def test_a_sealed_run_took_from_its_beginning_to_its_seal(tmp_path):
    found = summarise(RunFolder(make_run(tmp_path, np.zeros((64, 64), "u1"))))
    assert (found.state, found.root, found.elapsed) == ("sealed", "abcd", 65.0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"plan": {}}, InputError, r"lacks something \(KeyError: 'workers'\)"),
        ({"created": "yesterday"}, InputError, "lacks something"),
        ({"settings": None}, InputError, "lacks something"),
        ({"kind": "ingest"}, RunMismatchError, "another kind of run"),
    ],
)
def test_a_record_that_lacks_something_is_refused(tmp_path, change, error, message):
    folder = RunFolder(make_run(tmp_path, np.zeros((64, 64), "u1")))
    path = tmp_path / "out.zarr.run" / "run.json"
    path.write_text(json.dumps(folder.read() | change))
    with pytest.raises(error, match=message):
        summarise(folder)


def test_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no run here"):
        summarise(RunFolder(tmp_path / "out.zarr"))


def test_seams_that_were_measured_are_kept(tmp_path):
    folder = RunFolder(make_run(tmp_path, np.zeros((64, 64), "u1")))
    assert summarise(folder).seams is None
    folder.seal(folder.read_seal() | {"seams": {"flagged": True}})
    assert summarise(folder).seams == {"flagged": True}
