"""The formulas: the paper's network layer by layer, known answers, legal lengths, refusals."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.errors import ModelError
from pipeline.geometry.reach import Reach
from pipeline.model.architecture import UNetArchitecture

PAPER = UNetArchitecture()

# (taps, input channels, output channels) of Ronneberger et al. 2015, figure 1, from left to right.
PAPER_CONVOLUTIONS = [
    *[(9, 1, 64), (9, 64, 64), (9, 64, 128), (9, 128, 128), (9, 128, 256), (9, 256, 256)],
    *[(9, 256, 512), (9, 512, 512), (9, 512, 1024), (9, 1024, 1024)],
    *[(4, 1024, 512), (9, 1024, 512), (9, 512, 512), (4, 512, 256), (9, 512, 256), (9, 256, 256)],
    *[(4, 256, 128), (9, 256, 128), (9, 128, 128), (4, 128, 64), (9, 128, 64), (9, 64, 64), (1, 64, 2)],
]

architectures = st.builds(
    UNetArchitecture,
    dims=st.sampled_from([2, 3]),
    depth=st.integers(1, 5),
    padding=st.sampled_from(["valid", "same"]),
    skip=st.sampled_from(["concat", "add", "none"]),
    upsampling=st.sampled_from(["transposed", "bilinear", "pixel_shuffle", "max_unpool"]),
    norm=st.sampled_from(["none", "batch"]),
    width=st.integers(1, 8),
)


def test_the_default_is_the_network_of_the_paper() -> None:
    assert PAPER.output_length(572) == 388
    assert PAPER.convolutions() == len(PAPER_CONVOLUTIONS) == 23
    assert PAPER.parameters() == sum(taps * a * b + b for taps, a, b in PAPER_CONVOLUTIONS) == 31_030_658
    assert PAPER.reach() == Reach(stride=16, halo=(92, 92), offset=92, shrink=184, minimum=188)


def test_the_paper_s_maps_have_the_lengths_of_its_figure() -> None:
    lengths = [layer.length for layer in PAPER.layers() if layer.op not in ("relu", "concat")]
    seen = [572]
    for length in lengths:
        seen.append(length(seen[-1]))
    encoder = [572, 570, 568, 284, 282, 280, 140, 138, 136, 68, 66, 64, 32, 30, 28]
    decoder = [56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388, 388]
    assert seen == encoder + decoder


@pytest.mark.parametrize(
    ("upsampling", "halos"),
    [
        ("transposed", (2, 8, 22, 46, 94)),
        ("max_unpool", (2, 8, 22, 46, 94)),
        ("bilinear", (2, 10, 26, 54, 110)),
        ("pixel_shuffle", (2, 10, 26, 62, 126)),
    ],
)
def test_halo_of_padded_networks(upsampling: str, halos: tuple[int, ...]) -> None:
    for depth, halo in enumerate(halos, start=1):
        reach = UNetArchitecture(depth=depth, padding="same", upsampling=upsampling).reach()
        stride = 2 ** (depth - 1)
        assert reach == Reach(stride=stride, halo=(halo, halo), offset=0, shrink=0, minimum=stride)


@pytest.mark.parametrize(
    ("upsampling", "halos"),
    [
        ("transposed", (2, 8, 20, 44, 92)),
        ("max_unpool", (2, 8, 20, 44, 92)),
        ("bilinear", (2, 9, 23, 51, 107)),
        ("pixel_shuffle", (2, 10, 26, 58, 122)),
    ],
)
def test_halo_of_unpadded_networks_is_what_they_lose(upsampling: str, halos: tuple[int, ...]) -> None:
    for depth, halo in enumerate(halos, start=1):
        reach = UNetArchitecture(depth=depth, upsampling=upsampling).reach()
        assert (reach.halo, reach.offset, reach.shrink) == ((halo, halo), halo, 2 * halo)


@given(architecture=architectures, length=st.integers(1, 400))
def test_a_length_is_legal_when_every_pooling_is_even_and_something_is_left(
    architecture: UNetArchitecture, length: int
) -> None:
    legal, now, kept = True, length, []
    for layer in architecture.layers():
        if layer.op in ("pool", "indexed_pool"):
            legal &= now % 2 == 0
            kept.append(now)
        now = layer.length(now)
        legal &= now >= 1
        if layer.op in ("concat", "add") and legal:
            cut = kept.pop() - now
            assert cut >= 0
            assert cut % 2 == 0
    assert architecture.reach().is_legal(length) == legal
    if legal:
        assert architecture.output_length(length) == now


@pytest.mark.parametrize(
    ("length", "nearest"),
    [(571, "the nearest 556 and 572"), (573, "572 and 588"), (187, "the nearest 188"), (0, "188"), (-5, "188")],
)
def test_illegal_lengths_are_refused_with_the_nearest_legal_ones(length: int, nearest: str) -> None:
    with pytest.raises(ModelError, match=rf"{length} voxels.*188 \+ k \* 16.*{nearest}"):
        PAPER.output_length(length)


def test_shapes_of_other_axes_are_refused() -> None:
    with pytest.raises(ModelError, match="2 spatial axes"):
        PAPER.operations((572, 572, 572))
    with pytest.raises(ModelError, match="571 voxels"):
        PAPER.peak_elements((572, 571))


def test_operations_of_a_network_small_enough_for_a_sheet_of_paper() -> None:
    architecture = UNetArchitecture(depth=1, width=3, in_channels=2, classes=1)
    first, second, head = 8 * 6 * 9 * 2 * 3, 6 * 4 * 9 * 3 * 3, 6 * 4 * 3
    assert architecture.operations((10, 8)) == 2 * (first + second + head)


def test_peak_elements_of_a_network_small_enough_for_a_sheet_of_paper() -> None:
    architecture = UNetArchitecture(depth=2, width=16, padding="same", in_channels=1)
    voxels = 64 * 64
    joined, blocked, written = 32 * voxels, 32 * voxels, 16 * voxels
    assert architecture.peak_elements((64, 64)) == voxels + joined + blocked + written


@given(architecture=architectures)
def test_peak_elements_hold_the_input_and_grow_with_it(architecture: UNetArchitecture) -> None:
    reach = architecture.reach()
    small = (reach.minimum,) * architecture.dims
    large = (reach.minimum + reach.stride, *small[1:])
    assert small[0] ** architecture.dims < architecture.peak_elements(small) < architecture.peak_elements(large)


@pytest.mark.parametrize(
    "settings",
    [
        {"dims": 4},
        {"depth": 0},
        {"depth": 8},
        {"classes": 0},
        {"in_channels": 0},
        {"width": 0},
        {"dropout": 1.0},
        {"skip": "sum"},
        {"kind": "vit"},
        {"levels": 5},
    ],
)
def test_settings_out_of_bounds_or_unknown_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(settings))):
        UNetArchitecture.model_validate(settings)


def test_dropout_ends_the_contracting_path() -> None:
    names = [layer.name for layer in UNetArchitecture(dropout=0.5).layers() if layer.op == "dropout"]
    assert names == ["down3_dropout", "down4_dropout"]


def test_architecture_and_header_are_read_without_torch() -> None:
    code = "import sys, pipeline.model.architecture, pipeline.model.checkpoint; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
