import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from volumes import create_filled, save, small_spec

import pipeline
from flows.shapes import CLASS_NAMES, render
from pipeline.cli.main import run
from pipeline.config import Pair, TrainJob
from pipeline.errors import EnvironmentFaultError, InputError
from pipeline.evaluation.metrics import metrics
from pipeline.evaluation.statistics import ConfusionStatistics
from pipeline.jobs.training import train
from pipeline.model.checkpoint import digest, read_header
from pipeline.model.weights import load_model
from pipeline.volume import Space, publish

NETWORK = {"in_channels": 3, "classes": 1, "depth": 2, "width": 4, "padding": "same", "norm": "batch"}


class Recorder:
    def __init__(self):
        self.phases, self.steps, self.notes = [], [], []

    def phase(self, name, total, unit):
        self.phases.append((name, total, unit))

    def progress(self, done, failed=0):
        self.steps.append(done)

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def shapes(make_pair):
    """Pairs of 160 x 160 voxels by seed."""
    return lambda seed: make_pair(*render((0, 0), (160, 160), seed=seed), chunks=(3, 64, 64))


@pytest.fixture
def job_of(shapes, tmp_path):
    def make(**changes):
        values = {
            "pairs": [shapes(1)],
            "output": str(tmp_path / "out" / "model.safetensors"),
            "architecture": NETWORK,
            "classes": CLASS_NAMES,
            "patch": (32, 32),
            "batch": 4,
            "steps": 5,
            "learning_rate": 0.02,
            "threads": 1,
        }
        if "validation" not in changes:
            values["split"] = "none"
        return TrainJob.model_validate(values | changes)

    return make


def test_training_lowers_the_loss_and_writes_a_checkpoint_that_predicts(job_of, shapes, tmp_path):
    recorder = Recorder()
    network = NETWORK | {"depth": 3}
    job = job_of(
        steps=60, batch=8, validation=[shapes(2)], validate_every=25, learning_rate=0.03, architecture=network
    )
    found = train(job, listener=recorder)
    losses = [point["loss"] for point in found["curve"]]
    assert losses[-1] < 0.5 * losses[0]
    assert recorder.phases == [("train", 60, "steps")]
    assert recorder.steps == list(range(1, 61))
    points = [note for note in recorder.notes if note.startswith("step ")]
    assert [note.split(":")[0] for note in points] == ["step 25", "step 50", "step 60"]
    assert "validation mean IoU 0." in points[-1]
    assert found["validation"]["mean_iou"] > 0.5
    assert found["digest"] == digest(job.output)

    header, model = read_header(job.output), load_model(job.output)
    assert header.classes == CLASS_NAMES
    assert header.axes == "yx"
    assert header.voxel_size is None
    assert header.provenance["steps"] == 60
    assert header.provenance["patches"] == 480
    assert header.provenance["seed"] == 0
    assert header.provenance["images"] == Path(job.pairs[0].image).name
    assert header.provenance["validation_images"] == Path(job.validation[0].image).name
    assert header.provenance["torch"] == torch.__version__
    assert header.provenance["validation_mean_iou"] == found["validation"]["mean_iou"]
    assert model.down0_norm1.num_batches_tracked == found["kept_step"] == header.provenance["kept_step"]
    image, target = render((0, 0), (96, 96), seed=3)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (header.normalisation.mean, header.normalisation.std))
    logits = model(((torch.from_numpy(image) - mean) / std)[None])
    total = ConfusionStatistics.of((logits[0, 0] > 0).numpy(), target, classes=2)
    assert metrics(total, CLASS_NAMES)["mean_iou"] > 0.5


