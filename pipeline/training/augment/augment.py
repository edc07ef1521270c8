"""Random changes of a patch: drawn first, then done in the order in which light passes a microscope.

::

    draw ─▶ read ─▶ stain ─▶ scale, rotation, elastic ─▶ flips, turns ─▶ blur ─▶ contrast, brightness ─▶ gamma ─▶ noise
            what    (raw)    one map, one resampling      no resampling
            is seen

Everything that moves voxels, but for flips along z, lies in the plane, y and x, and is the same in every slice of a
stack: in a microscope's stacks z is another world, sampled a few times more coarsely, and a rotation that mixes it
with the plane would show shapes that no stack has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.config.training import Augmentation
from pipeline.errors import InputError
from pipeline.geometry import Box
from pipeline.model.checkpoint import Normalisation
from pipeline.training.augment.amounts import Amounts, draw
from pipeline.training.augment.intensity import blurred, graded, noisy, powered
from pipeline.training.augment.spatial import displacements, move_image, move_target, move_weights, needed, sources
from pipeline.training.augment.stain import restained

if TYPE_CHECKING:
    from pipeline.training.patches import Patch

Single = npt.NDArray[np.float32]


class Augment:
    """Draws what is done to patches, as the settings allow.

    A patch for which nothing is drawn comes back as it is, bit for bit; one that is only flipped or turned keeps its
    voxels. Otherwise its image is float32, in the volume's units, not clipped to the range of the image's dtype: the
    network sees it normalised, where there is no such range.

    Args:
        settings: what may be done, and how much at most.
        normalisation: mean and standard deviation of each channel, in whose units intensities change.

    Raises:
        InputError: stains are to change, but the images have not three channels.
    """

    def __init__(self, settings: Augmentation, normalisation: Normalisation) -> None:
        if settings.stain and len(normalisation.mean) != 3:
            raise InputError(
                f"augment.stain: {settings.stain:g} is for RGB images of H&E, these have {len(normalisation.mean)}"
                " channels; set it to 0"
            )
        self._settings = settings
        self._mean = np.array(normalisation.mean, np.float32)
        self._std = np.array(normalisation.std, np.float32)

    def __call__(self, shape: tuple[int, ...], random: np.random.Generator) -> Change:
        """Draw what is done to one patch.

        Args:
            shape: spatial extent of the patch, context included: ``([z,] y, x)``.
            random: the same state gives the same change. The change goes on with it.
        """
        amounts = draw(self._settings, random)
        source = self._source((shape[-2], shape[-1]), amounts, random) if amounts.moves else None
        seen = Box.of_shape(shape)
        if source is not None:
            plane = needed(source)
            seen = Box((0,) * (len(shape) - 2) + plane.start, shape[:-2] + plane.stop)
        return Change(amounts, shape, seen, source, self._mean, self._std, random)

    def _source(self, plane: tuple[int, int], amounts: Amounts, random: np.random.Generator) -> Single:
        """Return one map, made of everything that moves voxels."""
        source = sources(plane, scale=amounts.scale, rotation=amounts.rotation)
        elastic = self._settings.elastic
        if amounts.elastic and elastic is not None:
            source += displacements(plane, sigma=elastic.sigma, grid=elastic.grid, random=random)
        return source


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What is done to one patch.

    Attributes:
        amounts: how much of everything.
        shape: spatial extent of the patch, before and after.
        seen: what is read for it: a box of voxels counted from the patch's first one. Some of them may lie around the
            patch, see :mod:`pipeline.training.augment.spatial`; none does unless voxels are read from between others.
        source: which place each voxel of the plane shows, counted like ``seen``; None where that is its own.
        mean: of each channel, in the image's values.
        std: standard deviation of each channel, likewise.
        random: where noise is drawn from.
    """

    amounts: Amounts
    shape: tuple[int, ...]
    seen: Box
    source: Single | None
    mean: Single
    std: Single
    random: np.random.Generator

    def __call__(self, patch: Patch) -> Patch:
        """Change the patch.

        Args:
            patch: image ``(c, *seen)``, target and weights ``(*seen)``.

        Returns:
            The patch, moved alike in all parts, each of the extent ``shape``. Target voxels that come from outside
            what was seen are ``IGNORE``; image voxels that do are the mirror image.
        """
        assert patch.target.shape == self.seen.shape, (patch.target.shape, self.seen)
        if self.amounts.stain is not None:
            patch = replace(patch, image=restained(patch.image, self.amounts.stain))
        return self._toned(self._turned(self._moved(patch)))

    def _moved(self, patch: Patch) -> Patch:
        """Move voxels: one map, one resampling."""
        if self.source is None:
            return patch
        source = self.source - np.array(self.seen.start[-2:], np.float32)[:, np.newaxis, np.newaxis]
        return replace(
            patch,
            image=move_image(patch.image, source),
            target=move_target(patch.target, source),
            weights=None if patch.weights is None else move_weights(patch.weights, source),
        )

    def _turned(self, patch: Patch) -> Patch:
        """Flip and turn: no voxel changes its value."""
        turn = self.amounts.turn(self.shape)
        if turn.is_plain:
            return patch
        weights = None if patch.weights is None else turn.apply(patch.weights)
        return replace(patch, image=turn.apply(patch.image), target=turn.apply(patch.target), weights=weights)

    def _toned(self, patch: Patch) -> Patch:
        """Change intensities, each step only if it was drawn."""
        image, amounts = patch.image, self.amounts
        if amounts.blur:
            image = blurred(image, amounts.blur)
        if amounts.contrast != 1 or amounts.brightness:
            shift = self.mean * (1 - amounts.contrast) + self.std * amounts.brightness
            image = graded(image, amounts.contrast, shift)
        if amounts.gamma != 1:
            image = powered(image, amounts.gamma)
        if amounts.noise:
            image = noisy(image, self.std * amounts.noise, self.random)
        return patch if image is patch.image else replace(patch, image=image)
