"""The module against the formulas, over all kinds of networks; dtypes, layouts, gradients, initialisation."""

import math
import weakref
from itertools import product
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from pipeline.errors import ModelError
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.unet import UNet, depth_to_space, space_to_depth

UPSAMPLINGS = ("transposed", "bilinear", "pixel_shuffle", "max_unpool")


def variants(depths: tuple[int, ...], dims: tuple[int, ...] = (2, 3)) -> list[UNetArchitecture]:
    """Every kind of network of these depths, each once."""
    choices = product(dims, depths, ("valid", "same"), ("concat", "add", "none"), UPSAMPLINGS, ("none", "batch"))
    names = ("dims", "depth", "padding", "skip", "upsampling", "norm")
    settings = (dict(zip(names, choice, strict=True)) for choice in choices)
    built = [UNetArchitecture.model_validate({"width": 2, "in_channels": 3, **chosen}) for chosen in settings]
    return list({(architecture.dims, architecture.layers()): architecture for architecture in built}.values())


def name(architecture: UNetArchitecture) -> str:
    chosen = architecture.model_dump(include={"dims", "depth", "padding", "skip", "upsampling", "norm"})
    return "-".join(map(str, chosen.values()))


def smallest(architecture: UNetArchitecture, n: int = 2) -> torch.Tensor:
    """Smallest legal input but for one axis, which is one step longer."""
    reach = architecture.reach()
    spatial = [reach.minimum + reach.stride] + [reach.minimum] * (architecture.dims - 1)
    generator = torch.Generator().manual_seed(5)
    return torch.randn(n, architecture.in_channels, *spatial, generator=generator)


