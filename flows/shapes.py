"""The demo's image, where the data's path starts: an endless plane of shapes of which any box can be drawn alone.

The task is to find the filled ellipses among half discs, rings, rectangles, triangles, crosses and stars that
share their sizes, angles and colours: only the form tells them apart. Light falls unevenly, noise lies over
everything, and neighbours touch.

The plane is cut into cells that hold one shape each, or none::

    ┌───────┬───────┐   A shape reaches at most REACH voxels beyond its cell. So it is enough to look at the
    │  ◯    │   ✚   │   neighbours of a box's cells, and two shapes hide little of each other.
    │      ▭│▭      │
    ├───────┼───────┤   Every property of a shape is a hash of (seed, cell), every grain of noise a function
    │   △   │   ◎   │   of (seed, position). So all boxes agree where they meet, in any order and process.
    └───────┴───────┘

All arithmetic is on integers, on a rounded table of sines, or by operations that IEEE 754 defines to the last
bit: no voxel depends on the box that it was drawn in, nor on how numpy vectorised the drawing.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.errors import InputError

Floats = NDArray[np.floating]
Image = NDArray[np.uint8] | NDArray[np.uint16]
Form = Callable[[Floats, Floats, float, float], Floats]

CLASS_NAMES = ("background", "ellipse")
"""What the values of the target mean."""

CELL, REACH = 56, 9
"""Edge of a cell, and how far a shape may reach beyond its cell, in voxels."""

_RADII = (13.0, 31.0)  # radius of the circle around a shape, in voxels
_ASPECTS = (0.6, 1.0)  # short axis over long axis
_EMPTY, _ELLIPSES = 0.08, 0.5  # shares of the cells that hold nothing, and of the shapes that are ellipses
_BACKGROUND, _DARK, _BRIGHT = 100, (5, 60), (145, 230)  # intensities of a channel, on the scale of uint8
_RIM, _RIM_SHADE = 1.5, 0.7  # width of the rim that parts touching shapes, and its share of the colour
_LIGHT, _HAZE = 0.12, 6.0  # amplitudes of a wave of light (a factor) and of haze (added)
_PERIODS = (900, 3500)  # periods of the waves, in voxels
_NOISE = 18.0  # standard deviation
_BLOCK = 256  # edge of a block of noise, in voxels; light and noise are worked out block by block
_GRAINS = 2**20  # offsets at which a block's noise may start in the table
_SCALES = {np.dtype(np.uint8): 1, np.dtype(np.uint16): 256}
_NOISE_FIELD, _LIGHT_FIELD, _HAZE_FIELD = -1, -2, -3  # streams of random numbers beside those of the shapes
_TURN = 4096  # steps of a full turn in the table of sines
_SINE = np.round(np.sin(np.arange(_TURN) * (2 * np.pi / _TURN)) * 2**15).astype(np.float32) / np.float32(2**15)


def render(
    box_start: tuple[int, int],
    shape: tuple[int, int],
    *,
    seed: int,
    channels: int = 3,
    dtype: DTypeLike = np.uint8,
) -> tuple[Image, NDArray[np.uint8]]:
    """Draw one box of the plane, and its target.

    Law: each voxel has the same value in every box that contains it.

    Args:
        box_start: first row and column ``(y, x)`` of the box in voxels; the plane goes on below zero.
        shape: height and width ``(h, w)`` of the box in voxels.
        seed: number of the plane.
        channels: number of channels; further ones leave the first ones as they are.
        dtype: uint8, or uint16 for the same scene at 256 times the intensity.

    Returns:
        The image ``(c, h, w)``, and the target ``(h, w)`` in uint8: 1 where the topmost shape is an ellipse.

    Raises:
        InputError: the box is empty, there is no channel, or the dtype is another one.
    """
    kind = np.dtype(dtype)
    if min(shape) < 1:
        raise InputError(f"the box to draw has shape {tuple(shape)}; height and width must be at least 1")
    if channels < 1:
        raise InputError(f"the number of channels is {channels}; it must be at least 1")
    if kind not in _SCALES:
        raise InputError(f"the image cannot be drawn in {kind}; choose uint8 or uint16")
    scale = _SCALES[kind]
    image = np.full((channels, *shape), _BACKGROUND * scale, kind)
    target = np.zeros(shape, np.uint8)
    for each in _shapes(box_start, shape, seed, channels):
        _paint(each, image, target, box_start, scale)
    _expose(image, box_start, seed, scale)
    return image, target


# Forms: how far the point (u, v) on a shape's own axes lies outside of the shape, about in voxels (negative
# inside). r is the radius of the circle around the shape, q its short axis over its long axis.


def _ellipse(u: Floats, v: Floats, r: float, q: float) -> Floats:
    return _norm(u, v, q) - r


def _half_disc(u: Floats, v: Floats, r: float, q: float) -> Floats:
    outside: Floats = np.maximum(_norm(u, v, 1) - r, -v)
    return outside


def _ring(u: Floats, v: Floats, r: float, q: float) -> Floats:
    middle: Floats = np.abs(_norm(u, v, q) - 0.78 * r)
    return middle - 0.22 * r


def _rectangle(u: Floats, v: Floats, r: float, q: float) -> Floats:
    half = r / (1 + q * q) ** 0.5
    outside: Floats = np.maximum(np.abs(u) - half, np.abs(v) - q * half)
    return outside


def _triangle(u: Floats, v: Floats, r: float, q: float) -> Floats:
    return np.maximum(v, np.abs(u) * (0.866 / q) - v * 0.5) - r / 2


def _cross(u: Floats, v: Floats, r: float, q: float) -> Floats:
    u, v = np.abs(u), np.abs(v)
    return np.maximum(np.maximum(u, v) - 0.95 * r, np.minimum(u, v) - 0.3 * q * r)


def _star(u: Floats, v: Floats, r: float, q: float) -> Floats:
    """Two triangles, one of them upside down."""
    u, v = np.abs(u) * 0.866, np.abs(v)
    return np.minimum(np.maximum(v, u - v * 0.5), u + v * 0.5) - r / 2


_OTHERS: tuple[Form, ...] = (_half_disc, _ring, _rectangle, _triangle, _cross, _star)


def _norm(u: Floats, v: Floats, q: float) -> Floats:
    """Length of (u, v / q)."""
    v = v * (1 / q)
    u = u * u
    u += v * v
    return np.sqrt(u, out=u)


@dataclass(frozen=True, slots=True)
class _Shape:
    """One shape: its form, centre (y, x) and radius in voxels, aspect, direction (cos, sin) and colour (c)."""

    form: Form
    centre: tuple[float, float]
    radius: float
    aspect: float
    direction: tuple[float, float]
    colour: NDArray[np.float64]


def _shapes(start: tuple[int, int], shape: tuple[int, int], seed: int, channels: int) -> Iterator[_Shape]:
    """The shapes that may reach into a box, in the order of painting."""
    margin = REACH + 1
    edges = [
        np.arange((s - margin) // CELL, (s + n + margin) // CELL + 1) for s, n in zip(start, shape, strict=True)
    ]
    rows, columns = (axis.ravel() for axis in np.meshgrid(*edges, indexing="ij"))

    def draw(field: int, low: float = 0, high: float = 1) -> NDArray[np.float64]:
        return low + (high - low) * _uniform(seed, field, rows, columns)

    radii, aspects = draw(0, *_RADII), draw(1, *_ASPECTS)
    play = CELL / 2 + REACH - radii
    centres_y = CELL * (rows + 0.5) + play * draw(2, -1, 1)
    centres_x = CELL * (columns + 0.5) + play * draw(3, -1, 1)
    turns = draw(4, 0, _TURN).astype(np.int64)
    kinds, others = draw(5), draw(6, 0, len(_OTHERS)).astype(np.int64)
    colours = [
        np.where(draw(8 + 2 * c) < 0.5, draw(9 + 2 * c, *_DARK), draw(9 + 2 * c, *_BRIGHT))
        for c in range(channels)
    ]
    for i in np.argsort(draw(7), kind="stable"):
        if kinds[i] >= _EMPTY:
            yield _Shape(
                form=_ellipse if kinds[i] < _EMPTY + (1 - _EMPTY) * _ELLIPSES else _OTHERS[others[i]],
                centre=(float(centres_y[i]), float(centres_x[i])),
                radius=float(radii[i]),
                aspect=float(aspects[i]),
                direction=(float(_SINE[(turns[i] + _TURN // 4) % _TURN]), float(_SINE[turns[i]])),
                colour=np.array([channel[i] for channel in colours]),
            )


def _paint(each: _Shape, image: Image, target: NDArray[np.uint8], start: tuple[int, int], scale: int) -> None:
    """Paint one shape over the image and the target, as far as it lies in them."""
    axes = list(zip(each.centre, start, target.shape, strict=True))
    low = [max(math.ceil(c - each.radius), s) for c, s, _ in axes]
    high = [min(math.floor(c + each.radius) + 1, s + n) for c, s, n in axes]
    if low[0] >= high[0] or low[1] >= high[1]:
        return
    box = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
    y, x = (np.arange(a, b) - c for a, b, c in zip(low, high, each.centre, strict=True))
    cos, sin = each.direction
    u = (sin * y).astype(np.float32)[:, None] + (cos * x).astype(np.float32)
    v = (cos * y).astype(np.float32)[:, None] - (sin * x).astype(np.float32)
    outside = each.form(u, v, each.radius, each.aspect)
    colour = (each.colour * scale).astype(image.dtype)[:, None, None]
    rim = (each.colour * (scale * _RIM_SHADE)).astype(image.dtype)[:, None, None]
    inside, within_rim = outside < 0, outside < -_RIM
    np.copyto(image[:, *box], rim, where=inside)
    np.copyto(image[:, *box], colour, where=within_rim)
    np.copyto(target[box], each.form is _ellipse, where=inside)


def _expose(image: Image, start: tuple[int, int], seed: int, scale: int) -> None:
    """Lay light, haze and noise over a painted image, in place, one block of the plane after the other."""
    parts = [list(_pieces(s, n)) for s, n in zip(start, image.shape[1:], strict=True)]
    for (by, ys), (bx, xs) in itertools.product(*parts):
        y, x = np.arange(ys.start, ys.stop), np.arange(xs.start, xs.stop)
        light = 1 + _waves(seed, _LIGHT_FIELD, y, x) * _LIGHT
        haze = _waves(seed, _HAZE_FIELD, y, x) * (_HAZE * scale)
        piece = image[:, *(slice(p.start - s, p.stop - s) for p, s in zip((ys, xs), start, strict=True))]
        grains = (
            slice(ys.start - by * _BLOCK, ys.stop - by * _BLOCK),
            slice(xs.start - bx * _BLOCK, xs.stop - bx * _BLOCK),
        )
        for channel, values in enumerate(piece):
            first = int(_hash(seed, _NOISE_FIELD, by, bx, channel)[0]) % _GRAINS
            noise = _noise()[first : first + _BLOCK**2].reshape(_BLOCK, _BLOCK)[grains]
            exposed = values * light
            exposed += haze
            exposed += noise * scale
            values[...] = exposed.clip(0, 256 * scale - 1, out=exposed)


def _pieces(start: int, length: int) -> Iterator[tuple[int, slice]]:
    """Cut an interval at the edges of blocks: each piece with its block's index."""
    for block in range(start // _BLOCK, (start + length - 1) // _BLOCK + 1):
        yield block, slice(max(start, block * _BLOCK), min(start + length, (block + 1) * _BLOCK))


def _waves(seed: int, field: int, y: NDArray[np.int64], x: NDArray[np.int64]) -> Floats:
    """Sum of three products of slow sines along both axes, (h, w), between -3 and 3."""
    total = np.zeros((y.size, x.size), np.float32)
    for wave in range(3):
        periods = _PERIODS[0] + (_PERIODS[1] - _PERIODS[0]) * _uniform(seed, field, wave, np.arange(2))
        steps = (_TURN * 2**20 / periods).astype(np.int64)
        phases = (_TURN * 2**20 * _uniform(seed, field, wave, np.arange(2, 4))).astype(np.int64)
        down = _SINE[((y * steps[0] + phases[0]) >> 20) % _TURN]
        total += down[:, None] * _SINE[((x * steps[1] + phases[1]) >> 20) % _TURN]
    return total


@functools.cache
def _noise() -> Floats:
    """Table of noise on the scale of uint8: sums of four random bytes, which are close to normal."""
    words = _hash(0, np.arange((_GRAINS + _BLOCK**2) // 2)).view(np.uint8).reshape(-1, 4)
    deviation = (4 * (256**2 - 1) / 12) ** 0.5
    noise: Floats = (words.sum(axis=1, dtype=np.float32) - 4 * 127.5) * (_NOISE / deviation)
    return noise


def _hash(seed: int, *keys: NDArray[np.int64] | int) -> NDArray[np.uint64]:
    """One random word for each element of the keys, at least one-dimensional.

    Each key is mixed in by SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators",
    OOPSLA 2014, section 5).
    """
    state = np.array([seed % 2**64], np.uint64)
    for key in keys:
        state = (state ^ np.asarray(key, np.int64).astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state


def _uniform(seed: int, *keys: NDArray[np.int64] | int) -> NDArray[np.float64]:
    """One number in [0, 1) for each element of the keys."""
    return (_hash(seed, *keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53
