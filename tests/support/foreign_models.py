"""Networks of others for tests: weights as files, and packages of the BioImage Model Zoo in both forms."""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from monai.networks.nets import UNet

from pipeline.model.constructed import Analysis, AxisReach, Cost

ARGUMENTS: dict[str, Any] = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "channels": [4, 8],
    "strides": [2],
    "norm": "batch",
}
CONSTRUCTOR = "monai.networks.nets:UNet"

CODE = '''
import torch

class Blur(torch.nn.Module):
    """A convolution: what a package's own Python file might hold."""

    def __init__(self, channels):
        super().__init__()
        self.layer = torch.nn.Conv2d(1, channels, 3, padding=1)

    def forward(self, x):
        return self.layer(x)
'''


def monai_unet(**changes: Any) -> torch.nn.Module:
    """Return a small MONAI U-Net in evaluation mode, whose batch norm has seen something."""
    torch.manual_seed(0)
    network = UNet(**ARGUMENTS | changes)
    with torch.no_grad():
        network(torch.randn(2, network.in_channels, *[16] * network.dimensions) * 3 + 1)
    return network.eval()


def sha256(path: Path) -> str:
    """Return the bare digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def trust(*paths: Path) -> tuple[str, ...]:
    """Return the digests of files as a job takes them."""
    return tuple(f"sha256:{sha256(path)}" for path in paths)


def zipped(folder: Path) -> Path:
    """Put a folder's files into a zip beside it."""
    target = folder.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    return target


@dataclass(frozen=True)
class FakeFindings:
    """What an analysis finds."""

    analysis: Analysis
    outputs: int


def fake_analyse(network: torch.nn.Module, *, dims: int, in_channels: int) -> FakeFindings:
    """Stand in for the analysis: run the network once, and say that it is exact with stride 2 and halo 4."""
    with torch.inference_mode():
        output = network(torch.zeros(1, in_channels, *[32] * dims))
    reach = AxisReach(stride=2, halo=(4, 4), offset=0, shrink=0, minimum=16)
    costs = tuple(Cost(voxels=n, operations=n, peak_elements=n) for n in (1024, 4096))
    parameters = sum(p.numel() for p in network.parameters())
    analysis = Analysis(exact=True, reaches=(reach,) * dims, parameters=parameters, costs=costs)
    return FakeFindings(analysis, outputs=output.shape[1])


class Package:
    """A package that a test may bend before it is written.

    Attributes:
        folder: where its files are.
        image: the reference input.
        network: what its weights are of.
        document: what ``rdf.yaml`` will say.
    """

    def __init__(self, folder: Path, form: str = "0.5", *, code: bool = False) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.image = np.random.default_rng(0).normal(100, 20, (1, 1, 32, 32)).astype("float32")
        self.network = self._blur() if code else monai_unet()
        torch.save(self.network.state_dict(), self.weights)
        (folder / "README.md").write_text("# A network\n")
        np.save(folder / "input.npy", self.image)
        self.save_output((self.image - 100) / 20)
        self.document = _v4(self, code) if form == "0.4" else _v5(self, code)

    @property
    def weights(self) -> Path:
        """Return the file of weights."""
        return self.folder / "weights.pt"

    @property
    def code(self) -> Path:
        """Return the file of code."""
        return self.folder / "blur.py"

    def save_output(self, normalised: np.ndarray) -> None:
        """Write the reference output for an input: the probabilities."""
        with torch.inference_mode():
            np.save(self.folder / "output.npy", self.network(torch.from_numpy(normalised)).sigmoid().numpy())

    def write(self) -> Path:
        """Write ``rdf.yaml`` and return the folder."""
        (self.folder / "rdf.yaml").write_text(yaml.safe_dump(self.document))
        return self.folder

    def _blur(self) -> torch.nn.Module:
        self.code.write_text(CODE)
        names: dict[str, Any] = {}
        exec(CODE, names)
        torch.manual_seed(0)
        return names["Blur"](1).eval()


def _common(form: str) -> dict[str, Any]:
    return {
        "type": "model",
        "format_version": form,
        "name": "Small nuclei",
        "description": "Finds nuclei.",
        "authors": [{"name": "A. Author"}, {"name": "B. Author"}],
        "license": "MIT",
        "version": "1.2",
        "timestamp": "2024-05-01T10:00:00",
        "cite": [{"text": "Author et al. 2020", "doi": "10.1000/xyz123"}],
        "documentation": "README.md",
    }


def _space(axis: str, **more: Any) -> dict[str, Any]:
    return {"type": "space", "id": axis, "scale": 0.5, "unit": "micrometer", **more}


def _v5(package: Package, code: bool) -> dict[str, Any]:
    architecture: dict[str, Any] = {"import_from": "monai.networks.nets", "callable": "UNet", "kwargs": ARGUMENTS}
    if code:
        source = {"source": "blur.py", "sha256": sha256(package.code)}
        architecture = {**source, "callable": "Blur", "kwargs": {"channels": 1}}
    same = [_space(i, halo=4, size={"tensor_id": "raw", "axis_id": i}) for i in "yx"]
    first = {"type": "batch"}
    return _common("0.5.3") | {
        "inputs": [
            {
                "id": "raw",
                "axes": [
                    first,
                    {"type": "channel", "channel_names": ["dapi"]},
                    *(_space(i, size={"min": 16, "step": 2}) for i in "yx"),
                ],
                "test_tensor": {"source": "input.npy"},
                "preprocessing": [
                    {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
                    {"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": 100, "std": 20}},
                ],
            }
        ],
        "outputs": [
            {
                "id": "nuclei",
                "axes": [first, {"type": "channel", "channel_names": ["nucleus"]}, *same],
                "test_tensor": {"source": "output.npy"},
                "postprocessing": [{"id": "sigmoid"}],
            }
        ],
        "weights": {
            "pytorch_state_dict": {
                "source": "weights.pt",
                "sha256": sha256(package.weights),
                "pytorch_version": "2.6",
                "architecture": architecture,
            }
        },
    }


def _v4(package: Package, code: bool) -> dict[str, Any]:
    own: dict[str, Any] = {"architecture": "monai.networks.nets.UNet", "kwargs": ARGUMENTS}
    if code:
        own = {
            "architecture": "blur.py:Blur",
            "architecture_sha256": sha256(package.code),
            "kwargs": {"channels": 1},
        }
    return _common("0.4.10") | {
        "test_inputs": ["input.npy"],
        "test_outputs": ["output.npy"],
        "inputs": [
            {
                "name": "raw",
                "axes": "bcyx",
                "data_type": "float32",
                "shape": {"min": [1, 1, 16, 16], "step": [0, 0, 2, 2]},
                "preprocessing": [{"name": "scale_linear", "kwargs": {"gain": 0.05, "offset": -5, "axes": "yx"}}],
            }
        ],
        "outputs": [
            {
                "name": "nuclei",
                "axes": "bcyx",
                "data_type": "float32",
                "shape": {"reference_tensor": "raw", "scale": [1, 1, 1, 1], "offset": [0, 0, 0, 0]},
                "halo": [0, 0, 4, 4],
                "postprocessing": [{"name": "sigmoid"}],
            }
        ],
        "weights": {
            "pytorch_state_dict": {"source": "weights.pt", "sha256": sha256(package.weights), **own},
        },
    }
