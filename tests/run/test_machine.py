import dataclasses
import json
import os
import subprocess
import sys

import psutil
import pytest

from pipeline.run.machine import this_machine

GIB = 1 << 30
ALL_CORES = len(os.sched_getaffinity(0))
ALL_MEMORY = psutil.virtual_memory().total
UNLIMITED = str(9223372036854771712)  # what version 1 says where there is no limit

LOOK = """
import dataclasses, json, sys
from pathlib import Path
from pipeline.run.machine import this_machine
for environment in json.loads(sys.argv[2]):
    print(json.dumps(dataclasses.asdict(this_machine(environment, Path(sys.argv[1])))))
assert "torch" not in sys.modules
"""


def lay_out(root, documents):
    for name, text in documents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_this_machine_is_what_it_is():
    machine = this_machine()
    assert 1 <= machine.cores <= ALL_CORES
    assert 256 << 20 <= machine.memory <= ALL_MEMORY
    assert machine.processor
    assert isinstance(machine.gpus, tuple)


def test_where_nothing_is_said_there_is_no_limit(tmp_path):
    machine = this_machine({}, tmp_path)
    assert (machine.cores, machine.memory, machine.gpus) == (ALL_CORES, ALL_MEMORY, ())
    assert machine.processor


@pytest.mark.parametrize(
    ("documents", "cores", "memory"),
    [
        ({"proc/self/cgroup": "0::/"}, ALL_CORES, ALL_MEMORY),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": f"{GIB}\n"}, ALL_CORES, GIB),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "max\n"}, ALL_CORES, ALL_MEMORY),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": UNLIMITED}, ALL_CORES, ALL_MEMORY),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1, ALL_MEMORY),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "20000 100000\n"}, 1, ALL_MEMORY),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000\n"}, ALL_CORES, ALL_MEMORY),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "990000000 1000\n"}, ALL_CORES, ALL_MEMORY),
        (
            {
                "proc/self/cgroup": "0::/slurm/job_7/step\n",
                "sys/fs/cgroup/slurm/job_7/memory.max": str(2 * GIB),
                "sys/fs/cgroup/slurm/memory.max": str(3 * GIB),
                "sys/fs/cgroup/slurm/job_7/step/cpu.max": "100000 100000",
                "sys/fs/cgroup/slurm/job_8/memory.max": "1",
            },
            1,
            2 * GIB,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/docker/ab\n2:cpu,cpuacct:/docker/ab\n0::/docker/ab\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": str(GIB),
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            1,
            GIB,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n2:cpu:/\n1:name=systemd:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            ALL_CORES,
            ALL_MEMORY,
        ),
    ],
)
def test_a_containers_limits_count(tmp_path, documents, cores, memory):
    machine = this_machine({}, lay_out(tmp_path, documents))
    assert (machine.cores, machine.memory) == (cores, memory)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nmodel name\t: other\n", "Some CPU @ 3 GHz")],
)
def test_the_processor_has_a_name(tmp_path, text, expected):
    assert this_machine({}, lay_out(tmp_path, {"proc/cpuinfo": text})).processor == expected


@pytest.mark.parametrize(
    ("build", "has_cuda"),
    [
        ("cuda: Optional[str] = '12.8'\n", True),
        ('cuda = "13.0"\nhip: Optional[str] = None\n', True),
        ("cuda: Optional[str] = None\n", False),
        ("hip = '6.0'\n", False),
    ],
)
def test_gpus_are_those_that_cuda_would_show_if_torch_is_built_for_it(tmp_path, build, has_cuda):
    table = [
        ({}, ("0", "1", "2")),
        ({"CUDA_VISIBLE_DEVICES": ""}, ()),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, ()),
        ({"CUDA_VISIBLE_DEVICES": "2"}, ("2",)),
        ({"CUDA_VISIBLE_DEVICES": "1, 0"}, ("1", "0")),
        ({"CUDA_VISIBLE_DEVICES": "0,-1,1"}, ("0",)),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8f3a,MIG-77"}, ("GPU-8f3a", "MIG-77")),
    ]
    lay_out(tmp_path / "libraries" / "torch", {"__init__.py": "raise ImportError", "version.py": build})
    lay_out(tmp_path / "root", {f"proc/driver/nvidia/gpus/{n}/information": "" for n in "abc"})
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            LOOK,
            str(tmp_path / "root"),
            json.dumps([environment for environment, _ in table]),
        ],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "libraries")},
        capture_output=True,
        text=True,
        check=True,
    )
    gpus = [tuple(json.loads(line)["gpus"]) for line in found.stdout.splitlines()]
    assert gpus == [expected if has_cuda else () for _, expected in table]


def test_without_torch_there_are_no_gpus(tmp_path):
    hidden = (
        "import importlib.util as u; find = u.find_spec; u.find_spec = lambda n: None if n == 'torch' else find(n)"
    )
    found = subprocess.run(
        [sys.executable, "-c", hidden + LOOK, str(tmp_path), json.dumps([{"CUDA_VISIBLE_DEVICES": "0"}])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(found.stdout)["gpus"] == []


def test_a_machine_is_a_frozen_value():
    machine = this_machine()
    with pytest.raises(dataclasses.FrozenInstanceError):
        machine.cores = 1000
