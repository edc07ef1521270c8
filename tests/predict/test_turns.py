"""Averages over flips and turns: by their definition on the whole image, exact in the same sense."""

import json

import numpy as np
import pytest
import torch
from networks import MEAN, STD, make_checkpoint, make_image, run_inline

import pipeline
from pipeline.cli.main import run
from pipeline.config import SegmentJob
from pipeline.errors import PlanError
from pipeline.geometry import Box, Reach
from pipeline.model.arithmetic import fix_arithmetic
from pipeline.model.weights import load_model
from pipeline.predict.tiling import _turnable

NETWORKS = {
    "same": {"in_channels": 3, "depth": 3, "width": 4, "padding": "same", "classes": 3},
    "valid": {"in_channels": 3, "depth": 3, "width": 4, "classes": 1},
    "solid": {"dims": 3, "depth": 2, "width": 4},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("turns")
    make_image(root / "2d.zarr", (75, 101), channels=3)
    make_image(root / "3d.zarr", (9, 22, 19))
    for name, settings in NETWORKS.items():
        make_checkpoint(root / f"{name}.safetensors", **settings)
    return root


def asked(place, output, network="same", **settings):
    image = place / ("3d.zarr" if network == "solid" else "2d.zarr")
    usual = {"tta": "all", "kind": "probabilities", "dtype": "float32", "workers": 1, "pyramid": False}
    return SegmentJob(
        input=str(image), output=str(output), model=str(place / f"{network}.safetensors"), **(usual | settings)
    )


def by_definition(job):
    """Flip and turn the whole mirrored image with numpy, ask the network, turn back, and average."""
    plan = pipeline.plan(job)
    reaches, volume = plan.layout.reaches, plan.volume
    dims = plan.header.architecture.dims
    side = max(-(-n // r.stride) * r.stride for n, r in zip(volume.shape, reaches, strict=True))
    cores = (*volume.shape[:-2], side, side)
    cores = [-(-n // r.stride) * r.stride for n, r in zip(cores, reaches, strict=True)]
    box = Box(
        tuple(-r.before for r in reaches), tuple(n + r.after(n) for n, r in zip(cores, reaches, strict=True))
    )
    shown = ((volume.read_shown(box).astype(np.float32) - np.float32(MEAN)) / np.float32(STD)).astype(np.float32)
    order = torch.channels_last if dims == 2 else torch.channels_last_3d
    model = fix_arithmetic(load_model(job.model).to(memory_format=order))
    total, count = None, 0
    spatial = tuple(range(1, dims + 1))
    for exchange in (False, True) if job.tta == "all" else (False,):
        for bits in np.ndindex(*(2,) * dims):
            axes = tuple(a for a, bit in zip(spatial, bits, strict=True) if bit)
            turned = np.swapaxes(shown, -1, -2) if exchange else shown
            turned = np.ascontiguousarray(np.flip(turned, axes))
            with torch.inference_mode():
                raw = model(torch.from_numpy(turned)[None].contiguous(memory_format=order))[0]
            scores = (raw.sigmoid() if len(raw) == 1 else raw.softmax(0)).numpy()
            scores = np.flip(scores, axes)
            scores = np.swapaxes(scores, -1, -2) if exchange else scores
            total, count = scores if total is None else total + scores, count + 1
    crop = [slice(r.crop, r.crop + n) for r, n in zip(reaches, volume.shape, strict=True)]
    return (total / np.float32(count))[:, *crop]


@pytest.mark.parametrize("tta", ["flips", "all"])
@pytest.mark.parametrize("network", NETWORKS)
def test_stitched_equals_the_whole_image_in_every_turn(place, tmp_path, network, tta):
    cuts = [(9, 22, 19), (4, 16, 12)] if network == "solid" else [(75, 101), (40, 33)]
    whole = by_definition(asked(place, tmp_path / "x.zarr", network, tta=tta))
    for number, chunk in enumerate(cuts):
        job = asked(place, tmp_path / f"{number}.zarr", network, tta=tta, chunk=chunk)
        assert np.array_equal(run_inline(job), whole)


def test_classes_are_those_of_the_mean(place, tmp_path):
    probabilities = run_inline(asked(place, tmp_path / "a.zarr"))
    labels = run_inline(asked(place, tmp_path / "b.zarr", kind="labels", dtype=None))
    assert np.array_equal(labels, probabilities.argmax(0))
    plain = run_inline(asked(place, tmp_path / "c.zarr", tta="none"))
    assert not np.array_equal(plain, probabilities)


def test_turns_cost_what_they_cost_and_make_another_run(place, tmp_path):
    none, flips, all_of_them = (
        pipeline.plan(asked(place, tmp_path / "o.zarr", tta=t)) for t in ("none", "flips", "all")
    )
    operations = [p.describe()["operations"] for p in (none, flips, all_of_them)]
    assert operations == [operations[0], 4 * operations[0], 8 * operations[0]]
    assert len({p.fingerprint for p in (none, flips, all_of_them)}) == 3
    assert none.memory.peak < flips.memory.peak


@pytest.mark.parametrize(
    ("tta", "reaches", "message"),
    [
        ("flips", (Reach(1, (0, 3), 1, 3, 4), Reach(1, (0, 3), 1, 3, 4)), "3 voxels shorter .* odd"),
        ("all", (Reach(4, minimum=4), Reach(8, minimum=8)), r"strides 4 and 8.*use --tta flips"),
    ],
)
def test_networks_that_cannot_be_turned_are_refused(tta, reaches, message):
    with pytest.raises(PlanError, match=message):
        _turnable(tta, reaches)


def test_halos_of_turned_networks_are_the_larger_ones():
    one_sided, other = Reach(2, (6, 0), minimum=2), Reach(2, (1, 3), minimum=2)
    assert [r.halo for r in _turnable("flips", (one_sided, other))] == [(6, 6), (3, 3)]
    assert [r.halo for r in _turnable("all", (one_sided, other))] == [(6, 6), (6, 6)]
    assert _turnable("none", (one_sided, other)) == (one_sided, other)


def test_the_flag_alone_means_all_turns(place, tmp_path, capsys):
    image, output = str(place / "2d.zarr"), str(tmp_path / "o.zarr")
    assert run(["plan", image, output, "--model", str(place / "same.safetensors"), "--json", "--tta"]) == 0
    assert json.loads(capsys.readouterr().out)["tta"] == "all"
