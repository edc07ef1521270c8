import numpy as np
import pytest
import torch
from volumes import save

from pipeline.config.training import Split
from pipeline.geometry import Box
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.arithmetic import fix_arithmetic
from pipeline.model.unet import UNet
from pipeline.training.census import take_census
from pipeline.training.pairs import OpenPair, open_pairs
from pipeline.training.patches import PatchLayout
from pipeline.training.regions import RegionTiles, tile_layout
from pipeline.training.splits import split_pairs
from pipeline.training.targets import IGNORE, ClassIds, TargetRule

RULE = TargetRule(ClassIds(3))


def voxels(*shape):
    return np.random.default_rng(0).integers(0, 3, shape).astype("u1")


def gathered(tiles, shape, found):
    """Put what is known of each tile where it is in the volume; every voxel once."""
    whole, times = np.full((len(found[0]), *shape), np.nan), np.zeros(shape, int)
    for number, values in enumerate(found):
        start = tiles.where(number)[1].start
        lead = len(shape) - len(tiles.layout.patch)
        known = (tiles[number].target != IGNORE).reshape((1,) * lead + tiles.layout.patch)
        for offset in np.argwhere(known):
            place = tuple(np.add(start, offset))
            whole[:, *place] = values[:, *offset[lead:]]
            times[place] += 1
    return whole, times


@pytest.mark.parametrize("by", ["block", "slice"])
def test_every_voxel_that_is_measured_is_known_in_exactly_one_tile(make_pair, by):
    stack = voxels(8, 40, 50)
    pair = make_pair(stack, stack, "zyx", "zyx", boxes=("0:8,3:33,7:46",))
    network = UNetArchitecture(classes=3, depth=2, width=4, padding="same")
    counted = take_census(open_pairs([pair]), RULE, (8, 8))
    fold = split_pairs(counted, Split(by=by), network, (8, 8), RULE, seed=0)[0]
    pairs = [each.pair for each in fold.measured]
    tiles = RegionTiles(pairs, PatchLayout.exact(network, (8, 8)), RULE)
    whole, times = gathered(tiles, stack.shape, [tiles[i].target[np.newaxis] for i in range(len(tiles))])
    known = pairs[0].known.bits(Box.of_shape(stack.shape))
    np.testing.assert_array_equal(times, known)
    np.testing.assert_array_equal(whole[0][known], stack[known])


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_logits_are_those_of_the_whole_volume(make_pair, padding, dims):
    shape = (70, 58) if dims == 2 else (14, 20, 18)
    network = UNetArchitecture(dims=dims, classes=3, depth=2, width=4, padding=padding)
    pair = open_pairs([make_pair(voxels(*shape), axes="zyx"[-dims:], target_axes="zyx"[-dims:])])[0]
    box = Box((0,) * dims, tuple(n - 3 for n in shape))
    held = OpenPair(pair.name, pair.image, pair.target, 1, pair.known.only([box]))
    torch.manual_seed(0)
    model = fix_arithmetic(UNet(network).double().eval())

    def logits(shown):
        with torch.no_grad():
            return model(torch.from_numpy(shown.astype("f8"))[None])[0].numpy()

    tile = (16, 16) if dims == 2 else (4, 8, 8)
    tiles = RegionTiles([held], PatchLayout.exact(network, tile), RULE)
    found = [logits(tiles[i].image)[:, *tiles.layout.kept] for i in range(len(tiles))]
    stitched, times = gathered(tiles, shape, found)
    reach = network.reach()
    even = tuple(-(-n // reach.stride) * reach.stride for n in shape)
    around = Box(tuple(-reach.before for _ in shape), tuple(n + reach.after(n) for n in even))
    whole = logits(pair.image.shown(around))[:, *(slice(reach.crop, reach.crop + n) for n in shape)]
    assert (times[box.slices] == 1).all()
    assert times.sum() == box.size
    np.testing.assert_allclose(stitched[:, *box.slices], whole[:, *box.slices], rtol=1e-12, atol=1e-12)


def test_tiles_without_a_known_voxel_are_left_out(make_pair, tmp_path):
    mask = np.zeros((8, 8), "u1")
    mask[1, 6] = 1
    save(tmp_path / "mask.zarr", mask, "yx")
    pair = open_pairs([make_pair(voxels(64, 64), axes="yx", within=str(tmp_path / "mask.zarr"))])[0]
    network = UNetArchitecture(classes=3, depth=2, width=4, padding="same")
    tiles = RegionTiles([pair], PatchLayout.exact(network, (16, 16)), RULE)
    assert len(tiles) == 1
    assert (tiles[0].target != IGNORE).sum() == 64


def test_tiles_are_no_longer_than_what_is_held_out(make_pair):
    network = UNetArchitecture(classes=3, depth=3, width=4, padding="same")
    pair = open_pairs([make_pair(voxels(64, 64), axes="yx", boxes=("0:13,0:30", "20:40,3:5"))])[0]
    layout = tile_layout(network, [pair])
    assert layout.patch == (20, 32)
    assert layout == PatchLayout.exact(network, (20, 32))
