"""The arithmetic of any module on a CPU: a voxel's bits hang on what it sees, and on nothing around it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from zoo import ChannelNorm, Lambda, WindowAttention

from pipeline.model.arithmetic import fix_arithmetic
from pipeline.model.arithmetic.elementwise import SHARE, VECTOR, whole_shares
from pipeline.model.arithmetic.geometry import interleave
from pipeline.model.arithmetic.mode import CURVES
from pipeline.model.arithmetic.prepared import PreparedWeights

TOLERANCE = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 2e-2}
"""Largest difference from torch in float64, relative to the largest value: some tens of roundings."""
CHANNELS = 8
SMALL = {1: (101,), 2: (19, 23), 3: (9, 13, 11)}
LARGE = {1: (2603,), 2: (53, 61), 3: (13, 15, 17)}
WIDE = {2: (21, 23), 3: (7, 9, 11)}
"""Spatial shapes of wholes: with 8 channels below 20480 values, where torch has other kernels, and above; and for
many channels."""


@dataclass(frozen=True)
class Operation:
    """A local operation.

    Attributes:
        name: what the table calls it.
        build: makes the module.
        dims: spatial axes.
        channels: channels of the input.
        margin: output voxels at each end that see the input's end.
        step: input voxels by which the input may be shifted.
        scale: output voxels for an input voxel.
        values: smallest and largest value of the input; normal noise where None.
        dtypes: those in which torch computes it.
    """

    name: str
    build: Callable[[], nn.Module]
    dims: int = 2
    channels: int = CHANNELS
    margin: int = 0
    step: int = 1
    scale: Fraction = Fraction(1)
    values: tuple[float, float] | None = None
    dtypes: tuple[torch.dtype, ...] = tuple(TOLERANCE)

    def make(self, dtype: torch.dtype) -> nn.Module:
        torch.manual_seed(0)
        model = self.build().eval().requires_grad_(False)
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 1.5)
        return model.to(dtype)

    def sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return SMALL[self.dims], (LARGE if self.channels < 50 else WIDE)[self.dims]

    def images(self, spatial: Sequence[int], dtype: torch.dtype) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        shape = (3, self.channels, *(n // self.step * self.step if self.step == 4 else n for n in spatial))
        if self.values is None:
            return torch.randn(shape, generator=generator).to(dtype)
        low, high = self.values
        return torch.rand(shape, generator=generator).mul(high - low).add(low).to(dtype)


def conv(inputs: int, outputs: int, kernel: int, dims: int = 2, **settings: Any) -> Callable[[], nn.Module]:
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    padding = settings.get("dilation", 1) * (kernel // 2)
    return lambda: layer(inputs, outputs, kernel, padding=padding, **settings)


def up(inputs: int, outputs: int, kernel: int, dims: int = 2, **settings: Any) -> Callable[[], nn.Module]:
    layer = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[dims - 1]
    return lambda: layer(inputs, outputs, kernel, **settings)


def function(of: Callable[[Tensor], Tensor]) -> Callable[[], nn.Module]:
    return lambda: Lambda(lambda net, x: of(x))


class Products(nn.Module):
    """A matrix that mixes channels, multiplied in one of the ways that there are."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.weight = nn.Parameter(torch.randn(6, CHANNELS))
        self.bias = nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        rows, shape = x.movedim(1, -1).reshape(-1, CHANNELS), (len(x), *x.shape[2:], 6)
        match self.way:
            case "einsum":
                return torch.einsum("oc,nc...->no...", self.weight, x)
            case "matmul":
                return (x.movedim(1, -1) @ self.weight.t()).movedim(-1, 1)
            case "mm, voxels last":
                return (self.weight @ rows.t()).t().reshape(shape).movedim(-1, 1)
            case "mv":
                return torch.mv(rows, self.weight[0]).reshape(len(x), 1, *x.shape[2:])
            case "addmm":
                return (
                    torch.addmm(self.bias, rows, self.weight.t(), beta=2, alpha=0.5).reshape(shape).movedim(-1, 1)
                )
            case "addmm, beta 0":
                return torch.addmm(self.bias, rows, self.weight.t(), beta=0).reshape(shape).movedim(-1, 1)
            case "baddbmm":
                matrices = self.weight.expand(len(x), 6, CHANNELS)
                return torch.baddbmm(self.bias[None, :, None], matrices, x.flatten(2)).reshape(
                    len(x), 6, *x.shape[2:]
                )
            case "bmm":
                return torch.bmm(self.weight.expand(len(x), 6, CHANNELS), x.flatten(2)).reshape(
                    len(x), 6, *x.shape[2:]
                )
        return F.linear(rows, self.weight, self.bias).reshape(shape).movedim(-1, 1)


