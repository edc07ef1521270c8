"""What planning and the engine need to know of a network, whichever family it is of; no torch."""

from __future__ import annotations

from typing import Literal, Protocol

from pipeline.geometry.reach import Reach

OutputMeaning = Literal["logits", "probabilities", "classes"]
"""What a network gives for a voxel: scores before the sigmoid or softmax, probabilities, or its class id."""


class Network(Protocol):
    """A network by its numbers.

    Attributes:
        dims: spatial axes, 2 or 3.
        in_channels: channels of the volume.
        classes: channels of the output; 1 is a sigmoid (or a map of class ids), more are a softmax.
    """

    @property
    def dims(self) -> int: ...  # noqa: D102
    @property
    def in_channels(self) -> int: ...  # noqa: D102
    @property
    def classes(self) -> int: ...  # noqa: D102

    @property
    def exact(self) -> bool:
        """Whether tiles can equal the whole image."""
        ...

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why they cannot: a sentence for each layer or behaviour that prevents it."""
        ...

    @property
    def output(self) -> OutputMeaning:
        """What it gives for a voxel."""
        ...

    def reaches(self) -> tuple[Reach, ...]:
        """What it sees along each spatial axis, in voxels; of an inexact network, only the sizes hold."""
        ...

    def parameters(self) -> int:
        """Learned numbers."""
        ...

    def operations(self, shape: tuple[int, ...]) -> int:
        """Floating-point operations for one input of the spatial ``shape``, two a multiply-add."""
        ...

    def peak_elements(self, shape: tuple[int, ...]) -> int:
        """Most elements alive at one time in inference on one input, the input included, the weights not."""
        ...
