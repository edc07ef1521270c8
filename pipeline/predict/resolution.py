"""Settle in which voxels an image is segmented: a level as it is, the one of a size that is asked, or one resampled.

A network knows things by how large they look. So where both the checkpoint and the image know the size of their voxels,
an image whose size is another one is refused, unless the job says what to do. Sizes are compared along y and x.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pipeline.config import SegmentJob, reading_of
from pipeline.errors import PlanError
from pipeline.model.checkpoint import CheckpointHeader
from pipeline.volume.file_image import image_spec, open_image
from pipeline.volume.image import Image, ImageSpec
from pipeline.volume.resampled import ResampledImage, ResampledSpec
from pipeline.volume.sources.reading import Reading
from pipeline.volume.sources.units import METRES, parse_pixel_size, unit_name
from pipeline.volume.space import Space

DIFFERENT = 1.2
"""An image whose voxels are so many times larger or smaller than those of the training is refused: 20 % is about what
slides of one magnification and the augmentation of a training differ in."""

SAME = 1.02
"""A level whose voxels are within 2 % of the size that is asked for is taken as it is."""

FINEST = 0.25
"""Least factor of resampling: an image has no details for voxels more than four times finer than its own."""

Plane = tuple[float, float]
"""Extent along y and x, in metres."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """In which voxels an image is read.

    Attributes:
        reading: what the user says of the image, and the level that is read.
        factors: voxels of that level that one voxel spans along y and x; None where it is not resampled.
    """

    reading: Reading
    factors: Plane | None = None

    def spec(self, url: str) -> ImageSpec:
        """Return how an image is opened in these voxels; errors as :func:`pipeline.volume.file_image.open_image`."""
        image = image_spec(url, self.reading)
        return image if self.factors is None else ResampledSpec(image, self.factors)

    def describe(self, image: Image) -> dict[str, Any]:
        """Return what a plan tells, JSON-ready.

        Returns:
            ``level`` that is read; ``voxel_size`` and ``unit`` of what the network sees; whether it is ``resampled``;
            ``factor``: voxels of the level that one voxel spans; ``finest``: voxels of level 0 that it spans.
        """
        ones = (1.0,) * len(image.shape)
        factors = image.factors if isinstance(image, ResampledImage) else ones
        return {
            "level": self.reading.level,
            "voxel_size": list(image.space.voxel_size),
            "unit": image.space.unit,
            "resampled": self.factors is not None,
            "factor": list(factors),
            "finest": list(image.scale or ones),
        }


def settle_resolution(job: SegmentJob, header: CheckpointHeader) -> tuple[Resolution, Image]:
    """Return the voxels in which a job's image is segmented, and the image in them.

    Args:
        job: the settings.
        header: of the checkpoint, which may tell the size of the voxels that it was trained on.

    Raises:
        PlanError: the image's voxels are too different from those of the training, and the job does not say what to
            do; a size is asked for that the image cannot be brought to, or together with a level.
        InputError: the image cannot be opened.
    """
    if job.pixel_size in (None, "any"):
        resolution = Resolution(reading_of(job))
        image = resolution.spec(job.input).open()
        if job.pixel_size is None:
            _check_fits(job, image, header)
        return resolution, image
    if job.level:
        raise PlanError(
            f"--level {job.level} and --pixel-size {job.pixel_size} exclude each other: the size chooses the level;"
            " leave one of them out"
        )
    resolution = _of_size(job, _wanted(job, header))
    return resolution, resolution.spec(job.input).open()


def _wanted(job: SegmentJob, header: CheckpointHeader) -> Plane:
    """Return the size that is asked for."""
    if job.pixel_size != "model":
        return parse_pixel_size(str(job.pixel_size))
    size = _model_size(header)
    if size is None:
        raise PlanError(
            f"--pixel-size model: {job.model} does not tell the size of the voxels that it was trained on; say it, for"
            " example --pixel-size 0.5um"
        )
    return size


def _of_size(job: SegmentJob, wanted: Plane) -> Resolution:
    """Return the level of a size, or the one that is resampled to it."""
    sizes = _level_sizes(job)
    reading = reading_of(job)
    fitting = [level for level, size in enumerate(sizes) if _apart(size, wanted) <= SAME]
    if fitting:
        return Resolution(_at(reading, min(fitting, key=lambda k: _apart(sizes[k], wanted)), job.input))
    finer = [
        level for level, size in enumerate(sizes) if all(s <= w * SAME for s, w in zip(size, wanted, strict=True))
    ]
    level = max(finer, default=0)
    factors = (wanted[0] / sizes[level][0], wanted[1] / sizes[level][1])
    if min(factors) < FINEST:
        raise PlanError(
            f"--pixel-size {job.pixel_size}: the finest voxels of {job.input} are {_text(sizes[0])}, more than"
            f" {1 / FINEST:.0f} times as large, so it does not show what the network looks for; ask for"
            f" {_text((sizes[0][0] * FINEST, sizes[0][1] * FINEST))} at least, or choose another model"
        )
    return Resolution(_at(reading, level, job.input), factors)


def _at(reading: Reading, level: int, url: str) -> Reading:
    """Return how a level is read; a voxel size that the user says is that of level 0."""
    if reading.voxel_size is None or level == 0:
        return replace(reading, level=level)
    image = open_image(url, replace(reading, level=level))
    sizes = tuple(s * f for s, f in zip(reading.voxel_size, image.scale, strict=True))
    image.close()
    return replace(reading, level=level, voxel_size=sizes)


def _level_sizes(job: SegmentJob) -> list[Plane]:
    """Return the size of the voxels of each level of a job's image.

    Raises:
        PlanError: the image does not know it.
    """
    reading = reading_of(job)
    finest = open_image(job.input, replace(reading, level=0))
    size = _plane(finest.space)
    count = finest.level_count
    finest.close()
    if size is None:
        raise PlanError(
            f"--pixel-size {job.pixel_size}: {job.input} does not tell the size of its voxels in a unit of length; say"
            " it, of level 0, for example --voxel-size 0.25,0.25 --unit um"
        )
    sizes = [size]
    for level in range(1, count):
        image = open_image(job.input, replace(reading, level=level))
        sizes.append((size[0] * image.scale[-2], size[1] * image.scale[-1]))
        image.close()
    return sizes


def _check_fits(job: SegmentJob, image: Image, header: CheckpointHeader) -> None:
    """Refuse an image whose voxels are much larger or smaller than those that the network was trained on."""
    trained, found = _model_size(header), _plane(image.space)
    if trained is None or found is None or _apart(found, trained) <= DIFFERENT:
        return
    sizes = _level_sizes(job) if job.voxel_size is None or job.level == 0 else []
    fitting = [level for level, size in enumerate(sizes) if _apart(size, trained) <= DIFFERENT]
    level = f"--level {fitting[0]} ({_text(sizes[fitting[0]])}), " if fitting else ""
    raise PlanError(
        f"{job.input}: voxels of level {job.level} are {_text(found)}, but {job.model} was trained on {_text(trained)},"
        f" and more than {DIFFERENT - 1:.0%} apart: what it looks for would be of another size. Use {level}"
        "--pixel-size model to bring the image to the model's size, or --pixel-size any to segment it as it is"
    )


def _model_size(header: CheckpointHeader) -> Plane | None:
    if header.voxel_size is None or header.unit is None:
        return None
    return _metres(header.voxel_size, header.unit)


def _plane(space: Space) -> Plane | None:
    """Return the size of an image's voxels; None where it is not known in a unit of length."""
    return None if space.unit is None else _metres(space.voxel_size, space.unit)


def _metres(size: tuple[float, ...], unit: str) -> Plane | None:
    name = unit_name(unit)
    return None if name is None else (size[-2] * METRES[name], size[-1] * METRES[name])


def _apart(one: Plane, other: Plane) -> float:
    """Return how many times larger or smaller one size is than another, along the axis where they differ most."""
    return max(max(a / b, b / a) for a, b in zip(one, other, strict=True))


def _text(size: Plane) -> str:
    """Return a size as people write it."""
    unit = next((u for u in ("meter", "millimeter", "micrometer") if max(size) >= METRES[u]), "nanometer")
    y, x = (f"{length / METRES[unit]:.4g}" for length in size)
    return f"{y} x {x} {unit}"
