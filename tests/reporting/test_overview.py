import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.reporting.overview import HUES, legend, overview
from pipeline.reporting.pictures import STATE_COLOURS
from pipeline.run.records import STATES


def picture(states, counts):
    uri = overview(np.asarray(states, np.uint8), counts)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")), len(uri)


def colours(pixels):
    return {tuple(colour) for colour in pixels.reshape(-1, 3).tolist()}


@pytest.mark.parametrize("counts", [(1000, 1000), (100, 100, 100), (10**6, 1)])
def test_one_failed_chunk_of_a_million_is_seen_in_a_small_picture(counts):
    states = np.full(10**6, STATES.index("done"))
    states[654321] = STATES.index("failed")
    pixels, size = picture(states, counts)
    assert STATE_COLOURS["failed"] in colours(pixels)
    assert STATE_COLOURS["done"] in colours(pixels)
    assert size < 40_000


def test_noise_of_a_million_chunks_stays_small():
    assert picture(np.random.default_rng(0).integers(0, 4, 10**6), (1000, 1000))[1] < 40_000


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_few_chunks_are_all_shown(states):
    seen = colours(picture(states, (len(states), 1))[0])
    assert {STATE_COLOURS[STATES[code]] for code in states} <= seen


def test_the_legend_counts_the_states_that_there_are():
    states = np.array([STATES.index(name) for name in ["done"] * 1200 + ["failed"]], np.uint8)
    assert legend(states) == "1,200 done (blue), 1 failed (orange)"
    assert set(HUES) == set(STATE_COLOURS)
