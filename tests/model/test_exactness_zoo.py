"""The analysis against networks of known reach: verdicts, minimal halos, and tiles that give the whole's voxels."""

from dataclasses import replace

import pytest
import torch
from zoo import ZOO, Specimen

from pipeline.geometry import Box, Reach, Tile, TileLayout
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.exactness import Findings, analyse
from pipeline.model.exactness.numbers import Real, difference, noise
from pipeline.model.unet import UNet

EXACT = [s for s in ZOO if s.exact]
FOUND: dict[str, Findings] = {}


def findings(specimen: Specimen) -> Findings:
    if specimen.name not in FOUND:
        FOUND[specimen.name] = analyse(specimen.make(), dims=specimen.dims, in_channels=specimen.in_channels)
    return FOUND[specimen.name]


def reaches(specimen: Specimen) -> tuple[Reach, ...]:
    return tuple(axis.reach() for axis in findings(specimen).analysis.reaches)


def named(specimen: Specimen) -> str:
    return specimen.name


@pytest.mark.parametrize("specimen", ZOO, ids=named)
def test_the_verdict_is_right(specimen):
    analysis = findings(specimen).analysis
    assert analysis.exact == specimen.exact, analysis.reasons
    if specimen.exact:
        assert tuple(a.stride for a in analysis.reaches) == specimen.stride
        assert specimen.halo in (None, tuple(a.halo for a in analysis.reaches))
    else:
        assert any(specimen.why in reason for reason in analysis.reasons), analysis.reasons


@pytest.mark.parametrize("specimen", EXACT, ids=named)
def test_the_halo_is_enough_and_minimal(specimen):
    """Float64: voxels beyond the halo change nothing in the core, and the halo's last voxel does."""
    for axis, reach in enumerate(reaches(specimen)):
        for side in (0, 1):
            assert not _sees(specimen, axis, side, reach.halo[side] + 1), f"more than the halo along {axis}"
            if reach.halo[side]:
                assert _sees(specimen, axis, side, reach.halo[side]), (
                    f"less than the halo along {axis}, side {side}"
                )


def _sees(specimen: Specimen, axis: int, side: int, distance: int) -> bool:
    """Whether the voxels ``distance`` from a core, or the edge of the tile there, show in the core."""
    found = reaches(specimen)
    reach = found[axis]
    if reach.stride == 1 and distance <= reach.halo[side]:
        halo = tuple(h - 1 if s == side else h for s, h in enumerate(reach.halo))
        return _cut_shows(specimen, axis, replace(reach, halo=halo))
    core = (reach.minimum - reach.shrink) % reach.stride + _up(8, reach.stride)  # as long as a legal output
    length = reach.input_length(core)
    place = reach.before - distance if side == 0 else reach.before + core + distance - 1
    if not 0 <= place < length:
        return False
    spatial = [length if a == axis else r.input_length(8) for a, r in enumerate(found)]
    changed = slice(place, place + 1) if distance <= reach.halo[side] else _beyond(place, side)
    for seed in range(24 if distance <= reach.halo[side] else 2):
        model = _positive(specimen, seed)
        x = noise(specimen.in_channels, spatial, seed=seed, batch=2)
        x[1] = x[0]
        hit = x[1].movedim(axis + 1, 0)[changed]
        hit += (1e6 if seed % 2 else 30.0) * torch.randn(hit.shape, dtype=x.dtype)
        kept = model(x).narrow(axis + 2, reach.crop, core)
        if difference(kept[1:], kept[:1]) > 1e-12:
            return True
    return False


def _beyond(place: int, side: int) -> slice:
    return slice(0, place + 1) if side == 0 else slice(place, None)


def _cut_shows(specimen: Specimen, axis: int, reach: Reach) -> bool:
    """Whether a tile cut with a reach differs from the whole."""
    spatial = [r.input_length(8) for r in reaches(specimen)]
    spatial[axis] = reach.input_length(64)
    for seed in range(24):
        model = Real(specimen.make(), specimen.dims, torch.float64, seed=seed)
        whole = noise(specimen.in_channels, spatial, seed=seed)
        tile = whole.narrow(axis + 2, 8, reach.input_length(16))
        found, wanted = model(tile), model(whole)
        kept = found.narrow(axis + 2, reach.crop, 16)
        if difference(kept, wanted.narrow(axis + 2, 8 + reach.crop, 16)) > 1e-12:
            return True
    return False


