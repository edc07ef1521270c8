"""What is known of a network of somebody else before it is built: by a job, by its package, or by both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.model.checkpoint import Scalar
from pipeline.model.network import OutputMeaning

Step = Mapping[str, Any]
"""One step of a package's pre- or postprocessing: ``id`` and ``kwargs``."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An input of a package, and the output that its network gives for it.

    Attributes:
        input: ``.npy`` file, ``(n, c, [z,] y, x)``, as it is before preprocessing.
        output: ``.npy`` file, ``(n, c, [z,] y, x)``, as it is after postprocessing.
        axes: ids of the axes, of both.
        preprocessing: the package's own steps; None where they are the checkpoint's normalisation.
        postprocessing: the package's own steps.
        relative: tolerance, as a share of the reference's values.
        absolute: tolerance, in the reference's values.
        mismatched: values per million that may lie beyond both.
    """

    input: Path
    output: Path
    axes: tuple[str, ...]
    preprocessing: tuple[Step, ...] | None
    postprocessing: tuple[Step, ...]
    relative: float
    absolute: float
    mismatched: float


@dataclass(frozen=True, slots=True)
class Claims:
    """What a package says of its network, and what is measured here.

    Attributes:
        outputs: channels of the output.
        halo: voxels at each end of each spatial axis that are to be cropped.
        sizes: smallest length of the input along each spatial axis, and step to the next; 0 for none.
    """

    outputs: int
    halo: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Described:
    """A network to convert; what is None is found out, or has a default.

    Attributes:
        weights: file of weights.
        constructor: ``module:callable``.
        arguments: of the constructor, by name.
        trust: digests (``sha256:...``) of files that the user vouches for.
        code: source of the constructor's module, where a package has it.
        dims: spatial axes.
        in_channels: channels of the input.
        classes: names.
        output_meaning: what the network gives for a voxel.
        mean: of the normalisation, for each channel.
        std: of the normalisation, for each channel.
        voxel_size: of the training data, along each axis.
        unit: of the voxel size.
        threshold: probability from which a sigmoid says foreground.
        reference: what its output is checked against.
        claims: what its package says, to be compared.
        provenance: where it comes from.
        notes: what a person should know.
    """

    weights: Path
    constructor: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    trust: frozenset[str] = frozenset()
    code: bytes | None = None
    dims: int | None = None
    in_channels: int | None = None
    classes: tuple[str, ...] | None = None
    output_meaning: OutputMeaning | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    voxel_size: tuple[float, ...] | None = None
    unit: str | None = None
    threshold: float | None = None
    reference: Reference | None = None
    claims: Claims | None = None
    provenance: Mapping[str, Scalar] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
