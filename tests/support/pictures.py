"""Images in files of every kind that the main job reads without an ingest, written by other libraries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import rasterio
import tifffile
from PIL import Image
from rasterio.transform import Affine

SHAPE = (70, 90)
"""Voxels along y and x; along z there are 3."""

UTM = Affine(0.5, 0, 1000.25, 0, -0.5, 2000.5)


def picture(channels: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray[Any, Any]:
    """Return smooth waves with noise, ``(c, [z,] y, x)``."""
    noise = np.random.default_rng(7).integers(0, 30, (channels, *shape))
    waves = sum(np.sin(axis / 9.0) for axis in np.indices(shape))
    return (100 + 40 * waves + noise + 10 * np.arange(channels).reshape(-1, *(1,) * len(shape))).astype("u1")


def write_slide(root: Path) -> str:
    """A slide of three levels, 0.5, 1 and 2 micrometres a pixel."""
    voxels = np.moveaxis(picture(3), 0, -1)
    common = {"photometric": "rgb", "metadata": None, "compression": "deflate", "tile": (32, 48)}
    with tifffile.TiffWriter(root / "in.svs") as file:
        file.write(voxels, description="Aperio Image\r\n90x70 (48x32)|AppMag = 20|MPP = 0.5", **common)
        file.write(
            voxels[::3, ::3], rowsperstrip=16, description="Aperio\r\n90x70 -> 30x24", **(common | {"tile": None})
        )
        for factor in (2, 4):
            file.write(voxels[::factor, ::factor], description="Aperio\r\nlevel", **common)
    return str(root / "in.svs")


def write_png(root: Path) -> str:
    """A grey image."""
    Image.fromarray(picture(1)[0]).save(root / "in.png")
    return str(root / "in.png")


def write_npy(root: Path) -> str:
    """A plane in float32."""
    np.save(root / "in.npy", picture(1)[0].astype("f4"))
    return str(root / "in.npy")


def write_hdf5(root: Path) -> str:
    """One of two datasets, in chunks."""
    with h5py.File(root / "in.h5", "w") as file:
        file.create_dataset("/raw/a", data=picture(1)[0], chunks=(16, 16))
        file.create_dataset("/raw/b", data=picture(1)[0][::-1], chunks=(16, 16))
    return f"{root / 'in.h5'}::/raw/b"


def write_stack(root: Path) -> str:
    """A folder of slices, by a pattern."""
    (root / "slices").mkdir()
    for z, plane in enumerate(picture(1, (3, *SHAPE))[0]):
        Image.fromarray(plane).save(root / "slices" / f"s{z}.png")
    return str(root / "slices" / "*.png")


def write_raster(path: Path, voxels: np.ndarray[Any, Any], transform: Affine = UTM) -> str:
    """A GeoTIFF of half a metre a pixel, ``(c, y, x)``."""
    count, height, width = voxels.shape
    size = {"count": count, "height": height, "width": width, "dtype": voxels.dtype}
    tiles = {"tiled": True, "blockxsize": 32, "blockysize": 16}
    with rasterio.open(
        path, "w", driver="GTiff", crs="EPSG:32618", transform=transform, **size, **tiles
    ) as raster:
        raster.write(voxels)
    return str(path)


def write_geotiff(root: Path) -> str:
    """A raster of three bands."""
    return write_raster(root / "in.tif", picture(3))


def write_mosaic(root: Path) -> str:
    """A folder of two rasters side by side."""
    (root / "scenes").mkdir()
    voxels = picture(3)
    write_raster(root / "scenes" / "a.tif", voxels[..., :50])
    write_raster(root / "scenes" / "b.tif", voxels[..., 50:], UTM @ Affine.translation(50, 0))
    return str(root / "scenes")


WRITERS: dict[str, tuple[Callable[[Path], str], int]] = {
    "slide": (write_slide, 3),
    "png": (write_png, 1),
    "npy": (write_npy, 1),
    "hdf5": (write_hdf5, 1),
    "stack": (write_stack, 1),
    "geotiff": (write_geotiff, 3),
    "mosaic": (write_mosaic, 3),
}
"""What writes an image, given a folder, and its number of channels."""
