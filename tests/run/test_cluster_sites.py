"""Clusters that SLURM and Kubernetes start, with stand-ins for the two that start real processes here."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path

import dask_jobqueue
import dask_kubernetes
import numpy as np
import psutil
import pytest
import yaml
import zarr
from clusters import SUPPORT, certificates, spawn
from distributed.security import Security
from fakes import FakeWork, value_of
from jsonschema import Draft202012Validator
from kubernetes.client.models.v1_pod_spec import V1PodSpec
from servers import family_of, kill
from waiting import wait_until

from pipeline.config.cluster import KubernetesCluster, SlurmCluster, load_cluster
from pipeline.errors import EnvironmentFaultError
from pipeline.run.cluster import connect
from pipeline.run.cluster.kubernetes import kubernetes
from pipeline.run.cluster.manifest import CERTIFICATES, autoscaler_manifest, cluster_manifest
from pipeline.run.cluster.pods import PodsError
from pipeline.run.cluster.settings import ALLOCATOR, WORKER_CONFIG, as_variables
from pipeline.run.cluster.slurm import _certificates, _security, cluster_options
from pipeline.run.cluster_spec import ClusterSpec
from pipeline.run.dispatch import Dispatcher
from pipeline.run.ledger import Ledger

GIB = 1 << 30
TEMPLATES = Path(__file__).parents[2] / "deployments" / "clusters"
DEFINITIONS = next((Path(dask_kubernetes.__file__).parent / "operator").rglob("crds"))


def spec_of(site, **settings):
    return ClusterSpec(site.workers.max, site.cores, site.memory, site=site, **settings)


def assert_does_the_work(client, folder):
    work = FakeWork(folder / "out.zarr", (40, 40), (8, 8), name="elsewhere")
    work.create()
    ledger = Ledger(folder / "journal", 25, epoch=1)
    with closing(Dispatcher(client, work, ledger, retries=0)) as dispatcher:
        assert dispatcher.process(range(25)).failed == ()
    ledger.close()
    stored = zarr.open_array(str(work.root / "0"), mode="r")[:]
    assert all(np.all(stored[work.grid.core(c).slices] == value_of(c)) for c in range(25))


# --- SLURM


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".overtile").mkdir()
    return tmp_path


@contextmanager
def rendered(site):
    with _certificates(site.shared) as security:
        options = cluster_options(spec_of(site), site, security)
        options["scheduler_options"] |= {"host": "127.0.0.1"}
        options.pop("interface", None)
        with dask_jobqueue.SLURMCluster(**options) as cluster:
            yield cluster.job_script()


@pytest.mark.parametrize(
    ("template", "lines"),
    [
        (
            "slurm.yaml",
            ["-J overtile", "-p cpu", "-A my-project", "-n 1", "--cpus-per-task=8", "--mem=33280M", "-t 08:00:00"],
        ),
        (
            "slurm-gpu.yaml",
            ["-J overtile", "-p gpu", "-A my-project", "-n 1", "--cpus-per-task=8", "--mem=49664M", "-t 04:00:00",
             "--gres=gpu:1", "--constraint=a100"],
        ),
    ],
)  # fmt: skip
def test_a_job_script_asks_for_one_worker_and_sets_its_environment(template, lines, home):
    site = load_cluster(str(TEMPLATES / template))
    with rendered(site) as script:
        asked = re.findall(r"^#SBATCH (.*)$", script, re.MULTILINE)
        assert [line for line in asked if not line.startswith(("-e ", "-o "))] == lines
        exported = dict(re.findall(r"^export (\w+)='?([^'\n]*)'?$", script, re.MULTILINE))
        assert exported == ALLOCATOR | dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "8"
        ) | as_variables(WORKER_CONFIG)
        command = script.strip().splitlines()[-1]
        assert "distributed.cli.dask_worker tls://127.0.0.1:" in command
        for part in ("--nthreads 3", f"--memory-limit {site.memory / GIB:.2f}GiB", "--nanny", "--no-dashboard",
                     "--lifetime-stagger 60s", "--protocol tls://"):  # fmt: skip
            assert part in command
        paths = re.findall(r"--tls-(?:ca-file|cert|key) (\S+)", command)
        assert len(paths) == 3
        assert {Path(path).stat().st_mode & 0o777 for path in paths} == {0o600}
        assert {Path(path).parent.parent for path in paths} == {home / ".overtile"}
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert not any(Path(path).exists() for path in paths), "a run's own certificates go with it"


def test_a_worker_leaves_before_its_time_is_up():
    site = SlurmCluster(walltime="00:10:00")
    assert "420s" in cluster_options(spec_of(site), site, Security())["worker_extra_args"]


def test_the_jobs_certificates_are_used_where_there_are_some(tmp_path):
    tls = certificates(tmp_path / "tls")
    made = _security(tls)
    for role in ("client", "scheduler", "worker"):
        found = made.get_tls_config_for_role(role)
        assert (found["ca_file"], found["cert"], found["key"]) == (tls.ca, tls.cert, tls.key)
    assert made.require_encryption


@pytest.fixture
def sbatch(home, monkeypatch):
    """SLURM's two commands: a job is a process here, of a group of its own."""
    programs = home / "bin"
    programs.mkdir()
    texts = {
        "sbatch": f'[ "$1" = --test-only ] && exec bash -n\ncp "$1" {home}/job.sh\n'
        f"setsid bash {home}/job.sh >{home}/job.log 2>&1 &\n"
        f'echo "Submitted batch job $!"; echo $! >> {home}/jobs\n',
        "scancel": f'echo "$1" >> {home}/cancelled; kill -- "-$1"\n',
    }
    for name, text in texts.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    yield home
    for job in (home / "jobs").read_text().split() if (home / "jobs").exists() else []:
        if psutil.pid_exists(int(job)):
            os.killpg(int(job), signal.SIGKILL)