class LiveElements(TorchDispatchMode):
    """Most elements of tensors that were alive at one time, views counted once."""

    def __init__(self, first: torch.Tensor) -> None:
        super().__init__()
        self.users: dict[int, int] = {}
        self.now = self.peak = 0
        self.watch(first)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            self.watch(tensor)
        return result

    def watch(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, elements = storage._cdata, storage.nbytes() // 4
        self.users[key] = self.users.get(key, 0) + 1
        if self.users[key] == 1:
            self.now += elements
            self.peak = max(self.peak, self.now)
        weakref.finalize(tensor, self.forget, key, elements)

    def forget(self, key: int, elements: int) -> None:
        self.users[key] -= 1
        if not self.users[key]:
            del self.users[key]
            self.now -= elements


@pytest.mark.parametrize("architecture", variants((1, 2, 3, 4), dims=(2,)) + variants((2, 3), dims=(3,)), ids=name)
def test_sizes_parameters_and_operations_are_those_of_the_module(architecture: UNetArchitecture) -> None:
    image = smallest(architecture, n=1).to("meta")
    with torch.device("meta"):
        model = UNet(architecture).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        logits = model(image)
    assert logits.shape == (1, 2, *map(architecture.output_length, image.shape[2:]))
    assert sum(parameter.numel() for parameter in model.parameters()) == architecture.parameters()
    assert counter.get_total_flops() == architecture.operations(tuple(image.shape[2:]))


@pytest.mark.parametrize("architecture", variants((2, 3), dims=(2,)), ids=name)
def test_peak_elements_bound_what_the_module_holds(architecture: UNetArchitecture) -> None:
    wide = architecture.model_copy(update={"width": 16})
    reach = wide.reach()
    shape = (reach.minimum + 64 * reach.stride,) * 2
    image = torch.empty(1, 3, *shape, device="meta")
    with torch.device("meta"):
        model = UNet(wide).eval()
    with torch.no_grad(), LiveElements(image) as live:
        model(image)
    assert live.peak <= wide.peak_elements(shape) <= 2 * live.peak


def test_the_paper_s_network_in_torch() -> None:
    with torch.device("meta"):
        model = UNet(UNetArchitecture())
        logits = model(torch.empty(1, 1, 572, 572))
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    assert logits.shape == (1, 2, 388, 388)
    assert len(convolutions) == 23
    assert sum(parameter.numel() for parameter in model.parameters()) == 31_030_658


@pytest.mark.parametrize("architecture", variants((2,)), ids=name)
def test_every_weight_learns(architecture: UNetArchitecture) -> None:
    torch.manual_seed(0)
    model = UNet(architecture)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    model(smallest(architecture).abs()).square().mean().backward()
    for tensor, parameter in model.named_parameters():
        assert parameter.grad is not None, tensor
        assert torch.isfinite(parameter.grad).all(), tensor
        assert architecture.norm == "batch" or parameter.grad.any(), tensor


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("skip", ["concat", "add", "none"])
def test_precisions_and_layouts_say_the_same(dims: int, upsampling: str, skip: str) -> None:
    architecture = UNetArchitecture.model_validate(
        {"dims": dims, "depth": 2, "width": 2, "upsampling": upsampling, "skip": skip, "norm": "batch"}
    )
    torch.manual_seed(1)
    model = UNet(architecture).double().eval()
    image = smallest(architecture).double()
    last = torch.channels_last if dims == 2 else torch.channels_last_3d
    with torch.inference_mode():
        want = model(image)
        same = model.to(memory_format=last)(image.to(memory_format=last))
        single = model.float()(image.float())
        half = model.bfloat16()(image.bfloat16())
    assert (same.dtype, single.dtype, half.dtype) == (torch.float64, torch.float32, torch.bfloat16)
    torch.testing.assert_close(same, want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(single.double(), want, rtol=1e-4, atol=1e-5)
    rounding = 0.2 if upsampling == "max_unpool" else 0.05  # rounding also moves maxima that are nearly equal
    assert (half.double() - want).abs().mean() < rounding * want.abs().mean()


def test_weights_start_as_in_the_paper() -> None:
    torch.manual_seed(0)
    model = UNet(UNetArchitecture(depth=2, width=48))
    taps = {"down0_conv1": 9, "down0_conv2": 9 * 48, "up0_upsample": 96, "up0_conv1": 9 * 96, "head": 48}
    for layer, incoming in taps.items():
        module = model.get_submodule(layer)
        assert module.weight.std().item() == pytest.approx(math.sqrt(2 / incoming), rel=0.1), layer
        assert not module.bias.any(), layer


def test_the_paper_s_own_example_of_a_start() -> None:
    """A 3x3 convolution of 64 channels has N = 9 * 64 = 576 incoming nodes: Ronneberger et al. (2015), section 3."""
    torch.manual_seed(0)
    weights = UNet(UNetArchitecture(depth=2, width=64)).get_submodule("down0_conv2").weight.flatten()
    std = math.sqrt(2 / 576)
    assert weights.std().item() == pytest.approx(std, rel=0.02)
    assert abs(weights.mean().item()) < 5 * std / math.sqrt(weights.numel())
    for deviations, share in ((1, 0.6827), (2, 0.9545), (3, 0.9973)):  # of a normal distribution
        assert (weights.abs() < deviations * std).double().mean().item() == pytest.approx(share, abs=0.01)


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    model = UNet(UNetArchitecture(depth=2, width=4, dropout=0.5, padding="same"))
    image = torch.randn(1, 1, 8, 8)
    assert not torch.equal(model(image), model(image))
    model.eval()
    assert torch.equal(model(image), model(image))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_depth_to_space_is_undone_by_space_to_depth(dims: int) -> None:
    image = torch.arange(3 * 4 * 6**dims).reshape(3, 4, *[6] * dims)
    windows = space_to_depth(image)
    assert windows.shape == (3, 4, 2**dims, *[3] * dims)
    assert torch.equal(depth_to_space(windows.flatten(1, 2)), image)


def test_depth_to_space_is_torch_s_in_two_dimensions() -> None:
    image = torch.randn(2, 12, 3, 5)
    assert torch.equal(depth_to_space(image), torch.nn.functional.pixel_shuffle(image, 2))


def test_unpooling_puts_maxima_back_where_they_were() -> None:
    model = UNet(UNetArchitecture(depth=2, width=1, upsampling="max_unpool"))
    image = torch.tensor([[[[1.0, 5, 0, 0], [2, 3, 0, 7]]]])
    pooled, position = model.get_submodule("down0_pool")(image)
    assert pooled.tolist() == [[[[5, 7]]]]
    assert position.tolist() == [[[[1, 3]]]]
    restored = model.get_submodule("up0_upsample")(pooled, position)
    assert restored.tolist() == [[[[0, 5, 0, 0], [0, 0, 0, 7]]]]


@pytest.mark.parametrize("shape", [(1, 2, 188, 188), (1, 1, 1, 188, 188), (1, 188, 188)])
def test_inputs_with_other_channels_or_axes_are_refused(shape: tuple[int, ...]) -> None:
    with torch.device("meta"), pytest.raises(ModelError, match="1 channels and 2 spatial axes"):
        UNet(UNetArchitecture())(torch.empty(shape))


def test_inputs_of_illegal_length_are_refused() -> None:
    with torch.device("meta"), pytest.raises(ModelError, match="571 voxels"):
        UNet(UNetArchitecture())(torch.empty(1, 1, 572, 571))
