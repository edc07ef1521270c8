"""Jobs are loose at the edge and strict inside."""

import pytest
from pydantic import ValidationError

from pipeline.config import EvaluateJob, IngestJob, SegmentJob, TrainJob, load_job
from pipeline.errors import InputError

PATHS = {"input": "a.zarr", "output": "b.zarr", "model": "c.safetensors"}


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("chunk", "2048,1024", (2048, 1024)),
        ("chunk", [64, 32], (64, 32)),
        ("chunk", 64, (64,)),
        ("memory_limit", "4GiB", 4 << 30),
        ("memory_limit", 1000, 1000),
        ("region", "0:10,5:", ((0, 10), (5, None))),
        ("region", ":7, :", ((None, 7), (None, None))),
        ("retries", "0", 0),
        ("level", "2", 2),
    ],
)
def test_loose_values_become_strict_ones(field, text, value):
    assert getattr(load_job(SegmentJob, PATHS | {field: text}), field) == value


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("chunk", "a,b", "chunk"),
        ("chunk", "0,5", "greater than or equal to 1"),
        ("memory_limit", "4 trucks", "memory-limit"),
        ("region", "5", "is not start:stop"),
        ("region", "a:b", "region"),
        ("kind", "masks", "'labels', 'probabilities' or 'logits'"),
        ("retries", 21, "less than or equal to 20"),
        ("level", -1, "greater than or equal to 0"),
        ("pyramids", True, "unknown key 'pyramids'; did you mean 'pyramid'?"),
        ("zzz", 1, "known are input, output"),
    ],
)
def test_refusals_name_the_option(field, value, said):
    with pytest.raises(InputError) as refusal:
        load_job(SegmentJob, PATHS | {field: value})
    assert said in str(refusal.value)


def test_a_job_file_and_options_that_win_over_it(tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text("input: a.zarr\nmodel: c.safetensors\nmemory-limit: 2GiB\nchunk: 512,512\n")
    job = load_job(SegmentJob, {"output": "b.zarr", "chunk": "64,64", "tile": None}, file)
    assert (job.input, job.output, job.memory_limit, job.chunk, job.tile) == (
        "a.zarr", "b.zarr", 2 << 30, (64, 64), None,
    )  # fmt: skip
    file.write_text("- just\n- a list\n")
    with pytest.raises(InputError, match="key: value"):
        load_job(SegmentJob, {}, file)
    file.write_text("a: [unclosed")
    with pytest.raises(InputError, match="cannot be read"):
        load_job(SegmentJob, {}, file)


def test_jobs_are_frozen_and_survive_json():
    job = load_job(SegmentJob, PATHS | {"region": "0:10,5:9", "memory_limit": "1GiB"})
    with pytest.raises(ValidationError):
        job.level = 1
    assert SegmentJob.model_validate_json(job.model_dump_json()) == job
    assert SegmentJob.model_validate(job.model_dump(mode="json")) == job


def test_training_fits_its_network():
    pair = {"image": "i.zarr", "target": "t.zarr"}
    job = {
        "pairs": [pair],
        "output": "m.safetensors",
        "architecture": {"classes": 1},
        "classes": "background,cell",
    }
    assert load_job(TrainJob, job).classes == ("background", "cell")
    with pytest.raises(InputError, match="3 class names for a network of 1 outputs"):
        load_job(TrainJob, job | {"classes": ["a", "b", "c"]})
    with pytest.raises(InputError, match="axes of the network"):
        load_job(TrainJob, job | {"patch": (8, 8, 8)})
    with pytest.raises(InputError, match="pairs"):
        load_job(TrainJob, job | {"pairs": []})


def test_other_jobs_have_defaults_for_all_but_paths():
    assert load_job(IngestJob, {"source": "a.tif", "output": "a.zarr", "voxel_size": "0.5,0.5"}).voxel_size == (
        0.5,
        0.5,
    )
    assert load_job(EvaluateJob, {"prediction": "a.zarr", "target": "b.zarr"}).ignore is None
