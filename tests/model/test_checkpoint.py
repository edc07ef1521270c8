"""Headers: read without torch, described, and refused with the reason."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import save_file

from pipeline.errors import ModelError
from pipeline.model import checkpoint
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.checkpoint import CheckpointHeader, Normalisation, describe, digest, read_header

DOCUMENT: dict[str, Any] = {
    "format": "overtile-checkpoint/1",
    "architecture": {"dims": 3, "in_channels": 2, "classes": 3, "depth": 3, "width": 4},
    "normalisation": {"mean": [0.5, 10.0], "std": [1.0, 3.0]},
    "classes": ["background", "membrane", "nucleus"],
    "axes": "zyx",
    "voxel_size": [40.0, 4.0, 4.0],
    "unit": "nanometer",
    "provenance": {"steps": 1000, "loss": 0.25, "data": "train.zarr", "mixed": True, "seed": None},
}


def write(path: Path, metadata: dict[str, str] | None) -> Path:
    save_file({"tensor": np.zeros(3, np.float32)}, path, metadata)
    return path


def write_header(path: Path, **changes: Any) -> Path:
    return write(path, {"overtile": json.dumps({**DOCUMENT, **changes})})


def test_a_header_comes_back_as_it_was_written(tmp_path: Path) -> None:
    header = CheckpointHeader.model_validate(DOCUMENT)
    read = read_header(write(tmp_path / "model.safetensors", header.to_metadata()))
    assert read == header
    assert read.provenance == DOCUMENT["provenance"]
    assert {key: type(value) for key, value in read.provenance.items()} == {
        key: type(value) for key, value in DOCUMENT["provenance"].items()
    }
    assert read.threshold == 0.5
    assert read.temperature == 1.0


def test_a_temperature_is_stored_and_one_of_one_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    header = CheckpointHeader.model_validate(DOCUMENT)
    assert "temperature" not in json.loads(header.to_metadata()["overtile"])
    warm = header.model_copy(update={"temperature": 1.7})
    path = write(tmp_path / "model.safetensors", warm.to_metadata())
    assert read_header(path).temperature == describe(path)["temperature"] == 1.7
    with pytest.raises(ModelError, match="temperature"):
        read_header(write_header(tmp_path / "cold.safetensors", temperature=0))


def test_a_sigmoid_tells_two_classes_apart() -> None:
    architecture = UNetArchitecture(classes=1)
    normalisation = Normalisation(mean=(0.0,), std=(1.0,))
    names = ("background", "foreground")
    header = CheckpointHeader(architecture=architecture, normalisation=normalisation, classes=names, axes="yx")
    assert header.classes == names
    assert header.voxel_size is None


def test_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"overtile" * 100_000)
    assert digest(path) == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_digest_of_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        digest(tmp_path / "none")


def test_describe_says_what_planning_needs(tmp_path: Path) -> None:
    path = write_header(tmp_path / "model.safetensors")
    said = describe(path)
    assert json.loads(json.dumps(said)) == said
    assert said["parameters"] == CheckpointHeader.model_validate(DOCUMENT).architecture.parameters()
    assert said["halo"] == {"z": [20, 20], "y": [20, 20], "x": [20, 20]}
    assert said["stride"] == {"z": 4, "y": 4, "x": 4}
    assert said["legal_sizes"]["x"] == {"minimum": 44, "step": 4}
    assert (said["exact"], said["reasons"]) == (True, [])
    assert said["digest"] == digest(path)
    assert said["architecture"]["padding"] == "valid"
    for key in ("classes", "normalisation", "axes", "voxel_size", "unit", "provenance"):
        assert said[key] == DOCUMENT[key]


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(ModelError, match="no checkpoint file"):
            read_header(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(path: Path, framework: str) -> None:
        raise OSError(5, "Input/output error")

    path = write_header(tmp_path / "model.safetensors")
    monkeypatch.setattr(checkpoint, "safe_open", torn)
    with pytest.raises(ModelError, match=r"cannot be read: .*Input/output error"):
        read_header(path)


def test_files_that_are_not_safetensors_are_refused(tmp_path: Path) -> None:
    path = write_header(tmp_path / "model.safetensors")
    whole = path.read_bytes()
    damaged = [b"", b"PK\x03\x04" + bytes(100), whole[:-2], whole + b"more", struct.pack("<Q", 4) + b"{]}}"]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ModelError, match="not a safetensors file, or a damaged one"):
            read_header(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "without an 'overtile' header"),
        ({"format": "pt"}, "without an 'overtile' header"),
        ({"overtile": "{"}, "not JSON"),
        ({"overtile": "[1]"}, "format None; this version"),
        ({"overtile": "{}"}, "format None; this version"),
        ({"overtile": '{"format": "overtile-checkpoint/2"}'}, "format 'overtile-checkpoint/2'; this version"),
        ({"overtile": '{"format": "overtile-checkpoint/1"}'}, "invalid: architecture: Field required"),
    ],
)
def test_files_without_a_header_of_ours_are_refused(
    tmp_path: Path, metadata: dict[str, str] | None, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        read_header(write(tmp_path / "model.safetensors", metadata))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": {"kind": "vit"}}, "architecture: Input tag 'vit'"),
        ({"normalisation": {"mean": [0.0], "std": [1.0]}}, "normalisation of 1 channels for 2"),
        ({"normalisation": {"mean": [0.0, 0.0], "std": [1.0]}}, "2 means for 1 standard deviations"),
        ({"normalisation": {"mean": [0.0, 0.0], "std": [1.0, 0.0]}}, "above zero"),
        ({"normalisation": {"mean": [0.0, 0.0], "std": [1.0, float("inf")]}}, "finite"),
        ({"normalisation": {"mean": [0.0, float("nan")], "std": [1.0, 1.0]}}, "finite"),
        ({"classes": ["background", "foreground"]}, "2 class names, but a network of 3 output channels"),
        ({"classes": ["a", "b", "a"]}, "distinct"),
        ({"classes": ["a", "b", ""]}, "not empty"),
        ({"axes": "xyz"}, "axes must be 'zyx', not 'xyz'"),
        ({"voxel_size": [4.0, 4.0]}, "voxel_size must be 3 lengths above zero"),
        ({"voxel_size": [4.0, 4.0, 0.0]}, "voxel_size must be 3 lengths above zero"),
        ({"threshold": 1.0}, "threshold: Input should be less than 1"),
        ({"provenance": {"steps": [1]}}, "provenance"),
        ({"halo": 92}, "halo: Extra inputs"),
    ],
)
def test_headers_that_contradict_themselves_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=f"header of .* is invalid: .*{message}"):
        read_header(write_header(tmp_path / "model.safetensors", **changes))


def test_headers_are_frozen() -> None:
    header = CheckpointHeader.model_validate(DOCUMENT)
    with pytest.raises(ValidationError, match="frozen"):
        header.axes = "yx"
