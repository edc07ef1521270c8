"""Checkpoints with their tensors: bit for bit there and back, whole or not at all, refused by the tensor's name."""

import os
from pathlib import Path

import odd_networks
import pytest
import torch
from foreign_models import ARGUMENTS, CODE, CONSTRUCTOR, fake_analyse, monai_unet
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from pipeline.errors import EnvironmentFaultError, ModelError
from pipeline.model import weights
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.checkpoint import CheckpointHeader, Normalisation, digest, read_header
from pipeline.model.constructed import ConstructedArchitecture
from pipeline.model.constructors import VARIABLE, call_constructor, code_name
from pipeline.model.unet import UNet
from pipeline.model.weights import fill, load_model, save_checkpoint

ARCHITECTURE = UNetArchitecture(depth=2, width=2, padding="same", norm="batch")


def header(architecture: UNetArchitecture = ARCHITECTURE) -> CheckpointHeader:
    return CheckpointHeader(
        architecture=architecture,
        normalisation=Normalisation(mean=(0.0,), std=(1.0,)),
        classes=("background", "foreground"),
        axes="yx" if architecture.dims == 2 else "zyx",
        provenance={"steps": 3},
    )


@pytest.fixture
def model() -> UNet:
    torch.manual_seed(0)
    model = UNet(ARCHITECTURE)
    model(torch.randn(2, 1, 8, 8))
    return model


@pytest.fixture
def saved(tmp_path: Path, model: UNet) -> Path:
    save_checkpoint(tmp_path / "model.safetensors", model, header())
    return tmp_path / "model.safetensors"


def rewrite(path: Path, **tensors: torch.Tensor | None) -> None:
    """Replace (or with None remove) tensors of a checkpoint; a double underscore stands for a dot."""
    changed = {**load_file(path), **{name.replace("__", "."): tensor for name, tensor in tensors.items()}}
    kept = {name: tensor for name, tensor in changed.items() if tensor is not None}
    save_file(kept, path, metadata=header().to_metadata())


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_weights_come_back_bit_for_bit(tmp_path: Path, dims: int, dtype: torch.dtype) -> None:
    architecture = UNetArchitecture.model_validate({"dims": dims, "depth": 2, "width": 2, "norm": "batch"})
    model = UNet(architecture).to(dtype)
    if dims == 2:
        model = model.to(memory_format=torch.channels_last)
    path = tmp_path / "new" / "model.safetensors"
    said = save_checkpoint(path, model, header(architecture))
    loaded = load_model(path, dtype=dtype)
    assert said == digest(path)
    assert read_header(path) == header(architecture)
    assert loaded.architecture == architecture
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        found = loaded.state_dict()[name]
        assert found.dtype == tensor.dtype, name
        assert torch.equal(found, tensor), name


def test_the_same_model_gives_the_same_bytes(tmp_path: Path, model: UNet) -> None:
    digests = {save_checkpoint(tmp_path / name, model, header()) for name in ("a", "b")}
    assert len(digests) == 1


def test_a_loaded_model_is_ready_for_inference(saved: Path, model: UNet) -> None:
    loaded = load_model(saved)
    image = torch.randn(1, 1, 8, 8)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert torch.equal(loaded(image), model.eval()(image))


