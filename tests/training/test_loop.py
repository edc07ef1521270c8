import math
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config import TrainJob
from pipeline.config.losses import CrossEntropy
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.checkpoint import Normalisation
from pipeline.model.unet import UNet
from pipeline.training.batches import Batches
from pipeline.training.ema import Ema
from pipeline.training.learner import Learner
from pipeline.training.loop import Course, DivergedError, fit
from pipeline.training.losses import loss_for
from pipeline.training.optimisers import make_optimiser, make_schedule
from pipeline.training.pairs import open_pairs
from pipeline.training.patches import PatchLayout, PatchStream
from pipeline.training.targets import ClassIds

NETWORK = UNetArchitecture(classes=1, depth=2, width=4, padding="same", norm="batch", dropout=0.2)
PAIR = {"image": "i.zarr", "target": "t.zarr"}
JOB = TrainJob(pairs=[PAIR], output="m.safetensors", classes=("a", "b"), learning_rate=0.01)
LOSS = loss_for(CrossEntropy(), outputs=1)


class Recorder:
    """Notes everything; measures as it is told."""

    def __init__(self, raises_at=None, scores=None):
        self.steps, self.points, self.modes, self.states, self.weights = [], [], [], [], []
        self._raises_at = raises_at
        self._scores = iter(scores or ())

    def measure(self, model):
        self.modes.append(model.training)
        self.weights.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"mean_iou": next(self._scores, None), "mean_dice": None, "classes": {}}

    def progress(self, step):
        self.steps.append(step)
        if step == self._raises_at:
            raise KeyboardInterrupt

    def point(self, point):
        self.points.append(point)

    def store(self, state):
        tensors = {name: value.clone() for name, value in state.tensors.items()}
        self.states.append(type(state)(state.step, tensors, state.document))


@pytest.fixture
def data(make_pair):
    image = np.random.default_rng(0).integers(0, 255, (1, 40, 40)).astype("u1")
    stream = PatchStream(
        open_pairs([make_pair(image)], NETWORK),
        PatchLayout.plain(NETWORK, (16, 16)),
        ClassIds(2),
        seed=(0,),
    )
    normalisation = Normalisation(mean=(128,), std=(74,))
    return lambda steps, first=0: Batches(stream, normalisation, count=2 * steps, size=2, first=2 * first)


def learner_of(steps, job=JOB, seed=0):
    torch.manual_seed(seed)
    model = UNet(NETWORK)
    optimiser = make_optimiser(job, model.parameters())
    ema = Ema(model, job.ema) if job.ema else None
    return Learner(model, optimiser, make_schedule(job, optimiser, steps), ema)


def run(data, *, loss=LOSS, recorder=None, steps=6, job=JOB, state=None, seed=0, **changes):
    learner = learner_of(steps, job, seed)
    if state is not None:
        learner.load(state)
    recorder = recorder or Recorder()
    course = Course(steps=steps, **({"validate_every": 4} | changes))
    batches = data(steps, learner.history.step)
    return learner, recorder, fit(learner, batches, loss=loss, course=course, observer=recorder)


def test_every_step_is_told_and_points_come_regularly_and_at_the_end(data):
    _, recorder, history = run(data)
    assert recorder.steps == [1, 2, 3, 4, 5, 6]
    assert recorder.points == history.curve
    assert [point["step"] for point in history.curve] == [4, 6]
    assert recorder.modes == [False, False]
    assert [point["loss"] for point in history.curve] == [
        pytest.approx(np.mean(history.losses[:4])),
        pytest.approx(np.mean(history.losses[4:])),
    ]
    assert 0 < history.curve[0]["seconds"] < history.curve[1]["seconds"] <= history.seconds
    assert 0 <= history.waited < history.seconds
    assert [state.step for state in recorder.states] == [4, 6]


def test_the_network_learns_in_place_and_the_learning_rate_makes_one_cycle(data):
    fresh = learner_of(1)
    learner, _, history = run(data, steps=20, validate_every=1)
    assert not torch.equal(learner.model.head.weight, fresh.model.head.weight)
    assert learner.model.down0_norm1.num_batches_tracked == 20
    rates = [point["learning_rate"] for point in history.curve]
    top = int(np.argmax(rates))
    assert rates[top] == pytest.approx(0.01, rel=0.05)
    assert 3 <= top <= 7
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 1e-6


