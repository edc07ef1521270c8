"""The whole way from somebody's files to a checkpoint, with the real analysis in a process of its own."""

import json
import os
import re
from pathlib import Path

import odd_networks
import pytest
import torch
import yaml
from foreign_models import ARGUMENTS, CONSTRUCTOR, Package, monai_unet, trust, zipped
from monai.networks.nets import BasicUNet
from safetensors.torch import save_file

from pipeline.config import ConvertJob, load_job
from pipeline.errors import EnvironmentFaultError, InputError, ModelError
from pipeline.jobs import convert as module
from pipeline.jobs.convert import convert
from pipeline.model.checkpoint import digest, read_header
from pipeline.model.constructors import VARIABLE, call_constructor
from pipeline.model.weights import load_model

BASIC = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3, "features": [4, 4, 4, 8, 8, 4]}


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def phase(self, name: str, total: int, unit: str) -> None:
        pass

    def progress(self, done: int, failed: int = 0) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def unet(tmp_path):
    save_file(monai_unet().state_dict(), tmp_path / "unet.safetensors")
    return tmp_path / "unet.safetensors"


@pytest.fixture
def here(monkeypatch):
    """Build in this process: the same, without starting another."""
    monkeypatch.setattr(module, "run_guarded", lambda function, argument, *, seconds, memory: function(argument))


