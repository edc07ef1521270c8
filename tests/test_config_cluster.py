"""Cluster files: every key, every refusal, and the templates that are shipped."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.config import SegmentJob
from pipeline.config.cluster import (
    KINDS,
    ClusterFields,
    KubernetesCluster,
    SlurmCluster,
    WorkerRange,
    load_cluster,
    seconds_of,
)
from pipeline.errors import InputError

TEMPLATES = Path(__file__).parents[1] / "deployments" / "clusters"
GIB = 1 << 30


@pytest.fixture
def write(tmp_path):
    def write(text):
        (tmp_path / "cluster.yaml").write_text(text)
        return str(tmp_path / "cluster.yaml")

    return write


def test_this_machine_is_no_site():
    assert load_cluster("local") is None


@pytest.mark.parametrize(("kind", "model"), [("slurm", SlurmCluster), ("kubernetes", KubernetesCluster)])
def test_a_kind_alone_stands_for_its_defaults(kind, model):
    assert load_cluster(kind) == model()
    assert load_cluster(kind).workers == WorkerRange(min=0, max=4)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("slurm.yaml", SlurmCluster(
            workers=WorkerRange(min=0, max=16), cores=8, memory=32 * GIB, queue="cpu", account="my-project",
            walltime="08:00:00", shared="~/.overtile", scratch="/tmp", logs="~/overtile-logs",
            prologue=("module purge",),
        )),
        ("slurm-gpu.yaml", SlurmCluster(
            workers=WorkerRange(min=1, max=8), cores=8, memory=48 * GIB, gpu=True, queue="gpu", account="my-project",
            walltime="04:00:00", interface="ib0", shared="~/.overtile", scratch="/tmp",
            directives=("--constraint=a100",), prologue=("module purge", "module load cuda"),
        )),
        ("kubernetes.yaml", KubernetesCluster(
            image="registry.example.org/overtile:cpu", namespace="overtile", workers=WorkerRange(min=0, max=16),
            cores=4, memory=16 * GIB, tls_secret="overtile-tls", credentials=("object-store",),
            claims={"images": "/data"},
        )),
        ("kubernetes-gpu.yaml", KubernetesCluster(
            image="registry.example.org/overtile:cuda", namespace="overtile", workers=WorkerRange(min=0, max=8),
            cores=8, memory=48 * GIB, gpu=True, credentials=("object-store",),
            nodes={"nvidia.com/gpu.present": "true"},
        )),
    ],
)  # fmt: skip
def test_the_templates_say_what_they_mean(template, expected):
    assert load_cluster(str(TEMPLATES / template)) == expected


def test_every_cluster_file_that_is_shipped_is_one_of_these():
    kinds = [path.name for path in TEMPLATES.glob("*.yaml") if "kind: NetworkPolicy" not in path.read_text()]
    assert sorted(kinds) == ["kubernetes-gpu.yaml", "kubernetes.yaml", "slurm-gpu.yaml", "slurm.yaml"]


def test_one_number_is_a_fixed_number_of_workers(write):
    assert load_cluster(write("kind: slurm\nworkers: 3")).workers == WorkerRange(min=3, max=3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workers: 3", "kind: None is not a kind of cluster; known are slurm, kubernetes"),
        ("kind: pbs", "kind: 'pbs' is not a kind of cluster"),
        ("kind: slurm\nqeue: x", "unknown key 'qeue'; did you mean 'queue'"),
        ("kind: slurm\nzzz: x", "unknown key 'zzz'; known are"),
        ("kind: slurm\nworkers: {min: 1, max: 2, most: 3}", "workers.most: Extra inputs are not permitted"),
        ("kind: slurm\nworkers: {min: 3, max: 2}", "min 3 is more than max 2"),
        ("kind: slurm\nworkers: true", "workers: "),
        ("kind: slurm\nwalltime: '00:05:00'", "walltime 00:05:00 is too short"),
        ("kind: slurm\nwalltime: 4h", "walltime: String should match"),
        ("kind: slurm\nqueue: 'a; rm -rf x'", "queue: String should match"),
        ('kind: slurm\naccount: "a\\nb"', "account: String should match"),
        ('kind: slurm\ndirectives: ["--a\\n#SBATCH --b"]', "String should match"),
        ("kind: slurm\nshared: 'here'", "shared: String should match"),
        ("kind: slurm\nscratch: '/tmp; x'", "scratch: String should match"),
        ("kind: slurm\nmemory: many", "memory: 'many' is not a number of bytes"),
        ("kind: slurm\nimage: x", "unknown key 'image'"),
        ("kind: kubernetes\nqueue: x", "unknown key 'queue'"),
        ("kind: kubernetes\nnamespace: Ab", "namespace: String should match"),
        ("kind: kubernetes\nimage: 'a b'", "image: String should match"),
        ("kind: kubernetes\nclaims: {data: data}", "claims.data: String should match"),
        ("- slurm", "a job file is a list of `key: value` lines"),
        ("kind: [", "the job file cannot be read"),
    ],
)
def test_what_a_cluster_file_may_not_say(text, said, write):
    with pytest.raises(InputError) as raised:
        load_cluster(write(text))
    assert said in str(raised.value)
    assert "--" not in str(raised.value).partition(": ")[2].partition(said)[0], "a file has keys, not options"


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(
        InputError, match=r"--cluster nowhere\.yaml: there is no such cluster file; name one, or one of local"
    ):
        load_cluster("nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "expected"), [("00:10:00", 600), ("1:00:00", 3600), ("2-03:04:05", 183845), ("100:00:00", 360000)]
)
def test_slurms_times_are_read(text, expected):
    assert seconds_of(text) == expected


def test_a_job_names_files_so_that_a_rerun_from_elsewhere_finds_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = SegmentJob(
        input="a", output="b.zarr", model="c", cluster="my.yaml", tls_ca="d/ca", tls_cert="e", tls_key="f"
    )
    assert job.cluster == str(tmp_path / "my.yaml")
    assert (job.tls_ca, job.tls_cert, job.tls_key) == tuple(str(tmp_path / name) for name in ("d/ca", "e", "f"))
    assert SegmentJob.model_validate(job.model_dump(mode="json")) == job


@pytest.mark.parametrize("name", ["local", *KINDS])
def test_kinds_are_no_files(name):
    assert ClusterFields(cluster=name).cluster == name


def test_certificates_are_given_together():
    with pytest.raises(
        ValidationError, match="--tls-ca, --tls-cert and --tls-key are given together or not at all"
    ):
        ClusterFields(tls_ca="a", tls_key="b")
