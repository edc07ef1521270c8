"""What a package of bioimage.io says of its network, in both forms of its description."""

import importlib
import socket

import pytest
import yaml
from foreign_models import ARGUMENTS, CONSTRUCTOR, Package, sha256, trust

from pipeline.errors import ModelError
from pipeline.model.constructors import code_name
from pipeline.model.foreign.bioimageio import read_package


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def read(package, *, trust=frozenset(), normalised=False, said=None):
    return read_package(package.write() / "rdf.yaml", trust=frozenset(trust), normalised=normalised, said=said)


@pytest.mark.parametrize("form", ["0.4", "0.5"])
def test_both_forms_say_the_same(tmp_path, form):
    found = read(Package(tmp_path / "p", form))
    assert found.constructor == CONSTRUCTOR
    assert found.arguments == ARGUMENTS
    assert found.code is None
    assert (found.dims, found.in_channels, found.output_meaning, found.threshold) == (2, 1, "logits", None)
    assert found.mean == pytest.approx((100,))
    assert found.std == pytest.approx((20,))
    assert found.claims is not None
    assert (found.claims.outputs, found.claims.halo, found.claims.sizes) == (1, (4, 4), ((16, 2), (16, 2)))
    assert found.reference is not None
    assert found.reference.axes == ("batch", "channel", "y", "x")
    assert [step["id"] for step in found.reference.postprocessing] == ["sigmoid", "ensure_dtype"]
    assert (found.reference.relative, found.reference.absolute, found.reference.mismatched) == (1e-3, 1e-3, 100)
    assert found.provenance["name"] == "Small nuclei"
    assert found.provenance["version"] == "1.2"
    assert found.provenance["license"] == "MIT"
    assert found.provenance["authors"] == "A. Author, B. Author"
    assert found.provenance["citation"] == "Author et al. 2020 10.1000/xyz123"
    assert found.provenance["documentation"] == "README.md"


def test_the_newer_form_has_voxel_sizes_and_names(tmp_path):
    found = read(Package(tmp_path / "p"))
    assert (found.voxel_size, found.unit) == ((0.5, 0.5), "micrometer")
    assert found.classes == ("background", "nucleus")


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["channel0"], None),
        (["c1", "c2"], None),
        (["background"], None),
        (["a", "a"], None),
        (["0", "1"], None),
        (["background", "nucleus", "border"], ("background", "nucleus", "border")),
    ],
)
def test_channels_become_classes_where_they_name_something(tmp_path, names, classes):
    package = Package(tmp_path / "p")
    package.document["outputs"][0]["axes"][1]["channel_names"] = names
    package.document["outputs"][0]["postprocessing"] = []
    assert read(package).classes == classes


@pytest.mark.parametrize("form", ["0.4", "0.5"])
def test_code_of_a_package_is_taken_only_with_its_digest(tmp_path, form):
    package = Package(tmp_path / "p", form, code=True)
    with pytest.raises(
        ModelError, match=rf"Python code of its own, blur\.py.*give trust: {trust(package.code)[0]}"
    ):
        read(package, trust=trust(package.weights))
    found = read(package, trust=trust(package.code))
    assert found.code == package.code.read_bytes()
    assert found.constructor == f"{code_name(found.code)}:Blur"


def test_axes_of_several_units_are_said(tmp_path):
    package = Package(tmp_path / "p")
    for tensor in (package.document["inputs"][0], package.document["outputs"][0]):
        tensor["axes"][2]["unit"] = "nanometer"
    found = read(package)
    assert found.voxel_size is None
    assert found.notes == ("the axes have several units: no voxel size was kept",)


def test_axes_without_a_unit_and_tensors_that_are_not_there(tmp_path):
    package = Package(tmp_path / "p")
    for tensor in (package.document["inputs"][0], package.document["outputs"][0]):
        for axis in tensor["axes"][2:]:
            axis.pop("unit")
    package.document["outputs"][0].pop("test_tensor")
    package.document["inputs"][0]["axes"][2]["size"] = 64
    package.document["inputs"][0]["axes"][3]["size"] = {"tensor_id": "raw", "axis_id": "y"}
    package.document["outputs"][0]["axes"][3]["size"]["axis_id"] = "y"
    found = read(package)
    assert (found.voxel_size, found.unit, found.reference) == (None, None, None)
    assert found.claims is not None
    assert found.claims.sizes == ((64, 0), (0, 0))


