"""Weights of somebody else's file: tensors come in, code does not."""

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import odd_networks
import pytest
import torch
from foreign_models import trust
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.model.foreign.states import check_file, match_names, read_tensors

STATE = {"layer.weight": torch.ones(2, 1, 3, 3), "layer.bias": torch.zeros(2)}


class Command:
    """What pickle runs when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)


def saved(tmp_path: Path, content: object, name: str = "weights.pth") -> Path:
    torch.save(content, tmp_path / name)
    return tmp_path / name


def read(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    check_file(path, trust(path))
    return read_tensors(path)


def test_safetensors_need_no_trust(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(STATE, path)
    check_file(path, ())
    tensors, notes = read_tensors(path)
    assert tensors.keys() == STATE.keys()
    assert not notes


def test_a_torch_file_is_read_only_with_its_digest(tmp_path):
    path = saved(tmp_path, STATE)
    with pytest.raises(ModelError, match=f"can carry code.*then give trust: {trust(path)[0]}.$"):
        check_file(path, ())
    other = "sha256:" + "0" * 64
    with pytest.raises(ModelError, match=f"trust: {trust(path)[0]}; trust says {other}"):
        check_file(path, {other})
    tensors, notes = read(path)
    assert all(torch.equal(tensors[name], STATE[name]) for name in STATE)
    assert not notes


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
def test_an_entry_of_a_training_file_is_taken_out_and_said(tmp_path, wrapper):
    content = {"epoch": 3, wrapper: OrderedDict(STATE), "optimizer": {"lr": 0.1}}
    tensors, notes = read(saved(tmp_path, content))
    assert tensors.keys() == STATE.keys()
    assert notes == [f"the weights are the entry {wrapper!r} of weights.pth; its other entries were left out"]


def test_code_in_a_torch_file_is_not_run(tmp_path):
    mark = tmp_path / "it ran"
    path = saved(tmp_path, {"layer.weight": torch.zeros(1), "payload": Command(mark)})
    with pytest.raises(ModelError, match=r"holds more than tensors.*UnpicklingError.*state_dict\(\) alone"):
        read(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists(), "the file was harmless, so the test shows nothing"


def test_a_plain_pickle_is_not_even_opened(tmp_path):
    mark, path = tmp_path / "it ran", tmp_path / "a.pt"
    path.write_bytes(pickle.dumps(Command(mark)))
    with pytest.raises(ModelError, match=r"not a file of torch 1\.6 or later \(a zip archive\)"):
        check_file(path, trust(path))
    assert not mark.exists()


def test_torchscript_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/constants.pkl", b"")
        archive.writestr("a/code/net.py", b"")
    with pytest.raises(ModelError, match="is TorchScript, which is a program"):
        read(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "holds a list, not a state_dict"),
        ({}, "holds a dict, not a state_dict"),
        ({1: torch.zeros(1)}, "holds a dict, not a state_dict"),
        ({"a": torch.zeros(1), "b": 3}, "has 'b', which is a int and not a tensor"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "tensor a as torch.sparse_coo.*only dense tensors"),
        ({"a": torch.zeros(1, device="meta")}, "tensor a .* on meta: only dense tensors"),
    ],
)
def test_what_is_no_state_dict_of_dense_tensors_is_refused(tmp_path, content, said):
    with pytest.raises(ModelError, match=said):
        read(saved(tmp_path, content))


def test_a_damaged_file_is_refused(tmp_path):
    path = saved(tmp_path, STATE)
    content = path.read_bytes()
    at = content.index(b"layer.weight")
    path.write_bytes(content[: at - 20] + b"\xff" * 40 + content[at + 20 :])
    with pytest.raises(ModelError, match="or is damaged"):
        read(path)
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"not really")
    with pytest.raises(ModelError, match="not a safetensors file, or a damaged one"):
        read(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("https://host/a.pth", "are an address.*download the file first"),
        ("none.pth", "no file of weights"),
        ("weights.onnx", r"neither \.safetensors nor a state_dict"),
    ],
)
def test_what_is_no_file_of_weights_is_refused(tmp_path, name, said):
    (tmp_path / "weights.onnx").write_bytes(b"")
    path = Path(name) if ":" in name else tmp_path / name
    with pytest.raises(ModelError, match=said):
        check_file(path, ())


@pytest.mark.parametrize("prefix", ["", "module.", "module.net.", "_orig_mod.model.net."])
def test_what_wrappers_put_before_the_names_is_taken_off(prefix):
    network = odd_networks.Plain()
    found, notes = match_names({prefix + name: tensor for name, tensor in STATE.items()}, network)
    assert found.keys() == network.state_dict().keys()
    assert notes == ([f"the names of the tensors began with {prefix!r}, which was taken off"] if prefix else [])


def test_names_that_do_not_become_right_stay_as_they_were():
    network = odd_networks.Plain()
    found, notes = match_names({"module.other": torch.zeros(1)}, network)
    assert found.keys() == {"module.other"}
    assert not notes


def test_the_second_name_of_a_tensor_need_not_be_in_the_file():
    network = odd_networks.Tied()
    tensors = {name: t.clone() for name, t in network.state_dict().items() if name != "again.weight"}
    found, notes = match_names(tensors, network)
    assert torch.equal(found["again.weight"], tensors["layer.weight"])
    assert notes == ["the tensor again.weight is that of layer.weight, as in the network"]
