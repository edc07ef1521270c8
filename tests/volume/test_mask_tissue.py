"""``--mask auto`` on slides: all tissue, little glass, one threshold; and a word where there is nothing to find."""

import numpy as np
import pytest
import zarr
from masks import disc, save_slide, slide, subject
from skimage.color import rgb2hsv
from volumes import small_spec

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.volume import Space, build_pyramid, create_level, publish
from pipeline.volume.mask import levels, tissue
from pipeline.volume.mask.auto import open_foreground
from pipeline.volume.mask.tissue import Tissue

SHAPE = (300, 420)


def found(path, **said):
    mask = open_foreground("auto", subject(path, **said))
    assert isinstance(mask, Tissue)
    return mask.read(Box.of_shape(mask.shape)), mask


def test_tissue_is_found_with_its_border_and_glass_is_left_out(tmp_path):
    true = disc(SHAPE, (140, 150), 80)
    bits, mask = found(save_slide(tmp_path / "a.zarr", slide(SHAPE, true)))
    assert bits.shape == SHAPE
    assert bits[disc(SHAPE, (140, 150), 84)].all()
    assert not bits[~disc(SHAPE, (140, 150), 90)].any()
    assert mask.facts["classes"] == 2
    assert 0.02 < mask.facts["threshold"] < 0.3
    assert (mask.kind, mask.reason, mask.nbytes) == ("auto", "mask: no tissue", 300 * 420 * 3)


def test_dust_is_removed_and_lumen_is_filled(tmp_path):
    true = disc(SHAPE, (140, 150), 80) & ~disc(SHAPE, (140, 150), 12) | disc(SHAPE, (250, 390), 3)
    bits, _ = found(save_slide(tmp_path / "a.zarr", slide(SHAPE, true)))
    assert bits[disc(SHAPE, (140, 150), 80)].all()
    assert not bits[:, 300:].any()


def test_large_holes_stay_glass(tmp_path):
    true = disc(SHAPE, (140, 150), 120) & ~disc(SHAPE, (140, 150), 60)
    bits, _ = found(save_slide(tmp_path / "a.zarr", slide(SHAPE, true)))
    assert not bits[disc(SHAPE, (140, 150), 40)].any()


@pytest.mark.parametrize(("size", "margin"), [(10.0, 5.0), (2.5, 20.0), (100.0, 2.0), (None, 2.0)])
def test_the_margin_is_in_micrometres_where_they_are_known(tmp_path, size, margin):
    bits, mask = found(save_slide(tmp_path / "a.zarr", slide(SHAPE, disc(SHAPE, (140, 150), 60)), size=size))
    assert mask.facts["margin_voxels"] == margin
    reach = np.flatnonzero(bits[140])
    assert reach.min() == pytest.approx(150 - 60 - margin, abs=1.1)


def test_a_blank_slide_is_refused_and_a_full_one_is_all_tissue(tmp_path):
    nothing, everything = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    dust = np.any([disc(SHAPE, (y, x), 5) for y in range(30, 300, 60) for x in range(30, 400, 60)], axis=0)
    with pytest.raises(VolumeError, match=r"--mask auto finds no tissue.*use --mask none"):
        found(save_slide(tmp_path / "blank.zarr", slide(SHAPE, nothing)))
    with pytest.raises(VolumeError, match="finds no tissue"):
        found(save_slide(tmp_path / "even.zarr", np.full((3, *SHAPE), 230, np.uint8)))
    with pytest.raises(VolumeError, match=r"nothing but specks of less than 100 voxels"):
        found(save_slide(tmp_path / "dust.zarr", slide(SHAPE, dust)))
    bits, mask = found(save_slide(tmp_path / "full.zarr", slide(SHAPE, everything)))
    assert bits.all()
    assert mask.facts["classes"] == 1


def test_the_black_around_a_scan_is_no_tissue(tmp_path):
    voxels = slide(SHAPE, disc(SHAPE, (140, 150), 60))
    voxels[:, :, 350:] = np.random.default_rng(0).integers(0, 12, (3, 300, 70))
    bits, _ = found(save_slide(tmp_path / "a.zarr", voxels))
    assert not bits[:, 300:].any()


def test_saturation_is_that_of_hsv():
    colours = np.random.default_rng(0).integers(0, 256, (3, 50, 40), dtype=np.uint8)
    expected = rgb2hsv(np.moveaxis(colours, 0, -1))[..., 1] * (colours.max(axis=0) >= tissue.DARK)
    assert np.abs(tissue._saturation(colours) / 255 - expected).max() <= 0.5 / 255 + 1e-9


@pytest.mark.parametrize("factor", [1, 2, 3, 7])
def test_means_of_blocks_do_not_depend_on_strips(tmp_path, monkeypatch, factor):
    voxels = slide(SHAPE, disc(SHAPE, (140, 150), 60))
    path = save_slide(tmp_path / "a.zarr", voxels)
    monkeypatch.setattr(tissue, "MOST_SIDE", -(-420 // factor))
    whole = Tissue(subject(path))._saturation()
    monkeypatch.setattr(tissue, "STRIP", 4096)
    assert np.array_equal(Tissue(subject(path))._saturation(), whole)
    blocks = [
        np.rint(voxels[:, y : y + factor, x : x + factor].astype(float).mean(axis=(1, 2)))
        for y in range(0, 300, factor)
        for x in range(0, 420, factor)
    ]
    expected = tissue._saturation(np.array(blocks, np.uint8).T[:, None]).reshape(whole.shape)
    assert np.abs(whole.astype(int) - expected).max() <= 3  # halves are rounded up there, to even here


def pyramid(path, voxels):
    spec = small_spec(
        voxels.shape[1:], channels=3, shard=(256, 256), space=Space("yx", (1, 1), (0, 0), "micrometer")
    )
    create_level(path, "0", spec)
    zarr.open_array(path / "0", mode="r+")[...] = voxels
    made = build_pyramid(path, spec, method="mean", threads=1, progress=None)
    publish(path, name="slide", axes="cyx", levels=made, classes=None)
    return path


def test_a_coarse_level_is_taken_whatever_level_is_segmented(tmp_path, monkeypatch):
    monkeypatch.setattr(levels, "LEAST_SIDE", 512)
    shape = (800, 1100)
    path = pyramid(tmp_path / "a.zarr", slide(shape, disc(shape, (400, 500), 300)))
    (fine, mask), (coarse, _) = found(path), found(path, level=1)
    assert mask.facts["level"] == 1
    assert fine.shape == (400, 550)
    assert np.array_equal(fine, coarse)
    assert fine[disc(fine.shape, (200, 250), 150)].all()
    size = {"voxel_size": (3.0, 3.0), "unit": "um"}
    assert found(path, **size)[1].facts["margin_voxels"] == pytest.approx(50 / 6, abs=0.01)


def test_a_mask_is_nowhere_finer_than_what_is_segmented(tmp_path, monkeypatch):
    monkeypatch.setattr(levels, "LEAST_SIDE", 2000)
    shape = (800, 1100)
    path = pyramid(tmp_path / "a.zarr", slide(shape, disc(shape, (400, 500), 300)))
    bits, mask = found(path, level=1)
    assert mask.facts["level"] == 0
    assert bits.shape == (400, 550)
    assert bits[disc(bits.shape, (200, 250), 150)].all()
