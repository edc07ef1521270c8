"""Small networks whose reach and verdict are known, by hand or by formula: what the analysis is held against."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from monai.networks import nets
from torch import Tensor, nn

from pipeline.model.architecture import UNetArchitecture
from pipeline.model.unet import UNet

Halos = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Specimen:
    """One network and what is known of it.

    Attributes:
        name: what the table calls it.
        build: makes it, with random weights, in the mode in which it runs.
        dims: spatial axes.
        in_channels: channels of its input.
        halo: halo before and after along each axis where it is exact and known; None where it is not.
        stride: stride along each axis where it is exact.
        why: a part of the reason where it is not exact.
        train: whether it runs in training mode.
    """

    name: str
    build: Callable[[], nn.Module]
    dims: int = 2
    in_channels: int = 1
    halo: Halos | None = None
    stride: tuple[int, ...] | None = None
    why: str | None = None
    train: bool = False

    @property
    def exact(self) -> bool:
        """Whether tiles can equal the whole."""
        return self.why is None

    def make(self) -> nn.Module:
        """Make the network; the same one every time."""
        torch.manual_seed(0)
        model = self.build().train(self.train)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.2)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
        return model.requires_grad_(False)


class Lambda(nn.Module):
    """A function as a module, with modules that it uses."""

    def __init__(self, function: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class SqueezeExcite(nn.Module):
    """Channels weighted by what the whole input holds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Sequential(nn.Conv2d(channels, 2, 1), nn.ReLU(), nn.Conv2d(2, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.pool(x))


class SelfAttention(nn.Module):
    """Every voxel compared with every other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part(x).flatten(2).transpose(1, 2) for part in (self.query, self.key, self.value))
        weights = (query @ key.transpose(1, 2) / math.sqrt(x.shape[1])).softmax(-1)
        return x + (weights @ value).transpose(1, 2).reshape(x.shape)


class WindowAttention(nn.Module):
    """Voxels compared within windows of four by four."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        windows = x.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        mixed = self.attention(windows, windows, windows, need_weights=False)[0]
        return x + mixed.reshape(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(x.shape)


class ChannelNorm(nn.Module):
    """LayerNorm over channels alone, as in ConvNeXt."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Resized(nn.Module):
    """Down by a strided convolution, up by interpolation."""

    def __init__(self, mode: str, *, corners: bool | None = None, stride: int = 2) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 4, stride, stride)
        self.head = nn.Conv2d(4, 2, 1)
        self.arguments = {"scale_factor": stride, "mode": mode, "align_corners": corners}

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.interpolate(self.down(x).relu(), **self.arguments))


class Causal(nn.Module):
    """Sees what lies before a voxel alone: two convolutions with padding in front."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(F.pad(self.one(F.pad(x, (2, 0, 2, 0))).relu(), (2, 0, 2, 0)))


class Damaged(nn.Module):
    """Sees one to three voxels back, and yet its padding damages the last voxel: more than is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (2, -2, 2, -2)))


class Coordinates(nn.Module):
    """Is told where each voxel lies."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y, x_ = (torch.linspace(-1, 1, n, dtype=x.dtype, device=x.device) for n in x.shape[2:])
        places = torch.stack(torch.meshgrid(y, x_, indexing="ij"))[None].expand(len(x), -1, -1, -1)
        return self.conv(torch.cat([x, places], 1))


class Filled(nn.Module):
    """Writes into parts of a tensor that it made: a shift by two, and a ReLU in place on a slice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        moved = torch.zeros_like(x)
        moved[:, :, 2:, 1:] = x[:, :, :-2, :-1]
        found = self.conv(moved)
        found[:, :1].relu_()
        found += 1
        return found


def unet(**settings: object) -> UNet:
    """Our own network, light."""
    return UNet(UNetArchitecture.model_validate({"width": 2, **settings}))


def _own(name: str, **settings: object) -> Specimen:
    reach = UNetArchitecture.model_validate({"width": 2, **settings}).reach()
    dims = int(str(settings.get("dims", 2)))
    return Specimen(
        name, lambda: unet(**settings), dims=dims, halo=(reach.halo,) * dims, stride=(reach.stride,) * dims
    )


def _local(
    name: str, build: Callable[[], nn.Module], halo: tuple[int, int] = (1, 1), stride: int = 1, channels: int = 1
) -> Specimen:
    return Specimen(name, build, in_channels=channels, halo=(halo,) * 2, stride=(stride,) * 2)


def _with(layer: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Put a layer between two convolutions."""
    return lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), layer(), nn.Conv2d(4, 2, 1))


def _conv(**settings: object) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, **settings))  # type: ignore[arg-type]


