"""How much of each change a patch gets: drawn in one fixed order, so that no setting changes what another one draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config.training import Augmentation
from pipeline.geometry import Turn

CHANCE = 0.5
"""Share of the patches that each change is done to; the others show the network what it will see in use."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """What is done to one patch; the defaults change nothing.

    Attributes:
        scale: factor of sizes.
        rotation: turn in the plane, in radians.
        elastic: whether the patch is deformed.
        brightness: shift, in standard deviations of the channel.
        contrast: factor of the differences to the channel's mean.
        gamma: exponent.
        noise: standard deviation of added noise, in those of the channel.
        blur: sigma, in voxels.
        stain: factors of haematoxylin, eosin and the rest; None where they stay.
        quarters: quarter turns in the plane, of square patches.
        flips: whether z, y and x are flipped after that.
    """

    scale: float = 1.0
    rotation: float = 0.0
    elastic: bool = False
    brightness: float = 0.0
    contrast: float = 1.0
    gamma: float = 1.0
    noise: float = 0.0
    blur: float = 0.0
    stain: tuple[float, float, float] | None = None
    quarters: int = 0
    flips: tuple[bool, bool, bool] = (False, False, False)

    @property
    def moves(self) -> bool:
        """Whether voxels are read from between others."""
        return self.scale != 1 or self.rotation != 0 or self.elastic

    def turn(self, shape: Sequence[int]) -> Turn:
        """Return what of the quarter turns and flips is done to a patch of some shape."""
        quarters = self.quarters if shape[-2] == shape[-1] else 0
        # A quarter turn is an exchange of y and x and a flip of y, three are an exchange and a flip of x.
        turned = (False, quarters in (1, 2), quarters in (2, 3))
        flips = [a != b for a, b in zip(turned, self.flips, strict=True)]
        return Turn(quarters in (1, 3), tuple(flips[-len(shape) :]))


def draw(settings: Augmentation, random: np.random.Generator) -> Amounts:
    """Draw what is done to a patch.

    Factors are uniform in their logarithm between ``1 - largest`` and ``1 / (1 - largest)``, so that larger is as
    likely as smaller; shifts, angles and stains' factors are uniform around none; blur and noise from none up. Each
    flip and each quarter turn is as likely as none.
    """
    happens = random.random(9) < CHANCE
    scale, rotation, brightness, contrast, gamma, noise, blur, *stains = np.where(
        [*happens[:7], *[happens[7]] * 3], random.uniform(-1, 1, 10), 0
    ).tolist()
    deformed = random.random()
    quarters, *flips = random.integers([4, 2, 2, 2]).tolist()
    return Amounts(
        scale=_factor(settings.scale, scale),
        rotation=math.radians(settings.rotation) * rotation,
        elastic=settings.elastic is not None and deformed < settings.elastic.probability,
        brightness=settings.brightness * brightness,
        contrast=_factor(settings.contrast, contrast),
        gamma=_factor(settings.gamma, gamma),
        noise=settings.noise * abs(noise),
        blur=settings.blur * abs(blur),
        stain=_stains(settings.stain, stains) if settings.stain and any(stains) else None,
        quarters=quarters if settings.turns else 0,
        flips=(bool(flips[0]), bool(flips[1]), bool(flips[2])) if settings.flips else (False, False, False),
    )


def _factor(largest: float, place: float) -> float:
    """Return a factor: 1 in the middle (0), ``1 - largest`` and its inverse at the ends (-1 and 1)."""
    return float((1 - largest) ** -place)


def _stains(largest: float, places: list[float]) -> tuple[float, float, float]:
    haematoxylin, eosin, rest = (1 + largest * place for place in places)
    return haematoxylin, eosin, rest
