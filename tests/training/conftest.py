"""Pairs on disk for these tests, and one thread: more only wait for each other on a busy machine."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from volumes import save

from pipeline.config import Pair

MakePair = Callable[..., Pair]
Ring = list[tuple[float, float]]


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_pair(tmp_path: Path) -> MakePair:
    """Write an image and a target (by default where its first channel is odd) and return their pair."""
    numbers = iter(range(1000))

    def make(
        image: np.ndarray[Any, Any],
        target: np.ndarray[Any, Any] | None = None,
        axes: str = "cyx",
        target_axes: str | None = None,
        **options: Any,
    ) -> Pair:
        number = next(numbers)
        paths = [tmp_path / f"{name}{number}.zarr" for name in ("image", "target")]
        if target is None:
            target = (np.take(image, 0, axes.index("c")) if "c" in axes else image).astype("u1") % 2
            target_axes = axes.replace("c", "")
        save(paths[0], image, axes, chunks=options.pop("chunks", 16))
        save(paths[1], target, target_axes or axes.replace("c", ""), chunks=16)
        return Pair(image=str(paths[0]), target=str(paths[1]), **options)

    return make


@pytest.fixture
def polygons(tmp_path: Path) -> Callable[..., Path]:
    """Write polygons, rings of ``(x, y)`` in pixels, as GeoJSON, and return the file."""

    def make(rings: list[Ring], classes: list[str] | None = None, name: str = "polygons.geojson") -> Path:
        features = [
            {
                "type": "Feature",
                "properties": {} if classes is None else {"kind": classes[i]},
                "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
            }
            for i, ring in enumerate(rings)
        ]
        path = tmp_path / name
        path.write_text(json.dumps({"type": "FeatureCollection", "crs": None, "features": features}))
        return path

    return make