@pytest.mark.slow
def test_jobs_of_slurm_do_the_work_over_tls_and_are_cancelled_in_the_end(sbatch, tmp_path):
    site = SlurmCluster(
        workers={"min": 0, "max": 1}, cores=1, memory="1GiB", shared=str(tmp_path), scratch=str(tmp_path)
    )
    with connect(spec_of(site)) as client:
        assert client.scheduler.address.startswith("tls://")
        assert_does_the_work(client, tmp_path)
        (environment,) = client.run(lambda: dict(os.environ)).values()
    assert ALLOCATOR.items() <= environment.items()
    assert environment["OMP_NUM_THREADS"] == "1"
    jobs = (sbatch / "jobs").read_text().split()
    assert (sbatch / "cancelled").read_text().split() == jobs
    wait_until(lambda: not any(map(psutil.pid_exists, map(int, jobs))))
    assert not list(tmp_path.glob(".overtile-tls*"))


def test_without_sbatch_there_is_no_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    site = SlurmCluster(shared=str(tmp_path))
    with pytest.raises(EnvironmentFaultError, match="there is no sbatch here"), connect(spec_of(site)):
        pass


@pytest.mark.slow
def test_a_job_that_slurm_refuses_is_told_at_once(sbatch, tmp_path):
    (sbatch / "bin" / "sbatch").write_text("#!/bin/bash\necho 'Invalid account' >&2; exit 1\n")
    site = SlurmCluster(shared=str(tmp_path))
    with (
        pytest.raises(EnvironmentFaultError, match="SLURM takes no such job: Invalid account"),
        connect(spec_of(site)),
    ):
        pass


# --- Kubernetes


def definition(name):
    """Return a checker of the operator's custom resource definition, as it is installed with the operator."""
    document = yaml.safe_load((DEFINITIONS / name).read_text())
    (version,) = document["spec"]["versions"]
    return Draft202012Validator(closed(version["schema"]["openAPIV3Schema"]))


