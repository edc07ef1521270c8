import dataclasses

import pytest

from pipeline.config.cluster import KubernetesCluster, SlurmCluster, WorkerRange
from pipeline.errors import PlanError
from pipeline.run.cluster_spec import ClusterSpec, Tls, choose_workers
from pipeline.run.machine import Machine

GIB = 1 << 30


def choose(machine, **options):
    settings = {"device": "auto", "workers": None, "threads": None, "memory_limit": None, "address": None}
    return choose_workers(machine, **settings | options)


def machine(cores=8, gpus=(), memory=10 * GIB):
    return Machine(cores, memory, gpus, "a processor")


@pytest.mark.parametrize(
    ("cores", "workers", "threads"),
    [
        (1, 1, 1),
        (2, 2, 1),
        (3, 3, 1),
        (4, 4, 1),
        (5, 2, 2),
        (6, 2, 3),
        (7, 2, 3),
        (8, 2, 4),
        (9, 3, 3),
        (16, 4, 4),
        (30, 8, 3),
        (64, 16, 4),
        (192, 48, 4),
    ],
)
def test_cores_are_shared_among_processes_of_a_few_threads(cores, workers, threads):
    spec, device = choose(machine(cores))
    assert (spec.workers, spec.threads, device) == (workers, threads, "cpu")
    assert spec.workers * spec.threads <= cores
    assert spec.gpus == ()
    assert spec.address is None


@pytest.mark.parametrize(
    ("cores", "options", "workers", "threads"),
    [
        (8, {"workers": 1}, 1, 8),
        (8, {"workers": 3}, 3, 2),
        (8, {"workers": 8}, 8, 1),
        (2, {"workers": 5}, 5, 1),
        (8, {"threads": 1}, 8, 1),
        (8, {"workers": 4, "threads": 16}, 4, 16),
    ],
)
def test_what_is_asked_for_is_given(cores, options, workers, threads):
    spec, _ = choose(machine(cores), **options)
    assert (spec.workers, spec.threads) == (workers, threads)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({}, 4 * GIB),
        ({"workers": 1}, 8 * GIB),
        ({"workers": 4}, 2 * GIB),
        ({"memory_limit": 3 * GIB}, 3 * GIB),
        ({"memory_limit": 3 * GIB, "workers": 7}, 3 * GIB),
    ],
)
def test_each_worker_gets_its_share_of_most_of_the_memory(options, limit):
    spec, _ = choose(machine(8, memory=10 * GIB), **options)
    assert spec.memory_limit == limit


@pytest.mark.parametrize(
    ("gpus", "options", "device", "given", "threads"),
    [
        (("0",), {}, "cuda", ("0",), 8),
        (("0", "1", "2", "3"), {}, "cuda", ("0", "1", "2", "3"), 2),
        (("GPU-a", "MIG-b"), {"device": "cuda"}, "cuda", ("GPU-a", "MIG-b"), 4),
        (("4", "7"), {"workers": 1}, "cuda", ("4",), 8),
        (("0", "1"), {"device": "cpu"}, "cpu", (), 4),
        ((), {"device": "cpu"}, "cpu", (), 4),
        (tuple("abcdefghijkl"), {}, "cuda", tuple("abcdefghijkl"), 1),
    ],
)
def test_each_gpu_gets_one_worker(gpus, options, device, given, threads):
    spec, found = choose(machine(8, gpus), **options)
    assert found == device
    assert spec.gpus == given
    assert spec.workers == (len(given) or 2)
    assert spec.threads == threads


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ClusterSpec(1, None, 10 * GIB, (), "tcp://host:8786")),
        ({"threads": 3}, ClusterSpec(1, 3, 10 * GIB, (), "tcp://host:8786")),
        ({"memory_limit": GIB}, ClusterSpec(1, None, GIB, (), "tcp://host:8786")),
    ],
)
def test_a_cluster_with_an_address_has_its_own_workers(options, expected):
    assert choose(machine(), address="tcp://host:8786", **options) == (expected, "cpu")


SITE = SlurmCluster(workers=WorkerRange(min=1, max=6), cores=3, memory=5 * GIB)
CARDS = SITE.model_copy(update={"gpu": True})


@pytest.mark.parametrize(
    ("site", "options", "expected", "device"),
    [
        (SITE, {}, ClusterSpec(6, 3, 5 * GIB, site=SITE), "cpu"),
        (SITE, {"threads": 1}, ClusterSpec(6, 1, 5 * GIB, site=SITE), "cpu"),
        (SITE, {"memory_limit": GIB}, ClusterSpec(6, 3, GIB, site=SITE), "cpu"),
        (CARDS, {}, ClusterSpec(6, 3, 5 * GIB, site=CARDS), "cuda"),
        (CARDS, {"device": "cpu"}, ClusterSpec(6, 3, 5 * GIB, site=CARDS), "cpu"),
    ],
)
def test_workers_elsewhere_are_what_their_file_says_whatever_this_machine_has(site, options, expected, device):
    assert choose(machine(8, ("0", "1")), site=site, **options) == (expected, device)


def test_certificates_go_along():
    tls = Tls("ca", "cert", "key")
    assert choose(machine(), address="tls://h:1", tls=tls)[0].tls == tls
    assert choose(machine(), site=SITE, tls=tls)[0].tls == tls
    assert choose(machine(), tls=tls)[0].tls is None


def test_a_cluster_may_have_the_gpus_that_this_machine_has_not():
    spec, device = choose(machine(), address="tcp://host:8786", device="cuda")
    assert (spec.gpus, device) == ((), "cuda")


@pytest.mark.parametrize(
    ("gpus", "options", "said"),
    [
        ((), {"device": "cuda"}, "--device cuda: there is no GPU here"),
        (("0", "1"), {"workers": 3}, "--workers 3: one worker a GPU, and there are 2"),
        (("0",), {"workers": 2, "device": "cuda"}, "--workers 2: one worker a GPU, and there are 1"),
        ((), {"workers": 2, "address": "tcp://host:8786"}, "--workers is for workers on this machine"),
        ((), {"workers": 2, "site": SlurmCluster()}, "--workers does not go with --cluster slurm"),
        (
            (),
            {"address": "tcp://h:1", "site": KubernetesCluster()},
            "--scheduler does not go with",
        ),
        (
            ("0",),
            {"device": "cuda", "site": SlurmCluster()},
            "have no GPUs; say `gpu: true`",
        ),
    ],
)
def test_what_cannot_be_is_refused(gpus, options, said):
    with pytest.raises(PlanError, match=said):
        choose(machine(8, gpus), **options)


def test_a_spec_is_a_frozen_value():
    spec, _ = choose(machine())
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.workers = 100
