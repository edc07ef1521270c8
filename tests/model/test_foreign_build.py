"""From a described network to a checkpoint, and what is found out on the way."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import odd_networks
import pytest
import torch
from foreign_models import ARGUMENTS, CONSTRUCTOR, FakeFindings, Package, fake_analyse, monai_unet, sha256, trust
from safetensors.torch import save_file

from pipeline.errors import ModelError
from pipeline.model.checkpoint import digest, read_header
from pipeline.model.constructors import VARIABLE
from pipeline.model.foreign.bioimageio import read_package
from pipeline.model.foreign.build import build
from pipeline.model.foreign.described import Described
from pipeline.model.weights import load_model


@pytest.fixture(autouse=True)
def _odd(monkeypatch):
    monkeypatch.setenv(VARIABLE, "odd_networks")


def described(folder: Path, network: torch.nn.Module, constructor: str, **changes: object) -> Described:
    """Describe a network whose weights are in a file."""
    path = folder / "weights.safetensors"
    save_file({name: tensor.clone() for name, tensor in network.state_dict().items()}, path)
    return replace(Described(weights=path, constructor=constructor), **changes)


def test_a_network_becomes_a_checkpoint(tmp_path):
    network, target = monai_unet(), tmp_path / "out.safetensors"
    given = described(
        tmp_path,
        network,
        CONSTRUCTOR,
        arguments=ARGUMENTS,
        mean=(100.0,),
        std=(20.0,),
        classes=("background", "nucleus"),
        voxel_size=(0.5, 0.5),
        unit="micrometer",
        threshold=0.4,
        provenance={"name": "Nuclei"},
    )
    found = build(given, target, analyse=fake_analyse)
    assert found == {"digest": digest(target), "reference": None, "notes": []}
    header = read_header(target)
    assert (header.architecture.constructor, header.architecture.arguments) == (CONSTRUCTOR, ARGUMENTS)
    assert (header.architecture.dims, header.architecture.in_channels, header.architecture.classes) == (2, 1, 1)
    assert header.classes == ("background", "nucleus")
    assert (header.normalisation.mean, header.normalisation.std) == ((100.0,), (20.0,))
    assert (header.axes, header.voxel_size, header.unit, header.threshold) == ("yx", (0.5, 0.5), "micrometer", 0.4)
    assert header.provenance["name"] == "Nuclei"
    assert str(header.provenance["package"]).startswith("monai ")
    assert header.provenance["weights_digest"] == f"sha256:{sha256(given.weights)}"
    image = torch.randn(1, 1, 32, 32)
    assert torch.equal(load_model(target)(image), network(image))


@pytest.mark.parametrize(
    ("outputs", "classes"), [(1, ("background", "foreground")), (3, ("class 0", "class 1", "class 2"))]
)
def test_what_is_not_said_has_a_default(tmp_path, outputs, classes):
    network = odd_networks.Plain(3, outputs)
    given = described(
        tmp_path,
        network,
        "odd_networks:Plain",
        arguments={"channels": 3, "outputs": outputs},
        mean=(1.0,),
        std=(2.0,),
    )
    build(given, tmp_path / "a", analyse=fake_analyse)
    header = read_header(tmp_path / "a")
    assert header.classes == classes
    assert header.normalisation.mean == (1.0, 1.0, 1.0)
    assert (header.threshold, header.voxel_size, header.architecture.output) == (0.5, None, "logits")


def test_weights_of_double_precision_are_rounded_and_that_is_said(tmp_path):
    given = described(tmp_path, odd_networks.Plain().double(), "odd_networks:Plain")
    assert build(given, tmp_path / "a", analyse=fake_analyse)["notes"] == [
        "weights of double precision were rounded to float32"
    ]
    assert load_model(tmp_path / "a").layer.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("network", "changes", "said"),
    [
        (odd_networks.Plain(), {"classes": ("a", "b", "c")}, "would not be valid: 3 class names"),
        (odd_networks.Plain(), {"mean": (1.0, 2.0), "std": (1.0, 1.0)}, "normalisation of 2 channels for 1"),
        (odd_networks.Plain(), {"mean": (1.0,), "std": (0.0,)}, "above zero"),
        (odd_networks.Plain(), {"voxel_size": (1.0,)}, "voxel_size must be 2 lengths"),
        (odd_networks.Plain(), {"output_meaning": "classes"}, "give the names of the classes"),
        (odd_networks.Plain(), {"output_meaning": "probabilities"}, "which are no probabilities"),
        (odd_networks.Plain(), {"output_meaning": "classes", "classes": ("a", "b")}, "no class ids"),
        (odd_networks.Plain(2), {}, r"The file weights\.safetensors has the tensor layer\.weight as"),
        (odd_networks.Extra(), {"constructor": "odd_networks:Extra"}, "stores more than tensors"),
        (torch.nn.BatchNorm2d(2), {}, "lacks tensors that its architecture has: layer"),
    ],
)
def test_what_makes_no_valid_checkpoint_is_refused(tmp_path, network, changes, said):
    plain = odd_networks.Plain() if isinstance(network, odd_networks.Extra) else network
    given = replace(described(tmp_path, plain, "odd_networks:Plain"), **changes)
    with pytest.raises(ModelError, match=said):
        build(given, tmp_path / "a", analyse=fake_analyse)


def test_a_network_without_a_convolution_needs_its_channels(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "torch.nn")
    given = described(tmp_path, torch.nn.InstanceNorm2d(3, affine=True), "torch.nn:InstanceNorm2d")
    given = replace(given, arguments={"num_features": 3, "affine": True})
    with pytest.raises(ModelError, match=r"no convolution .*give dims and in_channels"):
        build(given, tmp_path / "a", analyse=fake_analyse)
    build(replace(given, dims=2, in_channels=3), tmp_path / "a", analyse=fake_analyse)
    assert read_header(tmp_path / "a").architecture.in_channels == 3


def test_state_that_is_not_stored_is_found(tmp_path):
    given = described(tmp_path, odd_networks.Buffered(), "odd_networks:Buffered", arguments={"random": True})
    with pytest.raises(ModelError, match="another output after it was written and read again"):
        build(given, tmp_path / "a", analyse=fake_analyse)
    build(replace(given, arguments={}), tmp_path / "a", analyse=fake_analyse)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("fails", r"fails on an input of shape \(1, 1, 64, 64\): LookupError: no such size"),
        ("list", "gives a list; Overtile runs networks that give a tensor"),
        ("nan", "gives NaN or infinity for a random input"),
    ],
)
def test_a_network_that_does_not_work_is_refused(tmp_path, kind, said):
    def analyse(network, *, dims, in_channels):
        return fake_analyse(odd_networks.Plain(), dims=dims, in_channels=in_channels)

    given = described(tmp_path, odd_networks.Plain(), "odd_networks:Deviating", arguments={"kind": kind})
    with pytest.raises(ModelError, match=said):
        build(given, tmp_path / "a", analyse=analyse)


def test_what_the_network_gives_is_what_is_said(tmp_path):
    given = described(
        tmp_path, odd_networks.Plain(), "odd_networks:Activated", arguments={"kind": "probabilities"}
    )
    assert (
        build(replace(given, output_meaning="probabilities"), tmp_path / "a", analyse=fake_analyse)["notes"] == []
    )
    assert "look like probabilities" in build(given, tmp_path / "a", analyse=fake_analyse)["notes"][0]
    given = replace(given, arguments={"kind": "classes"}, output_meaning="classes", classes=("a", "b", "c"))
    build(given, tmp_path / "a", analyse=fake_analyse)
    assert read_header(tmp_path / "a").architecture.output == "classes"


def package(folder, **options):
    """Return a package, and what it says when its weights and code are trusted."""
    made = Package(folder, **options)
    trusted = [made.weights, made.code] if options.get("code") else [made.weights]
    return made, frozenset(trust(*trusted))


@pytest.mark.parametrize("form", ["0.4", "0.5"])
@pytest.mark.parametrize("code", [False, True])
def test_a_package_gives_its_reference_output(tmp_path, form, code):
    made, trusted = package(tmp_path / "p", form=form, code=code)
    given = read_package(made.write() / "rdf.yaml", trust=trusted, normalised=False, said=None)
    found = build(given, tmp_path / "a", analyse=fake_analyse)
    assert 0 <= found["reference"] < 1e-5
    carried = [note for note in found["notes"] if VARIABLE in note]
    assert len(carried) == code
    assert read_header(tmp_path / "a").provenance["citation"] == "Author et al. 2020 10.1000/xyz123"


def test_a_package_that_normalises_each_image_is_checked_with_its_own_steps(tmp_path):
    made, trusted = package(tmp_path / "p")
    made.document["inputs"][0]["preprocessing"] = [{"id": "zero_mean_unit_variance"}]
    made.save_output(((made.image - made.image.mean()) / (made.image.std() + 1e-6)).astype("float32"))
    given = read_package(made.write() / "rdf.yaml", trust=trusted, normalised=True, said=None)
    found = build(replace(given, mean=(7.0,), std=(3.0,)), tmp_path / "a", analyse=fake_analyse)
    assert found["reference"] < 1e-5
    assert read_header(tmp_path / "a").normalisation.mean == (7.0,)


def test_another_output_than_the_reference_is_refused(tmp_path):
    made, trusted = package(tmp_path / "p")
    made.save_output(made.image)
    given = read_package(made.write() / "rdf.yaml", trust=trusted, normalised=False, said=None)
    with pytest.raises(
        ModelError, match=r"does not give the package's reference output: .*% of the values differ"
    ):
        build(given, tmp_path / "a", analyse=fake_analyse)


@pytest.mark.parametrize(
    ("halo", "size", "notes"),
    [
        (4, (16, 2), []),
        (2, (16, 2), ["the package's halo of 2 voxels along y is too small: 4 were measured"]),
        (7, (16, 2), ["the package's halo of 7 voxels along y is larger than needed: 4 were measured"]),
        (4, (17, 2), ["the package takes 17 voxels along y; measured were 16 + k * 2"]),
    ],
)
def test_claims_of_a_package_are_compared(tmp_path, halo, size, notes):
    made, trusted = package(tmp_path / "p")
    made.document["outputs"][0]["axes"][2]["halo"] = halo
    made.document["inputs"][0]["axes"][2]["size"] = dict(zip(("min", "step"), size, strict=True))
    given = read_package(made.write() / "rdf.yaml", trust=trusted, normalised=False, said=None)
    assert build(given, tmp_path / "a", analyse=fake_analyse)["notes"] == notes


def test_a_claim_of_other_channels_is_said(tmp_path):
    made, trusted = package(tmp_path / "p")

    def analyse(network, *, dims, in_channels):
        found = fake_analyse(network, dims=dims, in_channels=in_channels)
        return FakeFindings(found.analysis, outputs=2)

    given = read_package(made.write() / "rdf.yaml", trust=trusted, normalised=False, said=None)
    notes = build(given, tmp_path / "a", analyse=analyse)["notes"]
    assert "the package says 1 output channels; the network gives 2" in notes


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no array", r"reference tensor input\.npy cannot be read"),
        (None, r"has the shape \(3, 3\), which does not have the axes batch, channel, y, x"),
    ],
)
def test_a_reference_that_is_no_tensor_is_refused(tmp_path, content, said):
    made, trusted = package(tmp_path / "p")
    given = read_package(made.write() / "rdf.yaml", trust=trusted, normalised=False, said=None)
    if content is None:
        np.save(made.folder / "input.npy", np.zeros((3, 3)))
    else:
        (made.folder / "input.npy").write_bytes(content)
    with pytest.raises(ModelError, match=said):
        build(given, tmp_path / "a", analyse=fake_analyse)


def test_a_reference_of_another_shape_is_refused(tmp_path):
    made, trusted = package(tmp_path / "p")
    np.save(made.folder / "output.npy", np.zeros((1, 1, 30, 30), "float32"))
    given = read_package(made.write() / "rdf.yaml", trust=trusted, normalised=False, said=None)
    with pytest.raises(ModelError, match=r"an output of shape \(1, 1, 32, 32\) .* has \(1, 1, 30, 30\)"):
        build(given, tmp_path / "a", analyse=fake_analyse)