def closed(schema):
    """Refuse keys that a schema does not know, as the API server drops them."""
    if isinstance(schema, dict):
        found = {key: closed(value) for key, value in schema.items()}
        if isinstance(found.get("properties"), dict) and "x-kubernetes-preserve-unknown-fields" not in found:
            found.setdefault("additionalProperties", False)
        return found
    return [closed(each) for each in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize("template", ["kubernetes.yaml", "kubernetes-gpu.yaml"])
def test_a_manifest_is_what_the_operator_takes(template):
    site = load_cluster(str(TEMPLATES / template))
    manifest = cluster_manifest("overtile-x", spec_of(site), site)
    definition("daskcluster.yaml").validate({"spec": manifest["spec"]})
    for part in ("scheduler", "worker"):
        V1PodSpec.model_validate(manifest["spec"][part]["spec"])  # refuses what Kubernetes does not know
    scaler = autoscaler_manifest("overtile-x", site)
    definition("daskautoscaler.yaml").validate({"spec": scaler["spec"]})
    assert scaler["spec"] == {"cluster": "overtile-x", "minimum": site.workers.min, "maximum": site.workers.max}
    assert manifest["kind"] == "DaskCluster"
    assert manifest["metadata"] == {"name": "overtile-x", "namespace": "overtile"}


def test_a_worker_pod_has_its_limits_its_gpu_and_its_volumes():
    site = KubernetesCluster(
        image="i:1", gpu=True, cores=3, memory=GIB, claims={"data": "/data"}, credentials=("s3",), nodes={"a": "b"},
        service_account="runner", user=1000,
    )  # fmt: skip
    pod = cluster_manifest("x", spec_of(site), site)["spec"]["worker"]["spec"]
    (container,) = pod["containers"]
    memory = str(GIB + (512 << 20))
    assert container["resources"] == {
        "requests": {"cpu": "3", "memory": memory, "nvidia.com/gpu": "1"},
        "limits": {"memory": memory, "nvidia.com/gpu": "1"},
    }
    assert [volume["name"] for volume in pod["volumes"]] == ["tls", "claim-0"]
    assert container["volumeMounts"][1] == {"name": "claim-0", "mountPath": "/data"}
    assert container["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert (pod["nodeSelector"], pod["serviceAccountName"], pod["automountServiceAccountToken"]) == (
        {"a": "b"}, "runner", True,
    )  # fmt: skip
    assert pod["securityContext"] == {"runAsNonRoot": True, "runAsUser": 1000}
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert variables["OMP_NUM_THREADS"] == "3"
    assert ALLOCATOR.items() <= variables.items()
    assert variables["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "True"


def test_a_plain_cluster_is_plain_throughout():
    site = KubernetesCluster(tls_secret=None)
    text = yaml.safe_dump(cluster_manifest("x", spec_of(site), site))
    assert "tls" not in text.lower()
    assert "tcp://x-scheduler.default.svc:8786" in text


class ProcessPods:
    """A Kubernetes cluster of one machine: what a container would run is a process, and volumes are folders."""

    def __init__(self, folder, tls):
        self.folder, self.tls, self.port, self.http = folder, tls, free_port(), free_port()
        self.processes, self.calls = [], []

    def create(self, manifest):
        self.calls.append(("create", manifest["kind"]))
        if manifest["kind"] == "DaskCluster":
            self._run(manifest["spec"]["scheduler"]["spec"])
            self._run(manifest["spec"]["worker"]["spec"])

    def _run(self, pod):
        (container,) = pod["containers"]
        host = re.compile(r"[\w-]+-scheduler\.[\w-]+\.svc:8786|0\.0\.0\.0:8786")
        here = {CERTIFICATES: str(self.tls), "$(DASK_WORKER_NAME)": "pod", ":8787": f"127.0.0.1:{self.http}"}
        words = [host.sub(f"127.0.0.1:{self.port}", word) for word in container["command"] + container["args"]]
        words = [here.get(word, word) for word in words]
        words[0] = str(Path(sys.executable).with_name("dask"))
        variables = {each["name"]: each["value"].replace(CERTIFICATES, str(self.tls)) for each in container["env"]}
        self.processes.append(spawn(words, self.folder, variables))

    def remove(self, manifest):
        self.calls.append(("remove", manifest["kind"]))
        for process in self.processes if manifest["kind"] == "DaskCluster" else ():
            family = family_of(process.pid)
            kill(family)
            process.wait()
            psutil.wait_procs(family, 10)

    def is_ready(self, service):
        return self.ask("/health") == 200

    def ask(self, path):
        """Return what the scheduler's web server answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    @contextmanager
    def reach(self, service, port):
        assert port == 8786
        yield "127.0.0.1", self.port


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.mark.slow
def test_what_the_manifest_runs_does_the_work_over_tls_and_is_removed(tmp_path):
    tls = certificates(tmp_path / "tls")
    site = KubernetesCluster(workers=1, cores=1, memory=GIB)
    pods = ProcessPods(tmp_path, tmp_path / "tls")
    with kubernetes(spec_of(site, tls=tls), site, pods=pods) as client:
        assert client.scheduler.address.startswith("tls://")
        assert_does_the_work(client, tmp_path)
        assert pods.ask("/api/v1/adaptive_target") == 200, "the operator asks this"
        assert pods.ask("/info/main/workers.html") == pods.ask("/json/counts.json") == 404, (
            "nobody else is told more"
        )
        (memory,) = client.run(lambda dask_worker: dask_worker.memory_manager.memory_limit).values()
    assert memory == GIB
    assert Counter(pods.calls) == Counter(
        [(what, kind) for what in ("create", "remove") for kind in ("DaskCluster", "DaskAutoscaler")]
    )
    assert all(process.poll() is not None for process in pods.processes)


class BrokenPods:
    """A Kubernetes cluster that does not do what it is asked for."""

    def __init__(self, *, refuses):
        self.refuses, self.removed = refuses, []

    def create(self, manifest):
        if self.refuses:
            raise PodsError("DaskCluster could not be created (no such kind)")

    def remove(self, manifest):
        self.removed.append(manifest["kind"])
        raise PodsError("could not be removed")

    def is_ready(self, service):
        return False


@pytest.mark.parametrize(
    ("refuses", "said"), [(True, "no such kind.*Dask operator is installed"), (False, "was not ready after 0 s")]
)
def test_kubernetes_that_does_not_start_it_is_told_and_nothing_is_left(refuses, said, monkeypatch):
    monkeypatch.setattr("pipeline.run.cluster.kubernetes.START", 0.0)
    site, pods = KubernetesCluster(), BrokenPods(refuses=refuses)
    with pytest.raises(EnvironmentFaultError, match=said), kubernetes(spec_of(site), site, pods=pods):
        pass
    assert pods.removed[-1] == "DaskCluster"


# --- Templates that are not cluster files


def test_the_script_for_a_standing_cluster_gives_workers_what_ours_get():
    text = (TEMPLATES / "existing.sh").read_text()
    for name, value in (ALLOCATOR | as_variables(WORKER_CONFIG)).items():
        if "PRELOAD" not in name:
            assert f"{name}={value}" in text, name
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0


def test_the_network_policy_names_the_operators_labels():
    policy = yaml.safe_load((TEMPLATES / "kubernetes-network.yaml").read_text())
    assert policy["kind"] == "NetworkPolicy"
    assert policy["spec"]["podSelector"]["matchExpressions"][0]["key"] == "dask.org/cluster-name"
