import pytest

from pipeline.config import EvaluateJob, load_job
from pipeline.errors import InputError, PlanError
from pipeline.jobs.evaluate_record import cluster_of

SMALLEST = {"prediction": "p.zarr", "target": "t.zarr"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"boundary": "-1,2"}, r"give distances from 0"),
        ({"boundary": ()}, "give distances from 0"),
        ({"boundary": "1,5", "boundary_bound": 4}, "boundary_bound 4 is less than a distance of boundary"),
        ({"boundary_bound": 0}, "--boundary-bound: Input should be greater than 0"),
        ({"iou": "0.5,1"}, "give numbers from 0 up to, but without, 1"),
        ({"iou": ()}, "give numbers from 0"),
        ({"instances": True, "isbi": 1}, "instances and isbi exclude each other"),
        ({"instances": True, "probabilities": True}, "instances and probabilities exclude each other"),
        ({"isbi": 1, "ignore": 3}, "isbi knows no ignored voxels"),
        ({"isbi": 1, "within": "mask.zarr"}, "isbi knows no ignored voxels"),
        ({"isbi": 1, "holes": "skip"}, "isbi knows no ignored voxels"),
        ({"group_attribute": "kind"}, "group_attribute is of the polygons of groups"),
        ({"threshold": 1}, "--threshold: Input should be less than 1"),
        ({"holes": "zero"}, "--holes: Input should be 'error', 'background' or 'skip'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        load_job(EvaluateJob, SMALLEST | settings)


def test_settings_are_read_as_they_are_written():
    job = load_job(EvaluateJob, SMALLEST | {"boundary": "1, 2.5", "iou": "0.5", "chunk": "64,32"})
    assert (job.boundary, job.iou, job.chunk) == ((1.0, 2.5), (0.5,), (64, 32))
    assert not job.on_workers


@pytest.mark.parametrize(
    "settings", [{"workers": 1}, {"scheduler": "tcp://127.0.0.1:8786"}, {"cluster": "kubernetes"}]
)
def test_workers_are_those_that_segment_would_get(settings):
    job = load_job(EvaluateJob, SMALLEST | settings | {"memory_limit": "3GiB"})
    assert job.on_workers
    spec = cluster_of(job)
    assert spec.memory_limit == 3 << 30
    assert spec.address == settings.get("scheduler")
    assert spec.gpus == ()


def test_workers_are_not_asked_of_a_cluster_that_has_its_own():
    with pytest.raises(PlanError, match="--workers is for workers on this machine"):
        cluster_of(load_job(EvaluateJob, SMALLEST | {"workers": 1, "scheduler": "tcp://127.0.0.1:8786"}))