def half(n: int) -> Fraction:
    return Fraction(1, n)


CONVOLUTIONS = [
    Operation("1x1", conv(8, 5, 1)),
    Operation("1x1 of 1 channel", conv(1, 5, 1), channels=1),
    Operation("1x1 of 200 channels", conv(200, 3, 1), channels=200),
    Operation("1x1, stride 2", conv(8, 5, 1, stride=2), step=2, scale=half(2)),
    Operation("1x1x1", conv(8, 5, 1, 3), dims=3),
    Operation("3", conv(8, 5, 3, 1), dims=1, margin=1),
    Operation("3x3", conv(8, 5, 3), margin=1),
    Operation("3x3 of 1 channel", conv(1, 5, 3), channels=1, margin=1),
    Operation("3x3 of 300 channels", conv(300, 3, 3), channels=300, margin=1),
    Operation("3x3x3", conv(8, 5, 3, 3), dims=3, margin=1),
    Operation("3x3x3 of 80 channels", conv(80, 3, 3, 3), dims=3, channels=80, margin=1),
    Operation("3x3, stride 2", conv(8, 5, 3, stride=2), margin=1, step=2, scale=half(2)),
    Operation("3x3x3, stride 2", conv(8, 5, 3, 3, stride=2), dims=3, margin=1, step=2, scale=half(2)),
    Operation("3x3, stride 3", conv(8, 5, 3, stride=3), margin=1, step=3, scale=half(3)),
    Operation("3x3, dilation 2", conv(8, 5, 3, dilation=2), margin=2),
    Operation("3x3x3, dilation 2", conv(8, 5, 3, 3, dilation=2), dims=3, margin=2),
    Operation("5x5", conv(8, 5, 5), margin=2),
    Operation("no bias", lambda: nn.Conv2d(8, 5, 3, padding=1, bias=False), margin=1),
    Operation("padding same", lambda: nn.Conv2d(8, 5, 5, padding="same"), margin=2),
    Operation("padding reflect", lambda: nn.Conv2d(8, 5, 3, padding=1, padding_mode="reflect"), margin=1),
    Operation("2 groups", conv(8, 6, 3, groups=2), margin=1),
    Operation("2 groups of 40", conv(80, 6, 3, groups=2), channels=80, margin=1),
    Operation("2 groups, 3-D", conv(8, 6, 3, 3, groups=2), dims=3, margin=1),
    Operation("depthwise", conv(8, 8, 3, groups=8), margin=1),
    Operation("depthwise 3-D", conv(8, 8, 3, 3, groups=8), dims=3, margin=1),
    Operation("depthwise, two outputs a channel", conv(8, 16, 3, groups=8), margin=1),
    Operation("up 2", up(8, 5, 2, stride=2), scale=Fraction(2)),
    Operation("up 2, 1-D", up(8, 5, 2, 1, stride=2), dims=1, scale=Fraction(2)),
    Operation("up 2, 3-D", up(8, 5, 2, 3, stride=2), dims=3, scale=Fraction(2)),
    Operation("up 2 by 3", up(8, 5, 3, stride=2, padding=1, output_padding=1), margin=2, scale=Fraction(2)),
    Operation(
        "up 2 by 3, 3-D",
        up(8, 5, 3, 3, stride=2, padding=1, output_padding=1),
        dims=3,
        margin=2,
        scale=Fraction(2),
    ),
    Operation("up 2 by 4", up(8, 5, 4, stride=2, padding=1), margin=2, scale=Fraction(2)),
    Operation("up, stride 1", up(8, 5, 3, padding=1), margin=1),
    Operation("up, dilation 2", up(8, 5, 3, padding=2, dilation=2), margin=2),
    Operation("up, 2 groups", up(8, 6, 2, stride=2, groups=2), scale=Fraction(2)),
]
WAYS = ("linear", "einsum", "matmul", "mm, voxels last", "mv", "addmm", "addmm, beta 0", "baddbmm", "bmm")
MATRICES = [
    *(Operation(way, lambda way=way: Products(way)) for way in WAYS),  # type: ignore[misc]
    Operation("linear 3-D", lambda: Products("linear"), dims=3),
    Operation("window attention", lambda: WindowAttention(8), step=4),
]
LAYERS = [
    Operation("BatchNorm", lambda: nn.BatchNorm2d(8)),
    Operation("BatchNorm 3-D", lambda: nn.BatchNorm3d(8), dims=3),
    Operation("LayerNorm over channels", lambda: ChannelNorm(8)),
    Operation("average pooling", lambda: nn.AvgPool2d(2), step=2, scale=half(2)),
    Operation("average pooling 3-D", lambda: nn.AvgPool3d(2), dims=3, step=2, scale=half(2),
              dtypes=(torch.float32, torch.float64)),
    Operation("max pooling", lambda: nn.MaxPool2d(3, 2, 1), margin=1, step=2, scale=half(2)),
    Operation("max pooling 3-D", lambda: nn.MaxPool3d(2), dims=3, step=2, scale=half(2)),
    Operation("nearest", lambda: nn.Upsample(scale_factor=2), scale=Fraction(2)),
    Operation("nearest 3-D", lambda: nn.Upsample(scale_factor=2), dims=3, scale=Fraction(2)),
    *(
        Operation(f"{mode} {n}", lambda mode=mode, n=n: nn.Upsample(scale_factor=n, mode=mode),  # type: ignore[misc]
                  dims=dims, channels=channels, margin=reach * n, scale=Fraction(n))
        for mode, dims, channels, reach in (
            ("linear", 1, 8, 1), ("bilinear", 2, 8, 1), ("trilinear", 3, 8, 1), ("bicubic", 2, 8, 2),
            ("bilinear", 2, 3, 1),
        )
        for n in (2, 3)
    ),
    Operation("softmax", lambda: nn.Softmax(1)),
    Operation("log-softmax 3-D", lambda: nn.LogSoftmax(1), dims=3),
    Operation("GLU", lambda: nn.GLU(1)),
]  # fmt: skip
SUMS = [
    Operation(name, function(of))
    for name, of in {
        "sum": lambda x: x.sum(1, keepdim=True),
        "mean": lambda x: x.mean(1)[:, None],
        "variance": lambda x: x.var(1, keepdim=True),
        "standard deviation": lambda x: x.std(1, keepdim=True, correction=0),
        "variance and mean": lambda x: torch.cat(torch.var_mean(x, 1, keepdim=True), 1),
        "logsumexp": lambda x: x.logsumexp(1, keepdim=True),
        "norm of squares": lambda x: (x * x).sum(1, keepdim=True).rsqrt() * x,
        "add, alpha": lambda x: torch.add(x, x.roll(1, 1), alpha=0.3),
        "atan2": lambda x: torch.atan2(x, x.roll(1, 1)),
        "pow of two": lambda x: x.abs().add(0.1) ** x.roll(1, 1).clamp(-2, 2),
        "pow of a number": lambda x: x.abs().add(0.1) ** 1.7,
        "sigmoid in place": lambda x: (x + 1).sigmoid_(),
        "exp in place of a slice": lambda x: _written(x),
        "pow in place": lambda x: x.abs().add_(0.1).pow_(1.7),
        "add in place, alpha": lambda x: x.clone().add_(x.roll(1, 1), alpha=0.3),
        "activations": lambda x: F.selu(F.celu(F.leaky_relu(F.relu(x) - 0.5), 0.7)),
        "activations in place": lambda x: F.selu_(F.celu_(x - 0.5, 0.7)),
    }.items()
]
DOMAINS = {
    **dict.fromkeys(("acos", "asin", "atanh", "tan"), (-0.9, 0.9)),
    **dict.fromkeys(("log", "log10", "log1p", "log2", "rsqrt"), (0.1, 3.0)),
    "acosh": (1.1, 3.0),
}
CURVED = [
    Operation(name, function(getattr(torch.ops.aten, name)), values=DOMAINS.get(name, (-3.0, 3.0)))
    for name in CURVES
]
TABLE = [*CONVOLUTIONS, *MATRICES, *LAYERS, *SUMS, *CURVED]