def test_a_mean_and_a_standard_deviation_replace_preprocessing(tmp_path):
    package = Package(tmp_path / "p")
    package.document["inputs"][0]["preprocessing"] = [
        {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["x", "y"]}}
    ]
    with pytest.raises(ModelError, match=r"zero_mean_unit_variance.*Give mean and std"):
        read(package)
    found = read(package, normalised=True)
    assert (found.mean, found.std) == (None, None)
    assert found.notes == ("the job's mean and std replace the package's preprocessing (zero_mean_unit_variance)",)
    assert found.reference is not None
    assert "zero_mean_unit_variance" in [step["id"] for step in found.reference.preprocessing or ()]
    package.document["inputs"][0]["preprocessing"] = []
    assert read(package, normalised=True).notes == ()
    assert read(package).mean is None


def test_the_first_tolerance_that_fits_counts(tmp_path):
    package = Package(tmp_path / "p")
    package.document["config"] = {
        "bioimageio": {
            "reproducibility_tolerance": [
                {"relative_tolerance": 0.01, "weights_formats": ["onnx"]},
                {"relative_tolerance": 1e-4, "absolute_tolerance": 1e-5, "output_ids": ["nuclei"]},
            ]
        }
    }
    reference = read(package).reference
    assert reference is not None
    assert (reference.relative, reference.absolute) == (1e-4, 1e-5)
    package.document["config"]["bioimageio"]["reproducibility_tolerance"] = []
    reference = read(package).reference
    assert reference is not None
    assert reference.relative == 1e-3


def _output(document):
    return document["outputs"][0]


def bend_two_inputs(document):
    second = yaml.safe_load(yaml.safe_dump(document["inputs"][0])) | {"id": "prior"}
    document["inputs"].append(second)


def bend_order(document):
    for tensor in (document["inputs"][0], _output(document)):
        tensor["axes"] = [tensor["axes"][i] for i in (0, 2, 3, 1)]


def bend_time(document):
    document["inputs"][0]["axes"][2] = {"type": "time", "id": "t", "size": 8}
    _output(document)["axes"][2] = {"type": "time", "id": "t", "size": {"tensor_id": "raw", "axis_id": "t"}}


def bend_scale(document):
    for axis in _output(document)["axes"][2:]:
        axis["scale"] = 0.25


def bend_flat_output(document):
    document["inputs"][0]["axes"].insert(2, {"type": "space", "id": "z", "size": 8})


def bend_weights(document):
    document["weights"] = {"torchscript": {"source": "weights.pt", "pytorch_version": "2.6"}}


@pytest.mark.parametrize(
    ("bend", "said"),
    [
        (bend_two_inputs, r"2 inputs \(raw, prior\); Overtile runs networks of one"),
        (bend_order, "input has the axes batch, y, x, channel; Overtile gives"),
        (bend_time, "input has the axes batch, channel, time, x"),
        (bend_scale, r"another voxel size along y than its input \(0\.25, 0\.5\)"),
        (bend_flat_output, "output has the axes batch, channel, y, x, its input batch, channel, z, y, x"),
        (bend_weights, "weights as torchscript; Overtile takes pytorch_state_dict"),
        (lambda d: d.update(type="dataset"), r"is not valid|is a dataset, not a model"),
        (lambda d: d.pop("inputs"), r"description rdf\.yaml is not valid: .*inputs"),
        (lambda d: d.update(format_version="0.5.3", license="nothing like it"), "is not valid: .*license"),
        (lambda d: d["weights"]["pytorch_state_dict"].update(source="https://host/a.pt"), "by its address"),
        (lambda d: d["weights"]["pytorch_state_dict"].update(source="none.pt"), r"no file none\.pt"),
        (lambda d: d["weights"]["pytorch_state_dict"].update(sha256="0" * 64), "get the package anew"),
        (lambda d: d["inputs"][0].update(test_tensor={"source": "https://host/a.npy"}), "by its address"),
    ],
)  # fmt: skip
def test_what_overtile_cannot_do_is_refused(tmp_path, bend, said):
    package = Package(tmp_path / "p")
    bend(package.document)
    with pytest.raises(ModelError, match=said) as refusal:
        read(package)
    assert "\n" not in str(refusal.value)


def test_an_invalid_description_of_the_older_form_is_refused_in_its_own_words(tmp_path):
    package = Package(tmp_path / "p", "0.4")
    package.document["inputs"][0]["axes"] = "bcqq"
    with pytest.raises(ModelError, match=r"is not valid: .*inputs\.0\.axes"):
        read(package)


def test_the_library_that_is_not_installed_says_which_extra_to_install(tmp_path, monkeypatch):
    def lacking(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    package = Package(tmp_path / "p")
    monkeypatch.setattr(importlib, "import_module", lacking)
    with pytest.raises(ModelError, match=r"pip install overtile\[bioimageio\]"):
        read(package)


def test_the_digest_in_the_description_is_that_of_the_file(tmp_path):
    package = Package(tmp_path / "p")
    assert package.document["weights"]["pytorch_state_dict"]["sha256"] == sha256(package.weights)
