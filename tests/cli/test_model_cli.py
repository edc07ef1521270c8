"""``overtile model info`` and ``overtile model convert``: what they print, and how they refuse."""

import json

import pytest
import torch
import yaml
from foreign_models import ARGUMENTS, CONSTRUCTOR, Package, fake_analyse, monai_unet, trust
from safetensors.torch import save_file

from pipeline.cli.main import run
from pipeline.jobs import convert as module
from pipeline.model.checkpoint import CheckpointHeader, Normalisation, describe
from pipeline.model.constructed import Analysis, ConstructedArchitecture
from pipeline.model.unet import UNet, UNetArchitecture
from pipeline.model.weights import save_checkpoint


@pytest.fixture
def _here(monkeypatch):
    """Build in this process: the same, without starting another."""
    monkeypatch.setattr(module, "run_guarded", lambda function, argument, *, seconds, memory: function(argument))


def saved(folder, architecture, model, classes=("background", "cell"), **more):
    path = folder / "model.safetensors"
    header = CheckpointHeader(
        architecture=architecture,
        normalisation=Normalisation(mean=(0.5,), std=(2.0,)),
        classes=classes,
        axes="yx",
        **more,
    )
    save_checkpoint(path, model, header)
    return str(path)


def rows(text):
    """Return the printed table by its first column; a row without one belongs to the row above."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        left, _, right = line.partition("  ")
        name = left.strip() or name
        found[name] = f"{found[name]}|{right.strip()}" if name in found else right.strip()
    return found


def test_info_of_our_own_network(tmp_path, capsys):
    architecture = UNetArchitecture(depth=2, width=2)
    path = saved(tmp_path, architecture, UNet(architecture), voxel_size=(0.5, 0.5), unit="micrometer")
    assert run(["model", "info", path]) == 0
    shown = rows(capsys.readouterr().out)
    assert shown["network"].startswith("2-D U-Net, depth 2, width 2, padding valid")
    assert shown["channels"] == "1 in, 2 out (logits)"
    assert shown["classes"] == "0 background, 1 cell"
    assert shown["normalised"] == "mean 0.5, std 2"
    assert shown["voxel"] == "0.5 x 0.5 micrometer (yx)"
    assert shown["tiling"] == "exact: tiles equal the whole image"
    assert shown["halo"] == "8 + 8 voxels"
    assert shown["stride"] == "2"
    assert shown["output"] == "smaller than the input by 16 voxels"
    assert shown["inputs"] == "18 + k * 2 voxels"
    assert shown["digest"].startswith("sha256:")
    assert "threshold" not in shown


def test_info_of_a_network_that_is_not_exact(tmp_path, capsys):
    network = monai_unet()
    findings = fake_analyse(network, dims=2, in_channels=1)
    reasons = ("layer a (InstanceNorm2d) takes statistics of its whole input", "layer b (SE) averages over it")
    y, x = findings.analysis.reaches
    analysis = Analysis.model_validate(
        findings.analysis.model_dump()
        | {"exact": False, "reasons": reasons, "reaches": (y, x.model_copy(update={"stride": 4}))}
    )
    architecture = ConstructedArchitecture(
        constructor=CONSTRUCTOR, arguments=ARGUMENTS, dims=2, in_channels=1, classes=1, analysis=analysis
    )
    path = saved(tmp_path, architecture, network, provenance={"license": "MIT", "bioimageio_id": None})
    assert run(["model", "info", path]) == 0
    shown = rows(capsys.readouterr().out)
    assert shown["network"].startswith("2-D monai.networks.nets:UNet(spatial_dims=2, in_channels=1")
    assert shown["threshold"] == "0.5"
    assert shown["tiling"].startswith("not exact")
    assert shown["reasons"] == "|".join(reasons)
    assert "blended" in shown["what to do"]
    assert shown["stride"] == "y 2, x 4"
    assert shown["license"] == "MIT"
    assert not {"halo", "bioimageio id"} & shown.keys()
    assert run(["model", "info", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == describe(path)
    assert found["halo"] is None
    assert found["reasons"] == list(reasons)


@pytest.mark.usefixtures("_here")
def test_convert_takes_a_job_file_and_options(tmp_path, capsys):
    weights, output = tmp_path / "unet.safetensors", tmp_path / "out.safetensors"
    save_file(monai_unet().state_dict(), weights)
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump({"weights": str(weights), "constructor": CONSTRUCTOR, "arguments": ARGUMENTS}))
    command = ["model", "convert", "--config", str(file), "--mean", "100", "--std", "20", "--classes", "no,yes"]
    assert run([*command, str(weights), str(output)]) == 0
    out, error = capsys.readouterr()
    assert out == ""
    assert f"{output}: made of {weights}" in error
    assert "exact: tiles equal the whole image" in error
    assert f"--model {output}" in error
    assert run([*command, str(weights), str(output), "--json"]) == 0
    out = capsys.readouterr().out
    found = json.loads(out)
    assert found["classes"] == ["no", "yes"]
    assert {"checkpoint", "reference", "notes", *describe(output)} == found.keys()


@pytest.mark.usefixtures("_here")
def test_convert_says_how_near_a_package_is_to_its_reference(tmp_path, capsys):
    made = Package(tmp_path / "p")
    command = ["model", "convert", str(made.write()), str(tmp_path / "out.safetensors")]
    assert run([*command, "--trust", trust(made.weights)[0]]) == 0
    assert "the package's output, up to a difference of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--constructor", "os:system"], "os:system is not allowed"),
        (["--constructor", CONSTRUCTOR], "give trust: sha256:"),
        (["--constructor", CONSTRUCTOR, "--trust", "sha256:" + "0" * 64], "give trust: sha256:"),
        ([], "constructor: is needed"),
        (["--constructor", "torch"], "--constructor: String should match"),
    ],
)
def test_convert_refuses_with_its_exit_code(tmp_path, capsys, options, said):
    weights, output = tmp_path / "unet.pth", tmp_path / "out.safetensors"
    torch.save(monai_unet().state_dict(), weights)
    assert run(["model", "convert", str(weights), str(output), *options]) == 2
    assert said in capsys.readouterr().err
    assert not output.exists()
