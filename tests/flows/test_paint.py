import numpy as np
import pytest
import tifffile

from flows.paint import BLOCK, Canvas, paint
from flows.shapes import render
from pipeline.volume import open_volume


@pytest.mark.parametrize(("size", "processes"), [(300, 1), (BLOCK + 100, 2)])
def test_painted_in_blocks_equals_rendered_whole(tmp_path, size, processes):
    seen = []
    canvas = Canvas(tmp_path / "image.tif", tmp_path / "target.zarr", size, seed=3)
    paint(canvas, processes=processes, on_progress=seen.append)
    image, target = render((0, 0), (size, size), seed=3, channels=3, dtype=np.uint16)
    assert np.array_equal(tifffile.imread(canvas.image), image.transpose(1, 2, 0))
    volume = open_volume(canvas.target)
    assert np.array_equal(volume.read(volume.box)[0], target)
    assert volume.space.unit == "micrometer"
    assert seen[-1] == len(canvas.grid)