def _positive(specimen: Specimen, seed: int) -> Real:
    """A network with drawn weights; with positive ones in every other draw, so that no ReLU hides a tap."""
    model = Real(specimen.make(), specimen.dims, torch.float64, seed=seed)
    if seed // 2 % 2 == 0:
        for weight in model.parameters():
            weight.abs_()
    return model


@pytest.mark.parametrize("specimen", EXACT, ids=named)
def test_tiles_of_any_shape_give_the_voxels_of_the_whole(specimen):
    """Float32: no voxel differs."""
    model = Real(specimen.make(), specimen.dims, torch.float32)
    found = reaches(specimen)
    size = 24 if specimen.dims == 2 else 8
    box = Box((0,) * specimen.dims, tuple(size + 5 * axis for axis in range(specimen.dims)))
    lengths = [_up(n, r.stride) for n, r in zip(box.shape, found, strict=True)]
    whole = next(TileLayout(found, tuple(lengths)).tiles(box))
    layouts = [
        TileLayout(found, tuple(_up(size // part + axis, r.stride) for axis, r in enumerate(found)))
        for part in (3, 2)
    ]
    read = whole.input.grow((0,) * specimen.dims, tuple(2 * max(layouts[1].input_shape) for _ in found))
    image = noise(specimen.in_channels, read.shape, seed=1)
    wanted = _run(model, image, read, whole)
    for layout in layouts:
        for tile in layout.tiles(box):
            part = tile.core.intersect(whole.core)
            got = _run(model, image, read, tile)[:, :, *part.relative_to(tile.core.start).slices]
            assert torch.equal(got, wanted[:, :, *part.relative_to(whole.core.start).slices])


def _run(model: Real, image: torch.Tensor, read: Box, tile: Tile) -> torch.Tensor:
    output = model(image[:, :, *tile.input.relative_to(read.start).slices])
    return output[:, :, *(slice(c, c + n) for c, n in zip(tile.crop, tile.core.shape, strict=True))]


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


SETTINGS = [
    {"depth": 1},
    {"depth": 1, "padding": "same"},
    {"depth": 2, "upsampling": "pixel_shuffle", "skip": "add"},
    {"depth": 2, "upsampling": "max_unpool", "norm": "batch"},
    {"depth": 3, "upsampling": "max_unpool", "skip": "none"},
    {"depth": 3, "padding": "same", "upsampling": "bilinear", "skip": "add"},
    {"depth": 4, "padding": "same", "upsampling": "pixel_shuffle"},
    {"depth": 4, "upsampling": "bilinear", "skip": "none"},
    {"depth": 5, "padding": "same", "upsampling": "max_unpool", "skip": "add"},
    {"depth": 5, "upsampling": "pixel_shuffle"},
    {"dims": 3, "depth": 2, "padding": "same", "upsampling": "bilinear"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
def test_our_own_networks_have_the_reach_of_the_formula(settings):
    architecture = UNetArchitecture.model_validate({"width": 2, "in_channels": 2, "classes": 3, **settings})
    found = analyse(UNet(architecture).eval(), dims=architecture.dims, in_channels=2)
    assert found.analysis.exact, found.analysis.reasons
    assert tuple(axis.reach() for axis in found.analysis.reaches) == architecture.reaches()
    assert found.outputs == 3
    assert found.analysis.parameters == architecture.parameters()


def test_costs_are_those_of_the_formula():
    architecture = UNetArchitecture(depth=4, width=4, padding="same")
    costs = analyse(UNet(architecture).eval(), dims=2, in_channels=1).analysis.costs
    assert len(costs) == 3
    for cost, side in zip(costs, (64, 128, 256), strict=True):
        shape = (side, side)
        assert cost.voxels == side * side
        assert cost.operations == architecture.operations(shape)
        assert cost.peak_elements == architecture.peak_elements(shape)


def test_the_network_is_not_touched():
    specimen = next(s for s in ZOO if s.name == "BatchNorm in training")
    model = specimen.make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    analyse(model, dims=2, in_channels=1)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