def test_the_best_point_is_kept_and_a_tie_is_left_to_the_earlier_one(data):
    learner, recorder, history = run(
        data, recorder=Recorder(scores=[0.2, 0.5, 0.5, 0.4]), validate_every=2, steps=8
    )
    assert (history.best, history.score, history.stale) == (4, 0.5, 2)
    assert all(torch.equal(learner.best[name], value) for name, value in recorder.weights[1].items())


def test_points_without_a_score_are_never_the_best(data):
    learner, _, history = run(data, recorder=Recorder(scores=[None, None]))
    assert (history.best, learner.best) == (None, {})


def test_it_stops_when_so_many_points_have_brought_nothing_better(data):
    recorder = Recorder(scores=[0.5, 0.4, 0.3, 0.9, 0.9])
    _, _, history = run(data, recorder=recorder, steps=50, validate_every=2, patience=2)
    assert history.step == 6
    assert history.best == 2


def test_what_is_measured_is_the_moving_average_and_the_weights_come_back(data):
    job = JOB.model_copy(update={"ema": 0.9})
    averaged, recorder, _ = run(data, job=job, recorder=Recorder(scores=[0.1, 0.2]))
    plain, _, _ = run(data, recorder=Recorder(scores=[0.1, 0.2]))
    for name, value in plain.model.state_dict().items():
        assert torch.equal(averaged.model.state_dict()[name], value), "measuring changes nothing"
    assert not torch.equal(recorder.weights[-1]["head.weight"], plain.model.head.weight)
    assert torch.equal(averaged.best["head.weight"], recorder.weights[-1]["head.weight"])


@pytest.mark.parametrize(
    "changes",
    [{}, {"ema": 0.9}, {"optimiser": "sgd", "momentum": 0.9}, {"schedule": "cosine"}],
    ids=["adamw", "ema", "sgd", "cosine"],
)
@pytest.mark.parametrize("at", [0, 1])
def test_a_training_that_goes_on_from_a_state_is_an_unbroken_one_bit_by_bit(data, changes, at):
    job = JOB.model_copy(update=changes)
    scores = [0.1, 0.3, 0.2]
    whole, recorder, _ = run(data, job=job, steps=9, validate_every=3, recorder=Recorder(scores=scores))
    state = recorder.states[at]
    later = Recorder(scores=scores[at + 1 :])
    resumed, _, _ = run(data, job=job, steps=9, validate_every=3, recorder=later, state=state, seed=99)
    assert later.steps == list(range(state.step + 1, 10))
    assert resumed.history.losses == whole.history.losses
    for (name, one), other in zip(whole.state().tensors.items(), resumed.state().tensors.values(), strict=True):
        assert torch.equal(one, other), name
    for field in ("step", "learning_rate", "loss", "validation"):
        assert [p[field] for p in resumed.history.curve] == [p[field] for p in whole.history.curve]
    assert resumed.history.best == whole.history.best


def test_a_training_that_is_done_takes_no_step(data):
    _, recorder, _ = run(data)
    _, later, history = run(data, state=recorder.states[-1])
    assert later.steps == []
    assert history.step == 6


def test_a_training_that_stopped_early_does_not_go_on(data):
    _, recorder, _ = run(data, recorder=Recorder(scores=[0.5, 0.4]), steps=50, validate_every=2, patience=1)
    _, later, history = run(data, state=recorder.states[-1], steps=50, validate_every=2, patience=1)
    assert (later.steps, history.step) == ([], 4)


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
    with pytest.raises(DivergedError, match=rf"loss is {value} at step 1: training has diverged"):
        run(data, loss=lambda logits, target, weights: logits.sum() * 0 + value)


def test_large_gradients_are_clipped(data):
    plain, _, _ = run(data, steps=3)
    scaled, _, _ = run(data, steps=3, loss=lambda *batch: LOSS(*batch) * 1e6)
    assert torch.allclose(plain.model.head.weight, scaled.model.head.weight, atol=0.03)


def test_half_precision_learns_too_and_is_measured_in_full(data):
    learner, _, history = run(data, precision="bfloat16")
    assert np.isfinite(history.losses).all()
    assert learner.model.head.weight.dtype == torch.float32


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
