"""The rules of the plan: each makes one choice from what the data and the device are like, and says why in one line.

The idea is nnU-Net's (Isensee et al. 2021): what follows from the data is derived by rules and not tuned. The rules
here are our own, and smaller: one network, one resolution, and a training that ends overnight on the device at hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipeline.config.losses import CrossEntropy, DiceCrossEntropy, LossSettings
from pipeline.config.training import Augmentation, Elastic
from pipeline.model.architecture import UNetArchitecture
from pipeline.training.survey import Facts

T = TypeVar("T")
Reasoned = tuple[T, str]

SOLID_ANISOTROPY = 3.0
"""Voxels up to this many times longer along z are worth a 3-D network (nnU-Net calls data beyond it anisotropic)."""

SOLID_DEPTH = 32
"""Fewest slices that are worth one."""

PASSES = 100
"""How often each labelled voxel is seen; patches are changed at random each time."""

RARE = 0.1
"""Share below which a class is lost in cross-entropy alone."""

OVERSAMPLED = 0.02
"""Share below which patches without a class teach too little of it."""

GUARDED = 4
"""An image must be so many times longer than what the network sees, for a guard around a block to leave something."""

OBJECTS_ACROSS = 4
"""Larger objects that a patch holds along an axis."""


@dataclass(frozen=True, slots=True)
class Means:
    """What there is to train with.

    Attributes:
        device: ``cpu`` or ``cuda``.
        memory: bytes that a step may take.
        devices: processes that share each batch.
    """

    device: str
    memory: int
    devices: int = 1

    @property
    def fast(self) -> bool:
        """Whether it is a GPU."""
        return self.device == "cuda"

    @property
    def gibibytes(self) -> str:
        """The memory, for people."""
        return f"{self.memory / (1 << 30):.1f} GiB"


def choose_dims(facts: Facts) -> Reasoned[int]:
    """Choose a flat or a solid network."""
    if len(facts.space.axes) < 3:
        return 2, "the volumes are planes"
    depth, anisotropy = min(shape[0] for shape in facts.shapes), facts.anisotropy
    if anisotropy is None:
        return 2, "stacks whose voxel size is not known: slice by slice"
    if anisotropy > SOLID_ANISOTROPY:
        return 2, f"voxels are {anisotropy:.1f} times longer along z than in the plane: slice by slice"
    if depth < SOLID_DEPTH:
        return 2, f"stacks of {depth} slices: slice by slice"
    return 3, f"stacks of {depth} slices, voxels {anisotropy:.1f} times as long along z as in the plane"


def choose_depth(facts: Facts, dims: int, *, blocks: bool) -> Reasoned[int]:
    """Choose the fewest levels with which the network sees a larger object whole.

    Args:
        facts: the data.
        dims: axes of the network.
        blocks: whether blocks are held out, with a guard around them as wide as the network sees.
    """
    deepest = 5 if dims == 2 else 4
    room = min(min(shape[-2:]) for shape in facts.shapes)
    while blocks and deepest > 2 and GUARDED * _seen(deepest) > room:
        deepest -= 1
    wanted = math.inf if facts.diameter is None else facts.diameter
    depth = next((d for d in range(3, deepest) if _seen(d) >= wanted), deepest)
    objects = "no object was seen" if facts.diameter is None else f"larger objects are {facts.diameter:.0f} across"
    return depth, f"sees {_seen(depth)} voxels to each side; {objects}"


def _seen(depth: int) -> int:
    """Return how many voxels a padded network of so many levels sees to each side."""
    return UNetArchitecture(depth=depth, width=1, padding="same").reach().halo[0]


def choose_patch(
    facts: Facts, architecture: UNetArchitecture, means: Means, parts: int
) -> Reasoned[tuple[int, ...]]:
    """Choose a patch that holds some objects, fits every volume, and leaves room for a split into blocks.

    Args:
        facts: the data.
        architecture: the network.
        means: the device.
        parts: blocks of two patches that all volumes together must have; 0 where none are held out that way.
    """
    dims, stride = architecture.dims, architecture.reach().stride
    largest, least = (512 if means.fast else 256, 128) if dims == 2 else (128 if means.fast else 64, 32)
    wanted = largest // 2 if facts.diameter is None else OBJECTS_ACROSS * facts.diameter
    edge = int(min(max(wanted, least), largest))
    room = [min(shape[axis] for shape in facts.shapes) for axis in range(-dims, 0)]
    squeeze = 1.0 if dims == 2 or facts.anisotropy is None else max(1.0, facts.anisotropy)
    while True:
        edges = (edge / squeeze, edge, edge)[-dims:]
        patch = tuple(_fitting(length, most, stride) for length, most in zip(edges, room, strict=True))
        if edge <= 2 * stride or _blocks(facts.shapes, patch) >= parts:
            break
        edge //= 2
    objects = "" if facts.diameter is None else f"; larger objects are {facts.diameter:.0f} across"
    return patch, f"multiple of {stride}, at most {largest} on this device, within the smallest volume{objects}"


def choose_width(architecture: UNetArchitecture, patch: Sequence[int], means: Means) -> Reasoned[UNetArchitecture]:
    """Choose the most channels for which two patches fit; on a CPU the time is bounded by fewer."""
    widest = 32 if means.fast else 16 if architecture.dims == 2 else 8
    for width in (w for w in (32, 16, 8) if w <= widest):
        found = architecture.model_copy(update={"width": width})
        if width == 8 or 2 * step_bytes(found, patch) <= means.memory:
            return found, f"a step of two patches fits {means.gibibytes}; at most {widest} on a {means.device}"
    raise AssertionError("the narrowest is taken")


def choose_batch(architecture: UNetArchitecture, patch: Sequence[int], means: Means) -> Reasoned[int]:
    """Choose a power of two that fits the memory: 2 at least, as few as batch normalisation bears."""
    most = (32 if means.fast else 8) if architecture.dims == 2 else (4 if means.fast else 2)
    fitting = max(2, means.memory // step_bytes(architecture, patch))
    batch = min(most, 1 << int(math.log2(fitting)))
    why = f"a patch takes {step_bytes(architecture, patch) / (1 << 20):.0f} MiB of {means.gibibytes}"
    if means.devices == 1:
        return batch, why
    each = max(1, batch // means.devices)
    return each * means.devices, f"{why}; {means.devices} devices take {each} each"


def step_bytes(architecture: UNetArchitecture, patch: Sequence[int]) -> int:
    """Return about what a step takes for each patch, in float32: its maps, and as much again for the way back."""
    reach = architecture.reach()
    seen = tuple(p + reach.before + reach.after(p) for p in patch) if architecture.padding == "valid" else patch
    return 8 * architecture.training_elements(tuple(seen))


def choose_steps(facts: Facts, patch: Sequence[int], batch: int, means: Means) -> Reasoned[int]:
    """Choose so many steps that each labelled voxel is seen ``PASSES`` times, within what a night holds."""
    least, most = (1000, 20000) if means.fast else (300, 3000)
    wanted = round(facts.labelled * PASSES / (batch * math.prod(patch)))
    steps = min(max(wanted, least), most)
    return steps, (
        f"{facts.labelled:,} labelled voxels, each seen about"
        f" {steps * batch * math.prod(patch) / max(1, facts.labelled):.0f} times; {least} to {most} on a {means.device}"
    )


def choose_loss(facts: Facts) -> Reasoned[LossSettings]:
    """Choose what bears the imbalance of the classes."""
    if facts.rarest < RARE:
        return DiceCrossEntropy(), f"the rarest class has {facts.rarest:.1%} of the voxels: Dice does not lose it"
    return CrossEntropy(), f"the rarest class has {facts.rarest:.0%} of the voxels"


def choose_balance(facts: Facts) -> Reasoned[float]:
    """Choose the share of patches that hold a class drawn evenly (a third, as nnU-Net)."""
    if facts.rarest < OVERSAMPLED:
        return 1 / 3, f"the rarest class has {facts.rarest:.2%} of the voxels"
    return 0.0, f"the rarest class has {facts.rarest:.0%} of the voxels: it is met anyway"


def choose_augment(facts: Facts, dims: int) -> Reasoned[Augmentation]:
    """Choose changes that the kind of image meets in life."""
    match facts.look:
        case "stained":
            chosen = Augmentation(scale=0.2, brightness=0.1, stain=0.1)
            return chosen, "bright ground and purple tissue, as H&E: the stains' strengths vary"
        case "colour":
            return Augmentation(scale=0.2, brightness=0.2, contrast=0.2), "colour: light varies"
        case "grey" if dims == 2:
            chosen = Augmentation(elastic=Elastic(), brightness=0.2, contrast=0.2, gamma=0.2, noise=0.05)
            return chosen, "grey, as microscopy: tissue deforms (the U-Net paper), intensity varies"
        case "grey":
            return Augmentation(brightness=0.2, contrast=0.2, gamma=0.2, noise=0.05), "grey: intensity varies"
        case _:
            return Augmentation(), "several channels of unknown meaning: flips and turns alone"


def _fitting(length: float, most: int, stride: int) -> int:
    """Return the multiple of the stride nearest to a length that fits; at least one stride."""
    return max(stride, min(round(length / stride), most // stride) * stride)


def _blocks(shapes: Sequence[tuple[int, ...]], patch: Sequence[int]) -> int:
    """Return how many blocks of two patches the volumes hold."""
    dims = len(patch)
    lead = [math.prod(shape[:-dims]) for shape in shapes]
    return sum(
        n * math.prod(max(1, length // (2 * p)) for length, p in zip(shape[-dims:], patch, strict=True))
        for n, shape in zip(lead, shapes, strict=True)
    )
