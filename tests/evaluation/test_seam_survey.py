"""The survey of whole volumes: planted steps are found where they are, and nothing else is."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pipeline.evaluation.seam_survey import STRIPS_LEAST, STRIPS_MOST, SeamSurvey, Subject, _strips_most, paired
from pipeline.geometry import Grid, Reach, TileLayout


def texture(shape, seed=0, wide=3.0):
    """Smooth noise of deviation 1."""
    found = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), wide, mode="wrap")
    return found / found.std()


def subject(shape, chunk, tile=None, *, kind="logits", stride=8, origin=None, inside=None):
    grid, n = Grid(shape, chunk), len(shape)
    layout = None if tile is None else TileLayout((Reach(stride=stride),) * n, tile)
    return Subject(grid, "zyx"[-n:], kind, 4, (stride,) * n, layout, origin or (0,) * n, inside)


def survey(voxels, of, order=None):
    found = SeamSurvey(of)
    for chunk in range(len(of.grid)) if order is None else order:
        found.add(int(chunk), voxels[of.grid.core(int(chunk)).slices])
    return found


def flagged(found, limit=0.52):
    return {(each.borders, each.axis) for each in found.finding(limit).seams}


def stored(values, kind):
    if kind == "labels":
        return (values > 0).astype(np.uint8)
    shares = 1 / (1 + np.exp(-2 * values))
    return np.rint(255 * shares).astype(np.uint8) if kind == "probabilities" else values.astype(np.float32)


KINDS = ["labels", "probabilities", "logits"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_smooth_volume_has_no_seams(kind):
    of = subject((768, 768), (256, 256), (64, 64), kind=kind)
    found = survey(stored(texture((768, 768)), kind), of)
    assert flagged(found) == set()
    assert {(each.borders, each.axis) for each in found.finding().contrasts} == {
        (borders, axis) for borders in ("chunk", "tile") for axis in "yx"
    }


@pytest.mark.parametrize("kind", KINDS)
def test_without_seams_z_deviates_by_about_one_and_nothing_is_flagged(kind):
    shape, found = (384, 384), []
    for seed in range(16):
        values = stored(texture(shape, seed, wide=3 + 7 * (seed % 2)), kind)
        survey_of_one = survey(values, subject(shape, (96, 96), (48, 48), kind=kind))
        assert flagged(survey_of_one, limit=0.5) == set()
        found += [each.z for each in survey_of_one.finding().contrasts]
    assert abs(np.mean(found)) < 0.5
    assert 0.7 < np.std(found) < 1.4


@pytest.mark.parametrize("kind", KINDS)
def test_an_offset_of_every_chunk_is_found_at_the_borders_of_chunks(kind):
    shape, offsets = (768, 768), np.random.default_rng(1).standard_normal((6, 6)) * 0.8
    found = survey(
        stored(texture(shape) + np.kron(offsets, np.ones((128, 128))), kind),
        subject(shape, (128, 128), (64, 64), kind=kind),
    )
    assert flagged(found) == {("chunk", "y"), ("chunk", "x")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_between_tiles_along_one_axis_is_found_there(kind):
    shape = (768, 768)
    steps = 0.8 * (np.arange(768) // 64 % 2)
    found = survey(stored(texture(shape) + steps, kind), subject(shape, (256, 256), (64, 64), kind=kind))
    assert flagged(found) == {("chunk", "x"), ("tile", "x")}


def test_a_third_dimension():
    shape = (64, 320, 320)
    offsets = np.random.default_rng(1).standard_normal((2, 5, 5)) * 0.3
    smooth, of = texture(shape), subject(shape, (32, 64, 64), (32, 32, 32))
    assert flagged(survey(smooth, of)) == set()
    found = survey(smooth + np.kron(offsets, np.ones((32, 64, 64))), of)
    assert flagged(found) == {("chunk", axis) for axis in "zyx"}


def test_the_order_of_chunks_does_not_matter():
    of = subject((300, 420), (100, 70), (40, 24))
    values = texture((300, 420))
    first = survey(values, of)
    other = survey(values, of, np.random.default_rng(3).permutation(len(of.grid)))
    assert np.allclose([c.z for c in first.finding().contrasts], [c.z for c in other.finding().contrasts])
    assert np.array_equal(first.map()[0], other.map()[0])


def test_borders_that_only_a_part_of_the_tiles_shares_the_phase_with_are_compared_in_phase():
    """A checkerboard of the network's stride is everywhere; it is no seam."""
    values = texture((512, 512)) + 0.5 * (np.arange(512) // 16 % 2)
    assert flagged(survey(values, subject((512, 512), (128, 128), (64, 64), stride=16))) == set()


def test_chunks_that_are_not_there_leave_their_borders_out():
    of = subject((512, 512), (64, 64))
    values = texture((512, 512)) + np.kron(np.random.default_rng(0).standard_normal((8, 8)), np.ones((64, 64)))
    even = [chunk for chunk in range(64) if sum(of.grid.position(chunk)) % 2 == 0]
    found = survey(values, of, even)
    assert found.finding().contrasts == ()
    assert found.finding().to_json()["unmeasured"] == []
    assert found.map()[0].sum() == 0


def test_only_foreground_is_looked_at():
    shape = (512, 512)
    mask = np.zeros(shape, np.bool_)
    mask[:, :256] = True
    values = np.where(mask, texture(shape), 0)
    values[:, 256:] = np.kron(np.random.default_rng(0).standard_normal((8, 4)) * 5, np.ones((64, 64)))
    assert flagged(survey(values, subject(shape, (64, 64)))) != set()
    assert flagged(survey(values, subject(shape, (64, 64), inside=lambda box: mask[box.slices]))) == set()


def test_borders_lie_where_the_tiles_of_the_input_meet():
    of = subject((100, 100), (50, 50), (16, 16), stride=8, origin=(3, 8))
    core = of.grid.core(3)
    # in the input: chunk 53:103, aligned to 48; tiles begin at 48, 64, 80, 88 (the last one moves back)
    assert of.edges(core, 0) == (0, 11, 27, 35, 50)
    assert subject((100, 100), (50, 50)).edges(core, 1) == (0, 50)


def test_without_room_nothing_is_compared_and_that_is_said():
    of = subject((64, 512), (8, 512), stride=8)
    said = survey(texture((64, 512)), of).finding().to_json()
    assert said["unmeasured"] == [
        {"borders": "chunk", "axis": "y", "reason": "no room beside these borders for planes to compare them with"}
    ]
    flat = survey(np.zeros((512, 512)), subject((512, 512), (128, 128))).finding().to_json()
    assert {each["reason"] for each in flat["unmeasured"]} == {"too few places where the prediction changes"}


def test_the_profile_has_its_peak_at_the_border():
    steps = np.kron(np.random.default_rng(0).standard_normal(8), np.ones(64))
    lines = survey(texture((512, 512)) + steps, subject((512, 512), (64, 64))).profile()
    (across,) = [line for line in lines if line["axis"] == "x"]
    assert across["offsets"] == [-32, -16, 0, 16, 32]
    assert np.argmax(across["fine"]) == np.argmax(across["broad"]) == across["offsets"].index(0)


def test_planes_nearby_come_in_pairs_where_they_can():
    assert paired([-1, 1, 2]) == [-1, 1]
    assert paired([2, 1]) == [1, 2]
    assert paired([]) == []


def test_what_waits_for_its_other_half_is_bounded():
    small = subject((1000, 1000), (100, 100))
    assert _strips_most(small) == STRIPS_MOST
    assert _strips_most(subject((10**6, 10**6), (500, 500))) == STRIPS_LEAST
