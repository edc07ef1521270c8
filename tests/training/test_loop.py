import math
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import OvertileError
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.checkpoint import Normalisation
from pipeline.model.unet import UNet
from pipeline.training.batches import Batches
from pipeline.training.loop import Schedule, fit
from pipeline.training.losses import loss_for
from pipeline.training.pairs import ClassIds, open_pairs
from pipeline.training.patches import PatchLayout, PatchStream

NETWORK = UNetArchitecture(classes=1, depth=2, width=4, padding="same", norm="batch")
SCHEDULE = Schedule(steps=6, learning_rate=0.01, weight_decay=1e-4, validate_every=4)


class Recorder:
    def __init__(self, raises_at=None):
        self.steps, self.points, self.modes = [], [], []
        self._raises_at = raises_at

    def measure(self, model):
        self.modes.append(model.training)
        return {"step": len(self.steps) + 1}

    def progress(self, step):
        self.steps.append(step)
        if step == self._raises_at:
            raise KeyboardInterrupt

    def point(self, point):
        self.points.append(point)


@pytest.fixture
def data(make_pair):
    image = np.random.default_rng(0).integers(0, 255, (1, 40, 40)).astype("u1")
    stream = PatchStream(
        open_pairs([make_pair(image)], NETWORK),
        PatchLayout.plain(NETWORK, (16, 16)),
        ClassIds(2),
        seed=(0,),
        augment=True,
    )
    return lambda steps: Batches(stream, Normalisation(mean=(128,), std=(74,)), count=2 * steps, size=2)


def run(data, *, loss=None, recorder=None, **changes):
    schedule = Schedule(**{name: changes.get(name, getattr(SCHEDULE, name)) for name in Schedule.__slots__})
    torch.manual_seed(0)
    model = UNet(NETWORK)
    recorder = recorder or Recorder()
    loss = loss or loss_for(1, ignore=None)
    return (
        model,
        recorder,
        fit(model, data(schedule.steps), loss=loss, schedule=schedule, device="cpu", observer=recorder),
    )


def test_every_step_is_told_and_points_come_regularly_and_at_the_end(data):
    _, recorder, history = run(data)
    assert recorder.steps == [1, 2, 3, 4, 5, 6]
    assert recorder.points == history.curve
    assert [point["step"] for point in history.curve] == [4, 6]
    assert [point["validation"] for point in history.curve] == [{"step": 4}, {"step": 6}]
    assert recorder.modes == [False, False]
    assert [point["loss"] for point in history.curve] == [
        pytest.approx(np.mean(history.losses[:4])),
        pytest.approx(np.mean(history.losses[4:])),
    ]
    assert 0 < history.curve[0]["seconds"] < history.curve[1]["seconds"] <= history.seconds


def test_the_network_learns_in_place_and_the_learning_rate_makes_one_cycle(data):
    fresh, _, _ = run(data, steps=1, learning_rate=1e-12)
    model, _, history = run(data, steps=20, validate_every=1)
    assert not torch.equal(model.head.weight, fresh.head.weight)
    assert model.down0_norm1.num_batches_tracked == 20
    rates = [point["learning_rate"] for point in history.curve]
    top = int(np.argmax(rates))
    assert rates[top] == pytest.approx(0.01, rel=0.05)
    assert 3 <= top <= 7
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 1e-6


def test_at_the_time_limit_it_stops_with_a_point_and_a_rate_that_has_come_down(data):
    _, recorder, history = run(data, steps=1000, time_limit=1e-9)
    assert recorder.steps == [1]
    assert [point["step"] for point in history.curve] == [1]
    assert history.curve[0]["learning_rate"] < 1e-6


def test_a_distant_time_limit_changes_nothing(data):
    _, _, free = run(data)
    _, _, limited = run(data, time_limit=1e6)
    assert limited.losses == free.losses
    assert [p["learning_rate"] for p in limited.curve] == [p["learning_rate"] for p in free.curve]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_training(data, value):
    with pytest.raises(OvertileError, match=rf"loss is {value} at step 1: training has diverged.*below 0\.01"):
        run(data, loss=lambda logits, target: logits.sum() * 0 + value)


def test_large_gradients_are_clipped(data):
    plain, _, _ = run(data, steps=3)
    scaled, _, _ = run(data, steps=3, loss=lambda logits, target: loss_for(1, ignore=None)(logits, target) * 1e6)
    assert torch.allclose(plain.head.weight, scaled.head.weight, atol=0.03)


def test_an_interrupt_is_passed_on_and_leaves_nothing_changed(data):
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(data, recorder=Recorder(raises_at=2))
    assert signal.getsignal(signal.SIGINT) is handler
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("patches")]


def test_lightning_says_and_writes_nothing(data, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(Path().iterdir())
    run(data)
    assert sorted(Path().iterdir()) == before
    assert capfd.readouterr() == ("", "")