def test_a_model_is_loaded_in_the_precision_asked_for(saved: Path) -> None:
    loaded = load_model(saved, dtype=torch.bfloat16, device=torch.device("cpu"))
    assert loaded(torch.zeros(1, 1, 8, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_saving_replaces_the_file_and_leaves_nothing_else(saved: Path, model: UNet) -> None:
    before = digest(saved)
    with torch.no_grad():
        model.get_submodule("head").bias.add_(1)
    assert save_checkpoint(saved, model, header()) == digest(saved) != before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_failed_write_leaves_the_old_file(saved: Path, model: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    before = digest(saved)
    monkeypatch.setattr(weights, "_sync", full)
    with pytest.raises(EnvironmentFaultError, match=r"cannot be written: .*No space left"):
        save_checkpoint(saved, model, header())
    assert digest(saved) == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_folder_that_cannot_be_made_is_said(saved: Path, model: UNet) -> None:
    with pytest.raises(EnvironmentFaultError, match="cannot be written"):
        save_checkpoint(saved / "inside" / "a.safetensors", model, header())


def test_a_model_of_another_architecture_is_not_saved(tmp_path: Path, model: UNet) -> None:
    other = ARCHITECTURE.model_copy(update={"padding": "valid"})
    with pytest.raises(ModelError, match=r"padding='same'.*but the header says.*padding='valid'"):
        save_checkpoint(tmp_path / "a", model, header(other))
    assert not any(tmp_path.iterdir())


def test_a_changed_model_is_not_saved(tmp_path: Path, model: UNet) -> None:
    model.add_module("head", torch.nn.Conv2d(2, 3, 1))
    with pytest.raises(ModelError, match=r"The model has the tensor head.weight as torch.float32 \(3, 2, 1, 1\)"):
        save_checkpoint(tmp_path / "a", model, header())
    model.add_module("extra", torch.nn.Conv2d(2, 2, 1))
    with pytest.raises(ModelError, match=r"The model has tensors .* has not: extra.bias, extra.weight"):
        save_checkpoint(tmp_path / "a", model, header())


def test_a_diverged_model_is_not_saved(tmp_path: Path, model: UNet) -> None:
    with torch.no_grad():
        model.get_submodule("head").bias.fill_(torch.nan)
    with pytest.raises(ModelError, match=r"The model has values in the tensor head.bias that are not finite"):
        save_checkpoint(tmp_path / "a", model, header())


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"head__bias": None}, "lacks tensors that its architecture has: head.bias"),
        ({"tail__bias": torch.zeros(2)}, "has tensors that its architecture has not: tail.bias"),
        ({"head__bias": torch.zeros(3)}, r"head.bias as torch.float32 \(3,\).*torch.float32 \(2,\)"),
        ({"head__bias": torch.zeros(2, dtype=torch.int64)}, r"head.bias as torch.int64 \(2,\)"),
        ({"head__bias": torch.tensor([0, torch.inf])}, "head.bias that are not finite in torch.float32"),
        (
            {"head__bias": torch.full((2,), 1e300, dtype=torch.float64)},
            "head.bias that are not finite in torch.float32",
        ),
        ({"down0_norm1__running_var": torch.full((2,), torch.nan)}, "down0_norm1.running_var that are not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(
    saved: Path, tensors: dict[str, torch.Tensor | None], message: str
) -> None:
    rewrite(saved, **tensors)
    with pytest.raises(ModelError, match=f"The checkpoint .*{message}"):
        load_model(saved)


def test_a_header_that_is_refused_is_refused_here_too(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no checkpoint file"):
        load_model(tmp_path / "none")


def test_tensors_that_cannot_be_read_are_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(weights, "load_file", torn)
    with pytest.raises(ModelError, match=r"tensors of .* cannot be read"):
        load_model(saved)


def constructed(constructor: str, network: torch.nn.Module, **arguments: object) -> CheckpointHeader:
    """Return the header of a network of somebody else, of two channels out."""
    inputs = next(network.parameters()).shape[1]
    found = fake_analyse(network, dims=2, in_channels=inputs)
    return CheckpointHeader(
        architecture=ConstructedArchitecture(
            constructor=constructor,
            arguments=arguments,
            dims=2,
            in_channels=inputs,
            classes=found.outputs,
            analysis=found.analysis,
        ),
        normalisation=Normalisation(mean=(0.0,) * inputs, std=(1.0,) * inputs),
        classes=("background", "foreground"),
        axes="yx",
    )


def test_a_temperature_is_of_logits() -> None:
    header = constructed("odd_networks:Plain", odd_networks.Plain()).model_dump()
    header["architecture"]["output"] = "probabilities"
    with pytest.raises(ValidationError, match="a temperature is of logits; this network gives probabilities"):
        CheckpointHeader.model_validate(header | {"temperature": 2.0})


@pytest.fixture
def _odd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "odd_networks")


@pytest.mark.parametrize(
    ("constructor", "network"),
    [
        (CONSTRUCTOR, monai_unet()),
        ("odd_networks:Plain", odd_networks.Plain()),
        ("odd_networks:Tied", odd_networks.Tied()),
        ("odd_networks:Buffered", odd_networks.Buffered()),
    ],
)
@pytest.mark.usefixtures("_odd")
def test_networks_of_others_come_back_as_they_were(
    tmp_path: Path, constructor: str, network: torch.nn.Module
) -> None:
    path = tmp_path / "a.safetensors"
    said = constructed(constructor, network.eval(), **(ARGUMENTS if constructor == CONSTRUCTOR else {}))
    assert save_checkpoint(path, network, said) == digest(path)
    loaded = load_model(path)
    image = torch.randn(1, said.architecture.in_channels, 16, 16)
    assert torch.equal(loaded(image), network(image))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert load_model(path, dtype=torch.bfloat16)(image.bfloat16()).dtype == torch.bfloat16


def test_a_network_of_others_is_not_built_where_it_is_not_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, path = odd_networks.Plain(), tmp_path / "a"
    allowed = frozenset({"odd_networks"})
    save_checkpoint(path, network, constructed("odd_networks:Plain", network), allowed=allowed)
    assert torch.equal(load_model(path, allowed=allowed).layer.bias, network.layer.bias)
    with pytest.raises(ModelError, match=f"odd_networks:Plain is not allowed.*{VARIABLE}"):
        load_model(path)


def test_code_travels_in_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, path = CODE.encode(), tmp_path / "a"
    name = code_name(code)
    allowed = frozenset({name.replace("_", ":")})
    network = call_constructor(f"{name}:Blur", {"channels": 2}, code=code, allowed=allowed)
    save_checkpoint(path, network, constructed(f"{name}:Blur", network, channels=2), code=code, allowed=allowed)
    with pytest.raises(ModelError, match="not allowed here"):
        load_model(path)
    monkeypatch.setenv(VARIABLE, next(iter(allowed)))
    assert torch.equal(load_model(path).layer.weight, network.layer.weight)


@pytest.mark.usefixtures("_odd")
def test_tensors_of_others_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save_checkpoint(path, odd_networks.Plain(), constructed("odd_networks:Plain", odd_networks.Plain()))
    said = read_header(path)
    good = load_file(path)
    for tensors, message in [
        ({"layer.bias": good["layer.bias"]}, "lacks tensors that its architecture has: layer.weight"),
        ({**good, "more": torch.zeros(1)}, "has tensors that its architecture has not: more"),
        ({**good, "layer.bias": torch.zeros(3)}, r"layer.bias as torch.float32 \(3,\)"),
        ({**good, "layer.bias": torch.full((2,), torch.nan)}, "layer.bias that are not finite"),
    ]:
        save_file(tensors, path, metadata=said.to_metadata())
        with pytest.raises(ModelError, match=f"The checkpoint .*{message}"):
            load_model(path)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (odd_networks.Changing(), "tensor layer.bias, but its network holds other values after loading"),
        (odd_networks.Stubborn(), "cannot be loaded by its network: LookupError: not today"),
        (odd_networks.Extra(), r"stores more than tensors \(_extra_state\)"),
    ],
)
def test_a_network_that_does_not_hold_what_it_loads_is_refused(network: torch.nn.Module, said: str) -> None:
    tensors = odd_networks.Plain().state_dict()
    with pytest.raises(ModelError, match=said):
        fill(network, tensors, "The file a")


def test_two_values_for_one_tensor_are_refused() -> None:
    network = odd_networks.Tied()
    tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    tensors["again.weight"] += 1
    with pytest.raises(ModelError, match=r"one tensor several names, for which there are different values"):
        fill(odd_networks.Tied(), tensors, "The file a")
