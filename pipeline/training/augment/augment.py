"""Random changes of a patch: drawn first, then done in the order in which light passes a microscope.

::

    patch ─▶ stain ─▶ scale, rotation, elastic ─▶ blur ─▶ contrast, brightness ─▶ gamma ─▶ noise ─▶ patch
             (raw)    one map, one resampling

Flips and right-angle turns are done before, where the patch is read (:class:`pipeline.geometry.Turn`): they move
voxels without changing any. Everything that moves voxels here lies in the plane, y and x, and is the same in every
slice of a stack: in a microscope's stacks z is another world, sampled a few times more coarsely, and a rotation that
mixes it with the plane would show shapes that no stack has.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.config.training import Augmentation
from pipeline.errors import InputError
from pipeline.model.checkpoint import Normalisation
from pipeline.training.augment.amounts import Amounts, draw
from pipeline.training.augment.intensity import blurred, graded, noisy, powered
from pipeline.training.augment.spatial import displacements, move_image, move_target, move_weights, sources
from pipeline.training.augment.stain import restained

if TYPE_CHECKING:
    from pipeline.training.patches import Patch

Single = npt.NDArray[np.float32]


class Augment:
    """Changes patches at random, as the settings allow.

    A pure function of the patch and the generator. A patch for which nothing is drawn comes back as it is, bit for
    bit; otherwise its image is float32, in the volume's units, not clipped to the range of the image's dtype: the
    network sees it normalised, where there is no such range.

    Args:
        settings: what may be done, and how much at most; flips and turns are not done here.
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

    def __call__(self, patch: Patch, random: np.random.Generator) -> Patch:
        """Change a patch.

        Args:
            patch: image ``(c, *spatial)``, target and weights of the same spatial extent.
            random: the same state gives the same changes.

        Returns:
            The patch, moved alike in all parts. Target voxels that come from outside are ``IGNORE``; image voxels
            that do are the mirror image.
        """
        amounts = draw(self._settings, random)
        if amounts.stain is not None:
            patch = replace(patch, image=restained(patch.image, amounts.stain))
        patch = self._moved(patch, amounts, random)
        return self._toned(patch, amounts, random)

    def _moved(self, patch: Patch, amounts: Amounts, random: np.random.Generator) -> Patch:
        """Move voxels: one map, made of everything that moves them, and one resampling."""
        if not amounts.moves:
            return patch
        plane = patch.target.shape[-2:]
        source = sources((plane[0], plane[1]), scale=amounts.scale, rotation=amounts.rotation)
        elastic = self._settings.elastic
        if amounts.elastic and elastic is not None:
            source += displacements((plane[0], plane[1]), sigma=elastic.sigma, grid=elastic.grid, random=random)
        return replace(
            patch,
            image=move_image(patch.image, source),
            target=move_target(patch.target, source),
            weights=None if patch.weights is None else move_weights(patch.weights, source),
        )

    def _toned(self, patch: Patch, amounts: Amounts, random: np.random.Generator) -> Patch:
        """Change intensities, each step only if it was drawn."""
        image = patch.image
        if amounts.blur:
            image = blurred(image, amounts.blur)
        if amounts.contrast != 1 or amounts.brightness:
            shift = self._mean * (1 - amounts.contrast) + self._std * amounts.brightness
            image = graded(image, amounts.contrast, shift)
        if amounts.gamma != 1:
            image = powered(image, amounts.gamma)
        if amounts.noise:
            image = noisy(image, self._std * amounts.noise, random)
        return patch if image is patch.image else replace(patch, image=image)
