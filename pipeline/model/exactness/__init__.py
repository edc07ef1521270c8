"""What any network sees: halo, stride, legal sizes, and whether tiles can equal the whole (see docs/exactness.md).

The bounds of every tensor are carried through the network on shapes alone, with padding as poison; this gives halo
and stride to the voxel, and names the layers that see the whole input. Then the network runs on small noise: a crop
test confirms what was derived.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from pipeline.model.constructed import Analysis
from pipeline.model.exactness.analysis import analyse_network

__all__ = ["Findings", "analyse"]


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found of a network.

    Attributes:
        analysis: verdict, reaches, parameters and costs.
        outputs: channels of the output.
    """

    analysis: Analysis
    outputs: int


def analyse(model: nn.Module, *, dims: int, in_channels: int) -> Findings:
    """Measure a network.

    Args:
        model: maps ``(1, in_channels, [z,] y, x)`` to ``(1, channels, [z,] y, x)``, in the mode (normally ``eval()``)
            in which it will run. It is copied, never changed.
        dims: spatial axes, 2 or 3.
        in_channels: channels of the input.

    Raises:
        ModelError: if no verdict is possible: the output is not one image with a voxel for every voxel of the input,
            the network fails, gives NaN or infinity, takes inputs of one size alone, or needs more memory than there
            is.
    """
    analysis, outputs = analyse_network(model, dims=dims, in_channels=in_channels)
    return Findings(analysis, outputs)