def _written(x: Tensor) -> Tensor:
    found = x * 1
    found[:, ::2].exp_()
    return found


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def named(operation: Operation) -> str:
    return f"{operation.name}, {operation.dims}-D of {operation.channels}"


def run(model: nn.Module, x: Tensor, layout: torch.memory_format, number: int) -> Tensor:
    torch.set_num_threads(number)
    with torch.inference_mode():
        return model(x.contiguous(memory_format=layout)).clone()  # type: ignore[no-any-return]


def layouts(dims: int) -> list[torch.memory_format]:
    last = {2: torch.channels_last, 3: torch.channels_last_3d}.get(dims)
    return [torch.contiguous_format, *([last] if last else [])]


def crop(operation: Operation, spatial: Sequence[int]) -> tuple[list[slice], list[slice], list[slice]]:
    """Return a crop of the input, its interior among the outputs of the whole, and among those of the crop."""
    first = -(-2 // operation.step) * operation.step
    lengths = [(n - first - 1) // operation.step * operation.step for n in spatial]
    offset, margin = int(first * operation.scale), operation.margin
    outputs = [int(n * operation.scale) for n in lengths]
    return (
        [slice(first, first + n) for n in lengths],
        [slice(offset + margin, offset + n - margin) for n in outputs],
        [slice(margin, n - margin) for n in outputs],
    )


@pytest.mark.parametrize(
    ("operation", "dtype"), [pytest.param(o, d, id=f"{named(o)}, {d}") for o in TABLE for d in o.dtypes]
)
def test_bits_hang_on_neither_size_nor_place_nor_batch_nor_threads(
    operation: Operation, dtype: torch.dtype
) -> None:
    model = operation.make(dtype)
    fixed, exact = fix_arithmetic(model), operation.make(dtype).double()
    for sizes, layout in itertools.product(operation.sizes(), layouts(operation.dims)):
        images = operation.images(sizes, dtype)
        case = f"{tuple(images.shape)} {layout}"
        whole = run(fixed, images, layout, 1)
        part, there, here = crop(operation, images.shape[2:])
        interior = whole[:, :, *there]
        assert interior.numel() > 0
        assert torch.equal(run(fixed, images, layout, 2), whole), f"threads: {case}"
        assert torch.equal(run(fixed, images[1:2], layout, 2), whole[1:2]), f"batch: {case}"
        alone = run(fixed, images[2:, :, *part], layout, 1)[:, :, *here]
        assert torch.equal(alone, interior[2:]), f"crop: {case}"
        assert torch.equal(run(fixed, images[:, :, *part], layout, 2)[:, :, *here], interior), f"crops: {case}"
        wanted = run(exact, images.double(), torch.contiguous_format, 2)
        assert whole.dtype == dtype
        assert whole.shape == wanted.shape
        error = float((whole.double() - wanted).abs().max() / wanted.abs().max())
        assert error <= TOLERANCE[dtype], f"{error:.2g} from torch: {case}"


def test_padding_same_of_an_even_kernel_has_its_odd_voxel_behind() -> None:
    model = nn.Conv2d(8, 5, 4, padding="same", dtype=torch.float64)
    x = torch.randn(2, 8, 19, 23, dtype=torch.float64)
    wanted = F.conv2d(F.pad(x, (1, 2, 1, 2)), model.weight, model.bias)
    torch.testing.assert_close(run(fix_arithmetic(model), x, torch.contiguous_format, 1), wanted)


@pytest.mark.parametrize("name", [f"{name}_" for name in CURVES if hasattr(torch.ops.aten, f"{name}_")])
@pytest.mark.parametrize("step", [1, 2])
def test_curves_in_place_are_the_curves(name: str, step: int) -> None:
    low, high = DOMAINS.get(name[:-1], (-3.0, 3.0))
    x = torch.rand(2, 8, 19, 23).mul_(high - low).add_(low)
    wanted = x.clone()
    wanted[:, ::step] = fix_arithmetic(function(getattr(torch.ops.aten, name[:-1]))())(x[:, ::step])
    found = fix_arithmetic(function(getattr(torch.ops.aten, name))())(x[:, ::step])
    assert torch.equal(x, wanted)
    assert found.data_ptr() == x.data_ptr()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("operation", [*CONVOLUTIONS[:1], CONVOLUTIONS[9], CONVOLUTIONS[-5]], ids=named)
def test_an_image_without_a_batch_axis_is_a_batch_of_one(operation: Operation, dtype: torch.dtype) -> None:
    model = fix_arithmetic(operation.make(dtype))
    images = operation.images(SMALL[operation.dims], dtype)
    assert torch.equal(model(images[1]), model(images)[1])


@pytest.mark.parametrize("groups", [1, 4])
def test_a_traced_module_has_the_bits_of_the_module(groups: int) -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, groups=groups), nn.SELU(), nn.ConvTranspose2d(8, 4, 2, 2)).eval()
    x = torch.randn(1, 8, 19, 23)
    with torch.no_grad(), pytest.warns(DeprecationWarning, match="torch.jit"):
        traced = torch.jit.trace(model, x)
    assert torch.equal(fix_arithmetic(traced)(x), fix_arithmetic(model)(x))