def test_the_metrics_and_the_curve_lie_beside_the_checkpoint(job_of, shapes, tmp_path):
    job = job_of(validation=[shapes(2)])
    found = train(job)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "model.curve.png",
        "model.metrics.json",
        "model.reliability.png",
        "model.safetensors",
        "model.training",
    ]
    assert sorted(p.name for p in (tmp_path / "out" / "model.training").iterdir()) == ["logs", "pictures"]
    assert json.loads((tmp_path / "out" / "model.metrics.json").read_text()) == found
    assert TrainJob.model_validate(found["job"]).steps == job.steps
    kept = next(point for point in found["curve"] if point["step"] == found["kept_step"])
    assert kept["validation"] == found["validation"]
    assert set(found["validation"]["classes"]) == set(CLASS_NAMES)
    picture = (tmp_path / "out" / "model.curve.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert np.frombuffer(picture[16:24], ">u4").tolist() == [1200, 675]


def test_one_seed_gives_the_same_bits_and_another_seed_does_not(job_of, shapes, tmp_path):
    network = NETWORK | {"dropout": 0.2}
    pair = shapes(1)
    before = torch.random.get_rng_state()
    results = []
    for number, seed in enumerate((5, 5, 6)):
        job = job_of(pairs=[pair], seed=seed, architecture=network, output=str(tmp_path / f"{number}.safetensors"))
        train(job)
        results.append(load_file(job.output))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert not torch.equal(results[0]["head.weight"], results[2]["head.weight"])


def test_what_is_held_in_memory_does_not_change_the_result(job_of, shapes, tmp_path):
    pair = shapes(1)
    tensors = []
    for cache in (1, 2**30):
        job = job_of(pairs=[pair], cache=cache, output=str(tmp_path / f"{cache}.safetensors"))
        train(job)
        tensors.append(load_file(job.output))
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


def test_the_ignored_value_is_no_class_id_and_is_not_counted(job_of, make_pair, tmp_path):
    image, target = render((0, 0), (160, 160), seed=1)
    image[:, :, 80:] = 0
    marked = np.where(np.arange(160) < 80, target, 255).astype("u1")
    found = train(job_of(pairs=[make_pair(image, marked)], validation=[make_pair(image, marked)], ignore=255))
    assert found["validation"]["ignored"] > 0
    with pytest.raises(InputError, match="holds the value 255"):
        train(job_of(pairs=[make_pair(image, marked)]))


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_validation_is_what_the_whole_volume_would_give(job_of, make_pair, padding):
    image, target = render((0, 0), (96, 96), seed=2)
    network = NETWORK | {"padding": padding}
    job = job_of(validation=[make_pair(image, target)], patch=(96, 96), architecture=network)
    if padding == "same":
        job = job_of(validation=[make_pair(image, target)], patch=(32, 32), architecture=network)
    found = train(job)
    header, model = read_header(job.output), load_model(job.output)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (header.normalisation.mean, header.normalisation.std))
    shown = np.pad(image, [(0, 0), (32, 32), (32, 32)], mode="reflect")
    logits = model(((torch.from_numpy(shown) - mean) / std)[None])[0, 0].numpy()
    away = (160 - logits.shape[0]) // 2
    classes = (logits[32 - away :, 32 - away :][:96, :96] >= 0).astype("u1")
    assert found["validation"] == metrics(ConfusionStatistics.of(classes, target, classes=2), CLASS_NAMES)


def test_a_flat_network_learns_from_a_stack_with_a_voxel_size(job_of, tmp_path):
    image, target = render((0, 0), (48, 48), seed=1)
    space = Space("zyx", (2.0, 0.5, 0.25), (0.0,) * 3, "micrometer")
    spec = small_spec((4, 48, 48), channels=3, shard=(4, 48, 48), space=space)
    create_filled(tmp_path / "i", spec, np.repeat(image[:, None], 4, axis=1))
    publish(tmp_path / "i", name="i", axes="czyx", levels=[("0", space)], classes=None)
    save(tmp_path / "t", np.repeat(target[None], 4, axis=0), "zyx", chunks=16)
    job = job_of(pairs=[Pair(image=str(tmp_path / "i"), target=str(tmp_path / "t"))])
    train(job)
    header = read_header(job.output)
    assert (header.axes, header.voxel_size, header.unit) == ("yx", (0.5, 0.25), "micrometer")