def _anisotropic() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 3, (1, 3, 3), padding=(0, 1, 1)),
        nn.ReLU(),
        nn.MaxPool3d((1, 2, 2)),
        nn.Conv3d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.ConvTranspose3d(4, 2, (1, 2, 2), (1, 2, 2)),
    )


def _strided() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.ReLU(),
        nn.Upsample(scale_factor=4), nn.Conv2d(4, 2, 3, padding=1),
    )  # fmt: skip


def _unpooled(net: nn.Module, x: Tensor) -> Tensor:
    pooled, where = F.max_pool2d(net.first(x), 2, return_indices=True)
    return net.second(F.max_unpool2d(pooled, where, 2))


def _group_norm_basic(norm: object) -> nn.Module:
    return nets.BasicUNet(2, 1, 2, features=(2, 2, 4, 4, 4, 2), norm=norm)


def _dynunet(norm: str) -> nn.Module:
    return nets.DynUNet(
        2,
        1,
        2,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        filters=[4, 4, 8],
        norm_name=norm,
    )


def _monai_unet(dims: int, norm: str = "batch") -> nn.Module:
    return nets.UNet(dims, 1, 2, channels=(2, 4, 4), strides=(2, 2), num_res_units=1, norm=norm)


UNETS = [
    *(_own(f"valid U-Net, depth {d}", depth=d) for d in (2, 3, 4, 5)),
    *(_own(f"same U-Net, depth {d}", depth=d, padding="same") for d in (2, 3, 4, 5)),
    _own("same U-Net, BatchNorm, bilinear", depth=3, padding="same", norm="batch", upsampling="bilinear"),
    _own("valid U-Net, bilinear", depth=3, upsampling="bilinear"),
    _own("same U-Net, pixel shuffle", depth=3, padding="same", upsampling="pixel_shuffle", skip="add"),
    _own("same U-Net, max-unpool", depth=3, padding="same", upsampling="max_unpool", skip="none"),
    _own("valid 3-D U-Net", dims=3, depth=2),
]
LOCAL = [
    _local("pointwise", lambda: nn.Conv2d(1, 2, 1), (0, 0)),
    _local(
        "dilated 1, 2, 4",
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(3, 3, 3, padding=2, dilation=2),
            nn.ReLU(),
            nn.Conv2d(3, 2, 3, padding=4, dilation=4),
        ),
        (7, 7),
    ),
    _local("strided encoder, nearest", _strided, (7, 4), 4),
    _local("one-sided (causal)", Causal, (4, 0)),
    _local(
        "one-sided by a crop",
        lambda: Lambda(lambda net, x: net.c(F.pad(x, (3, 1, 3, 1))), c=_conv(kernel_size=5)),
        (3, 1),
    ),
    _local("padding wider than the reach", Damaged, (3, 1)),
    _local(
        "average pooling",
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1),
            nn.AvgPool2d(2),
            nn.Conv2d(3, 3, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(3, 2, 2, 2),
        ),
        (3, 3),
        2,
    ),
    _local(
        "overlapping pooling and up-convolution",
        lambda: nn.Sequential(
            nn.MaxPool2d(3, 2, 1), nn.Conv2d(1, 3, 1), nn.ConvTranspose2d(3, 2, 3, 2, 1, output_padding=1)
        ),
        (1, 2),
        2,
    ),
    _local("bilinear", lambda: Resized("bilinear", corners=False), (2, 2), 2),
    _local("bicubic", lambda: Resized("bicubic", corners=False), (4, 4), 2),
    _local("nearest by three", lambda: Resized("nearest", stride=3), (0, 0), 3),
    _local("nearest-exact", lambda: Resized("nearest-exact"), (0, 0), 2),
    _local("reflect padding", lambda: _conv(kernel_size=5, padding=2, padding_mode="reflect"), (2, 2)),
    _local("replicate padding", lambda: _conv(kernel_size=3, padding=1, padding_mode="replicate")),
    _local("circular padding", lambda: _conv(kernel_size=3, padding=1, padding_mode="circular")),
    _local(
        "depthwise and grouped",
        lambda: nn.Sequential(
            nn.Conv2d(4, 4, 5, padding=2, groups=4), nn.GELU(), nn.Conv2d(4, 2, 3, padding=1, groups=2)
        ),
        (3, 3),
        channels=4,
    ),
    _local("LayerNorm over channels", _with(lambda: ChannelNorm(4))),
    _local("BatchNorm in eval", _with(lambda: nn.BatchNorm2d(4))),
    _local("window attention", _with(lambda: WindowAttention(4)), (1, 1), 4),
    _local(
        "argmax output",
        lambda: Lambda(lambda net, x: net.c(x).argmax(1, keepdim=True), c=_conv(kernel_size=3, padding=1)),
    ),
    _local(
        "thresholds",
        lambda: Lambda(
            lambda net, x: torch.where(net.c(x) > 0, net.c(x), -1.0).nan_to_num(),
            c=_conv(kernel_size=3, padding=1),
        ),
    ),
    Specimen("writes into slices", Filled, halo=((3, 1), (2, 1)), stride=(1, 1)),
    _local(
        "max_unpool2d with positions",
        lambda: Lambda(_unpooled, first=nn.Conv2d(1, 3, 3, padding=1), second=nn.Conv2d(3, 2, 3, padding=1)),
        (3, 3),
        2,
    ),
    _local("dropout in eval", _with(lambda: nn.Dropout(0.5))),
    Specimen("anisotropic 3-D", _anisotropic, dims=3, halo=((1, 1), (3, 3), (3, 3)), stride=(1, 2, 2)),
]
GLOBAL = [
    Specimen("BatchNorm in training", _with(lambda: nn.BatchNorm2d(4)), why="BatchNorm2d at 1", train=True),
    Specimen("InstanceNorm", _with(lambda: nn.InstanceNorm2d(4)), why="InstanceNorm2d at 1"),
    Specimen("GroupNorm", _with(lambda: nn.GroupNorm(2, 4)), why="GroupNorm at 1"),
    Specimen("squeeze and excite", _with(lambda: SqueezeExcite(4)), why="AdaptiveAvgPool2d at 1.pool"),
    Specimen("self-attention", _with(lambda: SelfAttention(4)), why="SelfAttention at 1"),
    Specimen(
        "global maximum",
        lambda: Lambda(lambda net, x: net.c(x) / (1 + x.abs().amax((2, 3), keepdim=True)), c=_conv(kernel_size=1)),
        why="amax",
    ),
    Specimen("bilinear, align_corners", lambda: Resized("bilinear", corners=True), why="align_corners"),
    Specimen("dropout left on", _with(lambda: nn.Dropout(0.5)), why="Dropout at 1", train=True),
    Specimen("noise in every call", lambda: Lambda(lambda net, x: x + torch.rand_like(x)), why="random"),
    Specimen("coordinate channels", Coordinates, why="where a voxel lies"),
    Specimen(
        "a grid of fixed size",
        lambda: Lambda(lambda net, x: x + F.interpolate(F.adaptive_avg_pool2d(x, 4), x.shape[2:])),
        why="adaptive_avg_pool2d",
    ),
    Specimen("cumulative sum", lambda: Lambda(lambda net, x: x + 0.01 * x.cumsum(2)), why="cumsum"),
    Specimen(
        "Fourier transform", lambda: Lambda(lambda net, x: torch.fft.rfft2(x).abs().mean() * x), why="_fft_r2c"
    ),
    Specimen(
        "normalised by its values", lambda: Lambda(lambda net, x: x / 2 if x.max() > 1 else x), why="decides by"
    ),
]
MONAI = [
    Specimen("MONAI UNet, batch", lambda: _monai_unet(2), stride=(4, 4)),
    Specimen("MONAI UNet 3-D, batch", lambda: _monai_unet(3), dims=3, stride=(4, 4, 4)),
    Specimen("MONAI BasicUNet, batch", lambda: _group_norm_basic("batch"), stride=(16, 16)),
    Specimen("MONAI BasicUNet, instance", lambda: _group_norm_basic("instance"), why="InstanceNorm2d at"),
    Specimen("MONAI DynUNet, batch", lambda: _dynunet("batch"), stride=(4, 4)),
    Specimen("MONAI DynUNet, instance", lambda: _dynunet("instance"), why="InstanceNorm2d at"),
    Specimen(
        "MONAI AttentionUnet",
        lambda: nets.AttentionUnet(2, 1, 2, channels=(2, 4, 4), strides=(2, 2)),
        why="InstanceNorm2d at",
    ),
    Specimen(
        "MONAI SegResNet, group",
        lambda: nets.SegResNet(
            2, init_filters=8, in_channels=1, out_channels=2, blocks_down=(1, 1), blocks_up=(1,)
        ),
        why="GroupNorm at",
    ),
    Specimen(
        "MONAI SegResNet, batch",
        lambda: nets.SegResNet(
            2, init_filters=4, in_channels=1, out_channels=2, blocks_down=(1, 1), blocks_up=(1,), norm="batch"
        ),
        stride=(2, 2),
    ),
]
ZOO = [*UNETS, *LOCAL, *GLOBAL, *MONAI]
