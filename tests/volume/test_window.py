import numpy as np
import pytest
from volumes import save

from pipeline.volume import window
from pipeline.volume.window import shown_window


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([3, 9], "u1", (0, 255)),
        ([300, 9000], "u2", (300, 9000)),
        ([-5, 7], "i4", (-5, 7)),
        ([7, 7], "u2", (7, 8)),
        ([0.25, 0.5], "f4", (0, 1)),
        ([0.25, np.nan], "f4", (0, 1)),
        ([-3.5, np.inf], "f4", (-3.5, -2.5)),
        ([-3.5, 12], "f8", (-3.5, 12)),
        ([np.nan, np.nan], "f4", (0, 1)),
        ([False, True], "bool", (0, 1)),
    ],
)
def test_values_that_viewers_show(tmp_path, values, dtype, expected):
    assert shown_window(save(tmp_path / "a.zarr", np.array([values], dtype), "yx")) == expected


@pytest.mark.parametrize(
    ("dtype", "expected"), [("u1", (0, 255)), ("u2", (0, 65535)), ("i2", (-32768, 32767)), ("f4", (0, 1))]
)
def test_large_levels_are_not_read(tmp_path, monkeypatch, dtype, expected):
    monkeypatch.setattr(window, "SMALL", 7)
    array = save(tmp_path / "a.zarr", np.array([[5, 9, 5, 9, 5, 9, 5, 9]], dtype), "yx")
    assert shown_window(array) == expected