@pytest.fixture
def nowhere(monkeypatch):
    """Fail if anything of others would be run."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it was to be run")

    monkeypatch.setattr(module, "run_guarded", refuse)


def job(weights, folder, **changes):
    options = {"weights": str(weights), "output": str(folder / "out.safetensors"), "constructor": CONSTRUCTOR}
    return load_job(ConvertJob, options | {"arguments": ARGUMENTS} | changes)


def left(folder):
    return {name for name in os.listdir(folder) if name.startswith(("out", ".out"))}


def test_a_monai_network_is_converted_in_a_process_of_its_own(tmp_path, unet):
    heard = Heard()
    found = convert(
        job(
            unet, tmp_path, mean=100, std=20, classes="background,nucleus", voxel_size="0.5,0.5", unit="micrometer"
        ),
        listener=heard,
    )
    assert json.loads(json.dumps(found)) == found
    assert found["checkpoint"] == str(tmp_path / "out.safetensors")
    assert found["exact"]
    assert found["stride"] == {"y": 2, "x": 2}
    assert found["halo"]["y"] == found["halo"]["x"]
    assert found["digest"] == digest(found["checkpoint"])
    assert (found["reference"], found["notes"]) == (None, [])
    assert heard.notes == [f"building and measuring {CONSTRUCTOR}, for 300 s at most"]
    image = torch.randn(1, 1, 32, 48)
    assert torch.equal(load_model(found["checkpoint"])(image), monai_unet()(image))
    assert left(tmp_path) == {"out.safetensors"}


@pytest.mark.usefixtures("here")
def test_an_instance_norm_is_named_and_converted_all_the_same(tmp_path):
    torch.manual_seed(0)
    network = BasicUNet(**BASIC).eval()
    path = tmp_path / "basic.pth"
    torch.save({"state_dict": {f"module.{name}": t for name, t in network.state_dict().items()}}, path)
    changes = {"constructor": "monai.networks.nets:BasicUNet", "arguments": BASIC, "trust": trust(path)[0]}
    found = convert(job(path, tmp_path, **changes))
    assert not found["exact"]
    assert found["halo"] is None
    assert any("norm" in reason.lower() for reason in found["reasons"])
    assert found["notes"] == [
        "no mean and std were given: the network gets voxels as they are stored",
        "the weights are the entry 'state_dict' of basic.pth; its other entries were left out",
        "the names of the tensors began with 'module.', which was taken off",
    ]
    image = torch.randn(1, 1, 32, 32)
    assert torch.equal(load_model(found["checkpoint"])(image), network(image))


@pytest.mark.parametrize("form", ["0.4", "0.5"])
@pytest.mark.usefixtures("here")
def test_a_package_is_converted_and_checked(tmp_path, form):
    made = Package(tmp_path / "p", form)
    given = {"constructor": None, "arguments": {}, "trust": trust(made.weights)}
    found = convert(job(zipped(made.write()), tmp_path, **given))
    assert found["reference"] < 1e-5
    assert found["halo"] == {"y": [3, 4], "x": [3, 4]}, "as much as the package says"
    assert found["notes"] == []
    assert found["normalisation"]["mean"] == pytest.approx([100])
    assert found["provenance"]["license"] == "MIT"


def test_code_of_a_package_runs_in_the_other_process_alone(tmp_path, monkeypatch):
    made = Package(tmp_path / "p", code=True)
    given = {"constructor": None, "arguments": {}, "trust": trust(made.weights, made.code)}
    found = convert(job(made.write(), tmp_path, **given))
    code = trust(made.code)[0]
    assert (
        f"the checkpoint carries the package's code: whoever runs it must set {VARIABLE}={code}" in found["notes"]
    )
    assert found["halo"]["y"] == [1, 1]
    with pytest.raises(ModelError, match=f"not allowed here.*{VARIABLE}={code}"):
        load_model(found["checkpoint"])
    monkeypatch.setenv(VARIABLE, code)
    image = torch.randn(1, 1, 16, 16)
    assert torch.equal(load_model(found["checkpoint"])(image), made.network(image))


@pytest.mark.parametrize(
    ("constructor", "limits", "said"),
    [
        ("odd_networks:hang", {"time_limit": 6}, "not built and measured within 6 s"),
        ("odd_networks:eat", {"memory_limit": "700MiB"}, "MiB of memory, and 700 MiB are allowed"),
        ("odd_networks:crash", {}, "ended by signal 6"),
    ],
)
def test_a_constructor_that_misbehaves_is_ended(tmp_path, monkeypatch, constructor, limits, said):
    monkeypatch.setenv(VARIABLE, "odd_networks")
    save_file(odd_networks.Plain().state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=said):
        convert(job(tmp_path / "a.safetensors", tmp_path, constructor=constructor, arguments={}, **limits))
    assert left(tmp_path) == set()


def test_what_a_constructor_prints_is_not_on_stdout(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv(VARIABLE, "odd_networks")
    save_file(odd_networks.Plain().state_dict(), tmp_path / "a.safetensors")
    convert(job(tmp_path / "a.safetensors", tmp_path, constructor="odd_networks:Loud", arguments={}))
    out, error = capfd.readouterr()
    assert out == ""
    assert {"LOUD", "LOUDER"} <= set(error.split())


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"constructor": "os:system", "arguments": {"command": "touch /tmp/it"}}, f"not allowed.*{VARIABLE}"),
        ({"constructor": "subprocess:run"}, f"not allowed.*{VARIABLE}"),
        ({"constructor": None}, "constructor: is needed"),
        ({"output": "out.pth"}, r"a checkpoint is a \.safetensors file; name it out\.safetensors"),
        ({"weights": "none.safetensors"}, "no file of weights"),
        ({"weights": "https://host/a.safetensors"}, "are an address"),
        ({"weights": "none.zip", "constructor": None, "arguments": {}}, "no package"),
        ({"weights": "none.zip"}, "names its own; leave them out"),
    ],
)
def test_what_is_refused_is_refused_before_anything_runs(tmp_path, unet, changes, said):
    with pytest.raises(InputError, match=said):
        convert(job(changes.pop("weights", unet), tmp_path, **changes))
    assert left(tmp_path) == set()


@pytest.mark.usefixtures("nowhere")
def test_a_torch_file_needs_its_own_digest(tmp_path):
    path, other = tmp_path / "a.pth", "sha256:" + "0" * 64
    torch.save(monai_unet().state_dict(), path)
    for given in ("", other):
        with pytest.raises(ModelError, match=f"give trust: {trust(path)[0]}"):
            convert(job(path, tmp_path, **({"trust": given} if given else {})))


@pytest.mark.usefixtures("nowhere")
def test_places_where_nothing_can_be_written_are_refused(tmp_path, unet, monkeypatch):
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "file").write_text("")
    for output, said in [
        (tmp_path / "folder.safetensors", "a folder of that name"),
        (unet, "is the file of weights itself"),
        (tmp_path / "file" / "out.safetensors", "nothing can be written in"),
    ]:
        with pytest.raises(InputError, match=said):
            convert(job(unet, tmp_path, output=str(output)))


@pytest.mark.usefixtures("nowhere")
def test_a_job_does_not_contradict_a_package(tmp_path):
    made = Package(tmp_path / "p")
    given = {"constructor": None, "arguments": {}, "trust": trust(made.weights)}
    for changes, said in [
        ({"dims": 3}, "dims 3: the package's network has 2; leave dims out"),
        ({"axes": "zyx"}, "dims 3: the package's network has 2"),
        ({"in_channels": 2}, "in_channels 2: the package's network has 1"),
    ]:
        with pytest.raises(InputError, match=said):
            convert(job(made.write(), tmp_path, **given, **changes))


@pytest.mark.usefixtures("here")
def test_a_failed_conversion_leaves_what_was_there(tmp_path):
    made = Package(tmp_path / "p", code=True)
    made.save_output(made.image)
    given = {"constructor": None, "arguments": {}, "trust": trust(made.weights, made.code)}
    (tmp_path / "out.safetensors").write_bytes(b"before")
    with pytest.raises(ModelError, match="does not give the package's reference output"):
        convert(job(made.write(), tmp_path, **given))
    assert (tmp_path / "out.safetensors").read_bytes() == b"before"
    assert left(tmp_path) == {"out.safetensors"}


def test_a_checkpoint_that_cannot_be_put_in_place_is_said(tmp_path, unet, monkeypatch):
    def blocked(function, argument, *, seconds, memory):
        (tmp_path / "new").write_text("in the way")
        return {"digest": "", "reference": None, "notes": []}

    monkeypatch.setattr(module, "run_guarded", blocked)
    with pytest.raises(EnvironmentFaultError, match="cannot be written"):
        convert(job(unet, tmp_path, output=str(tmp_path / "new" / "out.safetensors")))


@pytest.mark.usefixtures("here")
def test_axes_say_the_dims_and_folders_are_made(tmp_path):
    arguments = ARGUMENTS | {"spatial_dims": 3}
    save_file(monai_unet(spatial_dims=3).state_dict(), tmp_path / "a.safetensors")
    output = tmp_path / "new" / "deep" / "out.safetensors"
    found = convert(job(tmp_path / "a.safetensors", tmp_path, arguments=arguments, axes="zyx", output=str(output)))
    assert read_header(output).axes == found["axes"] == "zyx"


def test_the_settings_of_a_job_are_checked():
    paths = {"weights": "a.safetensors", "output": "b.safetensors"}
    for changes, said in [
        ({"mean": 3}, "mean and std are given together"),
        ({"axes": "zyx", "dims": "2"}, "axes zyx are not 2 dims"),
        ({"trust": "md5:123"}, "'md5:123' is not a digest"),
        ({"constructor": "monai.nets.UNet"}, "--constructor: String should match"),
        ({"dims": 4}, "--dims: Input should be less than or equal to 3"),
        ({"mean": "a", "std": "1"}, "mean.0: Input should be a valid number"),
        ({"output_meaning": "scores"}, "--output-meaning: Input should be 'logits'"),
    ]:
        with pytest.raises(InputError, match=said):
            load_job(ConvertJob, paths | changes)
    assert load_job(ConvertJob, paths | {"mean": "0.5, 1", "std": [1, 2]}).mean == (0.5, 1.0)
    assert load_job(ConvertJob, paths | {"mean": 0.5, "std": 1}).std == (1.0,)


def examples():
    """Return the job files in docs/models.md."""
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]


OWN = """
from torch import nn

class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a, self.b = nn.Conv3d(2, width, 3, padding=1), nn.Conv3d(width, 1, 3, padding=1)

    def forward(self, x):
        return (self.b(self.a(x).relu()) + x[:, :1]).sigmoid()
"""


@pytest.mark.usefixtures("here")
def test_the_examples_of_the_page_work(tmp_path, monkeypatch):
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "networks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(VARIABLE, "mylab.networks")
    monkeypatch.chdir(tmp_path)
    for example in examples():
        network = call_constructor(example["constructor"], example["arguments"])
        save_file(network.state_dict(), example["weights"])
        found = convert(load_job(ConvertJob, example))
        assert found["exact"], found["reasons"]
        assert found["notes"] == []
    assert len(examples()) == 2
