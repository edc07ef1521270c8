"""The zoo's networks as checkpoints, through the door by which other people's networks come in."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from zoo import ZOO, Specimen

from pipeline.model.checkpoint import CheckpointHeader, Normalisation
from pipeline.model.constructed import ConstructedArchitecture
from pipeline.model.exactness import analyse
from pipeline.model.weights import save_checkpoint


class Stubborn(nn.Module):
    """A network that stays in training mode, whatever it is told."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        super().train(True)

    def train(self, mode: bool = True) -> Stubborn:
        return self

    def forward(self, x):
        return self.model(x)


def build(name: str) -> nn.Module:
    """Make a network of the zoo by its name."""
    specimen = next(s for s in ZOO if s.name == name)
    model = specimen.make()
    return Stubborn(model) if specimen.train else model


def save_specimen(path: Path, specimen: Specimen) -> ConstructedArchitecture:
    """Measure a network of the zoo and save it as a checkpoint."""
    model = build(specimen.name)
    found = analyse(model, dims=specimen.dims, in_channels=specimen.in_channels)
    architecture = ConstructedArchitecture(
        constructor="specimens:build", arguments={"name": specimen.name}, dims=specimen.dims,
        in_channels=specimen.in_channels, classes=found.outputs, analysis=found.analysis,
    )  # fmt: skip
    channels = specimen.in_channels
    header = CheckpointHeader(
        architecture=architecture,
        normalisation=Normalisation(mean=(120.0,) * channels, std=(50.0,) * channels),
        classes=tuple(f"class{i}" for i in range(max(2, found.outputs))),
        axes="zyx"[-specimen.dims :],
    )
    save_checkpoint(path, model, header)
    return architecture