def test_a_solid_network_with_several_classes_learns_from_a_stack(job_of, make_pair):
    image = np.random.default_rng(0).random((12, 20, 20)).astype("f4")
    target = (image * 3).astype("u1")
    job = job_of(
        pairs=[make_pair(image, target, "zyx")],
        architecture={"dims": 3, "classes": 3, "depth": 2, "width": 2},
        classes=("low", "middle", "high"),
        patch=(4, 6, 6),
        steps=2,
        batch=1,
    )
    assert train(job)["validation"] is None
    assert read_header(job.output).axes == "zyx"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"output": "model.pt"},
            r"output model\.pt: a checkpoint is a \.safetensors file; name it model\.safetensors",
        ),
        ({"patch": (30, 31)}, r"patch 30,31: .*legal are 2 \+ k \* 2, the nearest 30 and 32"),
        ({"patch": (2, 2), "batch": 1}, r"patch 2,2, batch 1: one voxel at the lowest level cannot be normalised"),
        ({"classes": ("cell", "cell")}, "the checkpoint would not be valid: .*class names must be distinct"),
        ({"patch": (192, 192)}, r"pairs\.0 .*the largest patch is 160,160"),
        ({"architecture": NETWORK | {"in_channels": 1}}, r"pairs\.0 .*in_channels is 1; make it 3"),
        ({"architecture": NETWORK | {"classes": 2}, "ignore": 1, "device": "cuda"}, "torch finds no GPU"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(job_of, tmp_path, changes, message):
    if changes.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU, so it is not refused")
    with pytest.raises(InputError, match=message):
        train(job_of(**changes))
    assert not (tmp_path / "out").exists()


def test_a_folder_in_the_checkpoint_s_place_is_refused(job_of, tmp_path):
    (tmp_path / "taken.safetensors").mkdir()
    with pytest.raises(InputError, match="there is a folder of that name"):
        train(job_of(output=str(tmp_path / "taken.safetensors")))


def test_a_checkpoint_that_could_not_be_written_is_refused_before_training(job_of, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"nothing can be written in .*file; choose another folder"):
        train(job_of(output=str(tmp_path / "file" / "deep" / "model.safetensors")))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
def test_training_on_a_gpu_gives_a_checkpoint_for_the_cpu(job_of, shapes):
    job = job_of(device="cuda", validation=[shapes(2)])
    found = train(job)
    assert found["validation"]["voxels"] > 0
    assert next(load_model(job.output).parameters()).device.type == "cpu"


def test_what_is_trained_on_cannot_measure_the_network(job_of, shapes):
    pair = shapes(1)
    with pytest.raises(InputError, match=r"image0\.zarr: under `pairs` and under `validation`"):
        train(job_of(pairs=[pair], validation=[pair]))


def test_a_checkpoint_is_replaced_at_the_end_only(job_of, tmp_path):
    job = job_of()
    train(job)
    first = digest(job.output)

    class Interrupting(Recorder):
        def progress(self, done, failed=0):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(job.model_copy(update={"seed": 1}), listener=Interrupting())
    assert digest(job.output) == first
    again = job.model_copy(update={"seed": 1, "restart": True})
    assert train(again)["digest"] == digest(job.output) != first


def test_a_place_that_cannot_be_written_is_an_environment_fault(job_of, tmp_path):
    folder = tmp_path / "out" / "model.metrics.json"
    folder.mkdir(parents=True)
    with pytest.raises(EnvironmentFaultError, match="what was measured cannot be written"):
        train(job_of(steps=1))


def job_file(job, tmp_path, **changes):
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job.model_dump(mode="json") | changes))
    return str(path)


def test_the_command_trains_from_a_job_file_and_options_win(job_of, tmp_path, capsys):
    job = job_of()
    assert run(["train", "--config", job_file(job, tmp_path), "--steps", "3", "--json"]) == 0
    out, error = capsys.readouterr()
    found = json.loads(out)
    assert found["steps"] == 3
    assert found["digest"] == digest(job.output)
    assert "step 3: loss" in error


def test_the_command_says_what_it_made(job_of, shapes, tmp_path, capsys):
    job = job_of(validation=[shapes(2)])
    assert run(["train", "--config", job_file(job, tmp_path)]) == 0
    out, error = capsys.readouterr()
    assert out == ""
    assert "model.safetensors: trained" in error
    assert "IoU ellipse" in error
    assert f"overtile segment VOLUME.zarr OUT.zarr --model {job.output}" in error


def test_an_unknown_key_is_refused_with_the_nearest_one(job_of, tmp_path, capsys):
    assert run(["train", "--config", job_file(job_of(), tmp_path, learning_rat=1)]) == 2
    assert "unknown key 'learning_rat'; did you mean 'learning_rate'?" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_train_is_a_public_name():
    assert pipeline.train is train
    assert "train" in pipeline.__all__
