import pytest

from flows.naming import name_of
from pipeline.config import SegmentJob

JOB = SegmentJob(input="a.zarr", output="s3://bucket/results/nuclei.zarr", model="m.safetensors")


@pytest.mark.parametrize(
    ("flow", "parameters", "name"),
    [
        ("segment", {"job": JOB, "regions": 3}, "segment nuclei.zarr"),
        ("segment", {"job": JOB.model_dump(mode="json")}, "segment nuclei.zarr"),
        ("evaluate", {"job": {"prediction": "/data/p.zarr", "out": None}}, "evaluate p.zarr"),
        ("collection", {"job": {"output": "/data/results/"}}, "collection results"),
        ("verify", {"output": "/data/p.zarr", "repair": False}, "verify p.zarr"),
        ("other", {}, "other"),
    ],
)
def test_a_run_is_called_by_its_flow_and_what_it_is_about(flow, parameters, name):
    assert name_of(flow, parameters) == name
