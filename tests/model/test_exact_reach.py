"""The promise that tiling rests on: halo and stride by formula are those of the module, exact and minimal.

Float64, along one axis (the other axes are as small as they may be). Where an influence must show, all weights are
positive, so that no ReLU hides it, and the disturbance is large, so that every maximum lets it through.
"""

from itertools import product

import pytest
import torch

from pipeline.model.architecture import UNetArchitecture
from pipeline.model.unet import UNet

SEEDS = (0, 1, 2)


def variants(dims: int, depths: tuple[int, ...]) -> list[UNetArchitecture]:
    """Every kind of network of these depths, each once."""
    ups = ("transposed", "bilinear", "pixel_shuffle", "max_unpool")
    choices = product(depths, ("valid", "same"), ("concat", "add", "none"), ups, ("none", "batch"))
    names = ("depth", "padding", "skip", "upsampling", "norm")
    settings = (dict(zip(names, choice, strict=True)) for choice in choices)
    built = [UNetArchitecture.model_validate({"dims": dims, "width": 2, **chosen}) for chosen in settings]
    return list({architecture.layers(): architecture for architecture in built}.values())


def name(architecture: UNetArchitecture) -> str:
    chosen = architecture.model_dump(include={"dims", "depth", "padding", "skip", "upsampling", "norm"})
    return "-".join(map(str, chosen.values()))


DEEP = [
    UNetArchitecture(depth=5, width=2, padding="valid"),
    UNetArchitecture(depth=5, width=2, padding="same", norm="batch"),
    UNetArchitecture(depth=5, width=2, padding="same", upsampling="bilinear"),
]
NETWORKS = [*variants(2, (1, 2, 3, 4)), *DEEP, *variants(3, (2,))]


def network(architecture: UNetArchitecture, seed: int, *, positive: bool) -> UNet:
    """A network with drawn weights, biases and statistics."""
    torch.manual_seed(seed)
    model = UNet(architecture).double().eval().requires_grad_(False)
    for key, tensor in model.state_dict().items():
        if key.endswith(("bias", "running_mean")):
            tensor.normal_(std=0.1)
        elif "norm" in key and tensor.is_floating_point():
            tensor.uniform_(0.5, 2)
        if positive and tensor.is_floating_point():
            tensor.abs_()
        if positive and key.endswith("running_mean"):
            tensor.neg_()
    return model


def images(architecture: UNetArchitecture, n: int, length: int) -> torch.Tensor:
    """``n`` equal images of ``length`` voxels along the first spatial axis."""
    others = [architecture.reach().minimum] * (architecture.dims - 1)
    return torch.randn(1, 1, length, *others, dtype=torch.float64).expand(n, -1, -1, *others).clone()


def legal(architecture: UNetArchitecture, length: int) -> int:
    """Smallest legal length that is not below ``length``."""
    reach = architecture.reach()
    steps = max(0, -(-(length - reach.minimum) // reach.stride))
    return reach.minimum + steps * reach.stride


@pytest.mark.parametrize("architecture", NETWORKS, ids=name)
def test_the_halo_is_enough_and_minimal(architecture: UNetArchitecture) -> None:
    """A disturbance at the halo's last voxel reaches the core; everything beyond it does not."""
    reach = architecture.reach()
    before, after = reach.halo
    size = reach.minimum - reach.shrink
    first = -(-max(before - reach.offset + 1, 1) // reach.stride) * reach.stride
    start = reach.offset + first
    stop = start + size
    reached = torch.zeros(2, dtype=torch.bool)
    for seed in SEEDS:
        model = network(architecture, seed, positive=True)
        image = images(architecture, 5, legal(architecture, stop + after + 1))
        image[1, :, : start - before] += 1e6
        image[2, :, stop + after :] += 1e6
        image[3, :, start - before] += 1e6
        image[4, :, stop + after - 1] += 1e6
        core = model(image)[:, :, first : first + size]
        torch.testing.assert_close(core[1:3], core[:1].expand_as(core[1:3]), rtol=1e-12, atol=0)
        reached |= torch.stack([~torch.isclose(core[i], core[0], rtol=1e-9, atol=0).all() for i in (3, 4)])
    assert reached.all()


@pytest.mark.parametrize("architecture", NETWORKS, ids=name)
def test_a_tile_gives_the_voxels_of_the_whole(architecture: UNetArchitecture) -> None:
    reach = architecture.reach()
    core = 2 * reach.stride
    first = reach.crop + reach.stride
    for seed in SEEDS[:2]:
        model = network(architecture, seed, positive=False)
        whole = images(architecture, 1, legal(architecture, 2 * reach.input_length(core) + 2 * reach.stride))
        start = first + reach.offset - reach.before
        tile = whole[:, :, start : start + reach.input_length(core)]
        found = model(tile)[:, :, reach.crop : reach.crop + core]
        torch.testing.assert_close(found, model(whole)[:, :, first : first + core], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("architecture", [a for a in NETWORKS if a.depth > 1], ids=name)
def test_shifts_by_the_stride_alone_shift_the_output(architecture: UNetArchitecture) -> None:
    """Moving the input by the stride moves the output; moving it by half the stride gives other voxels."""
    reach = architecture.reach()
    stride = reach.stride
    lost = -(-(reach.halo[0] - reach.offset) // stride) * stride + stride
    model = network(architecture, 3, positive=True)
    length = legal(architecture, 2 * lost + reach.shrink + 3 * stride)
    whole = images(architecture, 1, length + stride)
    cuts = torch.cat([whole[:, :, shift : shift + length] for shift in (0, stride // 2, stride)])
    logits = model(cuts)
    stop = logits.shape[2] - lost
    still, half, moved = logits[0, :, lost + stride : stop], logits[1], logits[2, :, lost : stop - stride]
    torch.testing.assert_close(moved, still, rtol=1e-11, atol=0)
    half = half[:, lost + stride // 2 : stop - stride // 2]
    assert not torch.allclose(half, still, rtol=1e-6, atol=0)