LEFT: dict[str, Callable[[Tensor], Tensor]] = {
    "power of whole numbers": lambda x: x.long() ** 2,
    "power of whole numbers by whole numbers": lambda x: x.long() ** x.long().abs(),
    "power in place of whole numbers": lambda x: x.long().pow_(2),
    "exp of whole numbers": lambda x: x.long().exp(),
    "angle of whole numbers": lambda x: torch.atan2(x.long(), x.long()),
    "product of whole numbers": lambda x: x[0, 0].long() @ x[0, 0].long().t(),
    "sum of a product of whole numbers": lambda x: torch.addmm(
        x[0, 0, 0, 0].long(), x[0, 0].long(), x[0, 0].long().t()
    ),
    "products of whole numbers": lambda x: torch.bmm(x[0].long(), x[0].long().mT),
    "matrix by vector of whole numbers": lambda x: torch.mv(x[0, 0].long(), x[0, 0, 0].long()),
    "linear of nothing": lambda x: F.linear(x[:0], torch.ones(3, x.shape[-1])),
    "product with nothing": lambda x: x[0, 0] @ x[0, 0, :0].t(),
    "gate of half precision": lambda x: F.glu(x.half(), 1),
    "softmax of half precision": lambda x: x.half().softmax(1),
    "softmax of one number": lambda x: x[0, 0, 0, 0].softmax(0),
    "sum of whole numbers": lambda x: x.long().sum(1),
    "sum of all": lambda x: x.sum((0, 1, 2, 3)),
    "exp of nothing": lambda x: x[:0].exp(),
    "convolution of nothing": lambda x: F.conv2d(x[:0], torch.ones(3, x.shape[1], 1, 1)),
    "convolution of half precision": lambda x: F.conv2d(x.half(), torch.ones(3, x.shape[1], 1, 1).half()),
    "transposed convolution of half precision": lambda x: F.conv_transpose2d(
        x.half(), torch.ones(x.shape[1], 3, 2, 2).half(), stride=2
    ),
    "linear interpolation between corners": lambda x: F.interpolate(
        x, scale_factor=2, mode="bilinear", align_corners=True
    ),
    "interpolation by a factor that is no fraction": lambda x: F.interpolate(
        x, scale_factor=math.sqrt(2), mode="bilinear"
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_not_of_single_voxels_stays_as_it_is_in_torch(name: str) -> None:
    x = torch.randn(2, 8, 11, 13).mul_(3)
    found, wanted = fix_arithmetic(function(LEFT[name])())(x), LEFT[name](x)
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (nn.Conv2d(8, 5, 3), (1, 7, 9, 9), "to have 8 channels"),
        (nn.Conv2d(8, 5, 3), (1, 8, 2, 9), "[Kk]ernel size"),
        (nn.ConvTranspose2d(8, 5, 2, 2), (1, 7, 9, 9), "expected input"),
        (nn.ConvTranspose2d(8, 5, 2, 2, output_padding=2), (1, 8, 9, 9), "output padding must be smaller"),
        (nn.Linear(8, 5), (1, 7), "cannot be multiplied"),
        (Lambda(lambda net, x: x @ x), (2, 3), "cannot be multiplied"),
        (Lambda(lambda net, x: torch.mm(x, x)), (2, 2, 2), "must be a matrix"),
        (Lambda(lambda net, x: torch.bmm(x, x[:1])), (2, 2, 2), "batch"),
    ],
    ids=str,
)
def test_an_input_that_does_not_fit_fails_with_what_torch_says(
    model: nn.Module, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(RuntimeError, match=message):
        fix_arithmetic(model)(torch.zeros(shape))


def test_a_model_is_fixed_once_and_on_a_cpu_alone() -> None:
    model = nn.Conv2d(8, 5, 1)
    fixed = fix_arithmetic(model)
    assert fix_arithmetic(fixed) is fixed
    elsewhere = nn.Conv2d(8, 5, 1, device="meta")
    assert fix_arithmetic(elsewhere) is elsewhere


@pytest.mark.parametrize("channels", [8, 300])
def test_the_weights_are_the_model_s_own(channels: int) -> None:
    """A weight that changes changes the result, though what was made of it was kept."""
    model = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ConvTranspose2d(4, 4, 3, 2)).requires_grad_(False)
    fixed, x = fix_arithmetic(model), torch.randn(1, channels, 9, 9)
    before = fixed(x)
    for layer in model:
        layer.weight.mul_(2)
        layer.bias.zero_()
    after = fixed(x)
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, model(x), rtol=1e-5, atol=1e-5)


