"""Pictures and figures of a training are small PNGs that show what they say."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.training.figure import curve_png, reliability_png
from pipeline.training.learner import History
from pipeline.training.pictures import KEPT, ROWS, draw, keep
from pipeline.training.validation import Seen

NAMES = ("ground", "cell")


def seen(shape=(40, 40), channels=1, number=0, value=100):
    target = np.zeros(shape, np.int64)
    target[..., :10, :] = -1
    logits = np.full((1, *shape), -1.0, np.float32)
    logits[..., 30:] = 1
    image = np.full((channels, *shape), value, np.uint8)
    image[..., 0] = 0
    return Seen(number, image, target, logits)


def decoded(png):
    return np.array(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.parametrize("shape", [(40, 40), (2000, 900), (9, 40, 40)])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_picture_of_any_tile_is_bounded(shape, channels):
    png = draw([seen(shape, channels)] * (ROWS + 2), NAMES, "title")
    height, width, _ = decoded(png).shape
    assert width == 1100
    assert height <= 80 + 280 * ROWS
    assert len(png) < 500_000


def test_errors_classes_and_the_unknown_have_their_colours():
    pixels = {tuple(p) for p in decoded(draw([seen()], NAMES, "title")).reshape(-1, 3).tolist()}
    for colour in ((0x20, 0x20, 0x20), (0xE6, 0x9F, 0x00), (0xD5, 0x5E, 0x00), (0xD9, 0xD9, 0xD9)):
        assert colour in pixels


def test_an_image_of_one_value_is_drawn_too():
    assert draw([seen(value=0)], NAMES, "title").startswith(b"\x89PNG")


def test_the_first_picture_and_the_newest_are_kept(tmp_path):
    for step in range(1, KEPT + 6):
        keep(tmp_path / "pictures", step, b"png")
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert len(names) == KEPT
    assert names[0] == "step-00000001.png"
    assert names[1] == "step-00000007.png"


def point(step, value):
    return {
        "step": step,
        "validation": {"mean_iou": value, "classes": {"ground": {"iou": value}, "cell": {"iou": None}}},
    }


@pytest.mark.parametrize("values", [[], [0.4, 0.6], [None, None], [None, 0.5]])
def test_a_curve_is_drawn_whatever_was_measured(values):
    curve = [point(10 * (i + 1), value) for i, value in enumerate(values)]
    losses = np.linspace(1, 0.1, 1000).tolist()
    history = History(losses=losses, curve=curve or [{"step": 1, "validation": None}], best=20)
    assert Image.open(io.BytesIO(curve_png(history, "title", loss="dice"))).size == (1200, 675)


def test_a_loss_below_zero_is_in_the_curve():
    assert curve_png(History(losses=[0.5, -0.2]), "title").startswith(b"\x89PNG")


def test_a_reliability_diagram_leaves_out_empty_groups():
    groups = [
        {"voxels": 0, "mean_probability": None, "positives": None},
        {"voxels": 3, "mean_probability": 0.8, "positives": 0.5},
    ]
    side = {"ece": 0.3, "reliability": groups}
    assert Image.open(io.BytesIO(reliability_png(side, side, "title"))).size == (750, 750)