def test_what_is_made_of_a_parameter_is_kept_until_it_changes() -> None:
    made: list[Tensor] = []

    def double(weight: Tensor) -> Tensor:
        made.append(weight * 2)
        return made[-1]

    prepared, weight = PreparedWeights(), nn.Parameter(torch.ones(3), requires_grad=False)
    assert prepared.get(weight, "double", double) is prepared.get(weight, "double", double)
    weight.add_(1)
    assert prepared.get(weight, "double", double).tolist() == [4, 4, 4]
    weight.data = torch.zeros(3)
    assert prepared.get(weight, "double", double).tolist() == [0, 0, 0]
    assert len(made) == 3
    computed = torch.ones(3)
    assert prepared.get(computed, "double", double) is not prepared.get(computed, "double", double)
    with torch.inference_mode():
        inner = nn.Parameter(torch.ones(3), requires_grad=False)
        assert prepared.get(inner, "double", double) is prepared.get(inner, "double", double)


@pytest.mark.parametrize("numbers", [SHARE + 64, SHARE + 72, 2 * SHARE + 704, 4 * SHARE + 320])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_no_number_lies_at_the_ragged_end_of_a_share(numbers: int, dtype: torch.dtype) -> None:
    x = torch.linspace(-3, 3, numbers).to(dtype)
    model = fix_arithmetic(nn.Sigmoid())
    one, two, three = (run(model, x, torch.contiguous_format, number) for number in (1, 2, 3))
    assert torch.equal(two, one)
    assert torch.equal(three, one)


@given(numbers=st.integers(0, 10 * SHARE), threads=st.integers(1, 16))
def test_each_thread_s_share_is_of_whole_vectors(numbers: int, threads: int) -> None:
    """As torch's loops cut ``n`` numbers: into as many equal shares as hold ``SHARE`` each, one a thread at most."""
    whole = whole_shares(numbers, threads)
    shares = max(1, min(threads, math.ceil(whole / SHARE)))
    assert 0 <= numbers - whole < VECTOR * threads
    assert whole % (VECTOR * shares) == 0


@given(
    stride=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    channels=st.integers(1, 3),
    length=st.integers(1, 4),
)
def test_phases_lie_between_each_other(stride: list[int], channels: int, length: int) -> None:
    phases = torch.arange(2 * math.prod(stride) * channels * length ** len(stride))
    phases = phases.reshape(2, -1, *[length] * len(stride))
    full = interleave(phases, stride, channels)
    assert full.shape == (2, channels, *(length * s for s in stride))
    for number, phase in enumerate(itertools.product(*(range(s) for s in stride))):
        cut = [slice(r, None, s) for r, s in zip(phase, stride, strict=True)]
        assert torch.equal(full[:, :, *cut], phases[:, number * channels : (number + 1) * channels])
