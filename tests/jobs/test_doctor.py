"""What the doctor says of machines and servers that are imagined, one table a check."""

import json
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from clusters import certificates

from pipeline.config.doctor import DoctorJob
from pipeline.errors import StoreError
from pipeline.jobs.doctor import FAILED, OK, WARNING, doctor, places
from pipeline.jobs.doctor.doctor import check_workers
from pipeline.jobs.doctor.hardware import (
    Gpus,
    check_cores,
    check_gpus,
    check_memory,
    check_shared_memory,
    find_gpus,
    shared_memory,
)
from pipeline.jobs.doctor.places import Disk, check_disk, check_store, find_disk, kind_of
from pipeline.jobs.doctor.servers import (
    Server,
    check_prefect,
    check_scheduler,
    find_prefect,
    judge_census,
    prefect_settings,
)
from pipeline.jobs.doctor.software import (
    EXTRAS,
    check_allocator,
    check_combinations,
    check_extras,
    check_versions,
    installed_versions,
    requirements,
)
from pipeline.run.cluster.versions import Census
from pipeline.run.machine import Machine
from pipeline.store import LocalPlace

GIB = 1 << 30
OVERTILE = str(Path(sys.executable).with_name("overtile"))
GOOD = {
    "overtile": "0.1.0", "torch": "2.13.0", "zarr": "3.1.6", "dask": "2026.8.0", "distributed": "2026.8.0",
    "prefect": "3.8.8", "numpy": "2.4.6", "fastapi": "0.150.0", "sqlalchemy": "2.0.58", "numcodecs": "0.16.6",
}  # fmt: skip


def assert_says(finding, state, said):
    assert (finding.state, bool(finding.advice)) == (state, state != OK), finding
    assert said in f"{finding.found} {finding.advice}"


# --- Software


@pytest.mark.parametrize(
    ("changed", "state", "said"),
    [
        ({}, OK, "python 3.11.7, overtile 0.1.0, torch 2.13.0, zarr 3.1.6, dask 2026.8.0"),
        ({"overtile": None}, OK, "overtile not installed"),
        ({"torch": None}, FAILED, "install torch"),
        ({"distributed": "2026.7.1"}, FAILED, "install the same version of both"),
    ],
)
def test_versions(changed, state, said):
    versions = {name: version for name, version in (GOOD | changed).items() if version}
    assert_says(check_versions(versions, "3.11.7"), state, said)


@pytest.mark.parametrize(
    ("changed", "needed", "state", "said"),
    [
        ({}, ["fastapi<0.151", "torch>=2.10", "nothing; extra == 'dev'"], OK, "no combination that is known"),
        (
            {"fastapi": "0.151.0"},
            [],
            FAILED,
            "fastapi 0.151.0 with prefect 3.8.8: the Prefect server does not start",
        ),
        (
            {"sqlalchemy": "2.1.9"},
            [],
            FAILED,
            "sqlalchemy 2.1.9 with prefect 3.8.8: the Prefect server's scheduler",
        ),
        (
            {"numcodecs": "0.15.1"},
            [],
            FAILED,
            "numcodecs 0.15.1 with overtile 0.1.0: a Zarr of version 2 can run code",
        ),
        ({"torch": "2.9.0"}, [], FAILED, "torch 2.9.0 with overtile 0.1.0: torch.load runs code"),
        ({}, ["zarr>=3.2"], FAILED, "zarr 3.1.6, but overtile needs >=3.2"),
        ({}, ["Some.Thing>=1"], FAILED, "some-thing not installed, but overtile needs >=1"),
        ({"fastapi": "0.151.0", "prefect": "3.9.1"}, [], OK, "no combination"),
    ],
)
def test_combinations(changed, needed, state, said):
    assert_says(check_combinations(GOOD | changed, needed), state, said)


def test_what_is_known_to_be_bad_is_said_once():
    finding = check_combinations(GOOD | {"fastapi": "0.165.0"}, ["fastapi<0.151,>=0.139"])
    assert finding.found.count("fastapi") == 1
    assert "constraints.txt" in finding.advice


def test_the_installed_packages_are_those_that_are_asked_for():
    versions = installed_versions()
    assert versions["zarr"].startswith("3.")
    assert any(text.startswith("zarr") for text in requirements())
    assert check_combinations(versions, requirements()).state == OK


@pytest.mark.parametrize(
    ("packages", "state", "said"),
    [
        ((), OK, "installed: none; not: geo"),
        (("obstore", "h5py"), OK, "installed: hdf5, s3; not: geo"),
        (("rasterio",), WARNING, "pip install 'overtile[geo]': a part of it is missing"),
        (tuple(name for names in EXTRAS.values() for name in names), OK, "slurm, kubernetes"),
    ],
)
def test_extras(packages, state, said):
    versions = {name.replace(".", "-"): "1" for name in packages}
    assert_says(check_extras(versions), state, said)


@pytest.mark.parametrize(
    ("environment", "mallopt", "state", "said"),
    [
        ({}, True, OK, "glibc"),
        ({}, False, WARNING, "up to 1.5 times slower"),
        ({"LD_PRELOAD": "/usr/lib/libjemalloc.so.2:/x.so"}, False, OK, "/usr/lib/libjemalloc.so.2, preloaded"),
    ],
)
def test_allocator(environment, mallopt, state, said):
    assert_says(check_allocator(environment, mallopt), state, said)


# --- Hardware


@pytest.mark.parametrize(
    ("environment", "installed", "state", "said"),
    [
        ({}, 4, OK, "4, a processor"),
        ({}, 64, OK, "4 of 64 (by affinity or the container's quota)"),
        ({"OMP_NUM_THREADS": "4"}, 4, OK, "OMP_NUM_THREADS=4"),
        ({"OMP_NUM_THREADS": "64"}, 64, WARNING, "OMP_NUM_THREADS=64: unset it, or give at most 4"),
        ({"MKL_NUM_THREADS": "all"}, 4, WARNING, "MKL_NUM_THREADS=all"),
    ],
)
def test_cores_against_threads(environment, installed, state, said):
    assert_says(check_cores(Machine(4, GIB, (), "a processor"), environment, installed), state, said)


@pytest.mark.parametrize(
    ("memory", "free", "state", "said"),
    [
        (8 * GIB, 6 * GIB, OK, "8.0 GiB, 6.0 GiB of it free"),
        (8 * GIB, 60 * GIB, OK, "8.0 GiB, 8.0 GiB of it free"),
        (GIB, GIB, WARNING, "a worker needs about 1 GiB"),
        (8 * GIB, GIB // 2, WARNING, "end what uses the memory"),
    ],
)
def test_memory(memory, free, state, said):
    assert_says(check_memory(Machine(4, memory, (), ""), free), state, said)


@pytest.mark.parametrize(
    ("size", "state", "said"),
    [(None, OK, "none"), (4 * GIB, OK, "/dev/shm of 4096 MiB"), (64 << 20, WARNING, "docker run --shm-size 1g")],
)
def test_shared_memory(size, state, said):
    assert_says(check_shared_memory(size), state, said)


def test_shared_memory_is_looked_at():
    assert (shared_memory() or 0) >= 0
    assert (shared_memory() is None) == (not Path("/dev/shm").is_dir())


CARD = ("NVIDIA H200, 143771 MiB",)


@pytest.mark.parametrize(
    ("gpus", "state", "said"),
    [
        (Gpus(), OK, "none; networks run on the cores"),
        (Gpus(error="Failed to initialize NVML"), FAILED, "the NVIDIA driver does not answer: Failed to"),
        (Gpus(CARD, "580.65", "", "13.0"), OK, "1: NVIDIA H200, 143771 MiB; driver 580.65, torch for CUDA 13.0"),
        (Gpus(CARD, "580.65", "", ""), WARNING, "torch is for CPUs only"),
        (Gpus(CARD, "580.65", "", "13.0", ""), WARNING, "CUDA_VISIBLE_DEVICES hides them all"),
        (Gpus(CARD, "580.65", "", "13.0", "0"), OK, "1: NVIDIA"),
        (Gpus(CARD, "535.1", "", "13.0"), FAILED, "CUDA 13.0 needs the driver 580 or later"),
        (Gpus(CARD, "535.1", "", "12.8"), OK, "driver 535.1"),
        (Gpus(CARD, "535.1", "", "99.1"), OK, "driver 535.1"),
    ],
)
def test_gpus(gpus, state, said):
    assert_says(check_gpus(gpus), state, said)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo '580.65, NVIDIA H200, 143771 MiB'", (CARD, "580.65", "")),
        ("echo 'No devices were found'; exit 6", ((), "", "No devices were found")),
        ("true", ((), "", "")),
    ],
)
def test_the_driver_is_asked(script, expected, tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_gpus({"CUDA_VISIBLE_DEVICES": "1"})
    assert (found.listed, found.driver, found.error, found.visible) == (*expected, "1")


def test_a_program_that_is_none_is_no_driver(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text("\0")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Exec format error" in find_gpus({}).error


# --- Places


@pytest.mark.parametrize(
    ("disk", "state", "said"),
    [
        (Disk("/data", 100 * GIB, "ext4", True), OK, "/data: 100.0 GiB free, ext4"),
        (Disk("/data", 100 * GIB, "", True), OK, "unknown file system"),
        (Disk("/data", 100 * GIB, "ext4", False), FAILED, "you may not write there"),
        (Disk("/data", GIB // 2, "ext4", True), FAILED, "there is no room"),
        (Disk("/data", 5 * GIB, "ext4", True), WARNING, "there is little room"),
        (Disk("/data", 100 * GIB, "nfs4", True), WARNING, "mount it hard, without nolock"),
        (Disk("/data", 100 * GIB, "tmpfs", True), WARNING, "it is memory"),
        (Disk("/data", 100 * GIB, "overlay", True), WARNING, "gone with the container"),
        (Disk("/data", 100 * GIB, "lustre", True), OK, "lustre"),
    ],
)
def test_disk(disk, state, said):
    assert_says(check_disk(disk), state, said)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/home/me", "ext4"),
        ("/data/x", "nfs4"),
        ("/data2", "ext4"),
        ("/data/fast/x", "xfs"),
        ("/hid", "b"),
    ],
)
def test_a_path_is_on_the_nearest_mount_above_it(path, kind):
    mounts = [("/", "ext4"), ("/data", "nfs4"), ("/data/fast", "xfs"), ("/hid", "a"), ("/hid", "b")]
    assert kind_of(Path(path), mounts) == kind
    assert kind_of(Path(path), []) == ""


def test_the_disk_of_a_path_that_is_not_there_is_its_parents(tmp_path):
    found = find_disk(tmp_path / "a" / "b.zarr")
    assert (found.path, found.writable) == (str(tmp_path), True)
    assert found.free > 0


def test_a_store_that_keeps_what_it_is_given(tmp_path):
    assert_says(check_store(str(tmp_path)), OK, "creates, reads and removes")
    assert list(tmp_path.iterdir()) == []


class Lying(LocalPlace):
    """A folder that does one thing wrong."""

    wrong = ""

    def create(self, key, data):
        made = super().create(key, data)
        return {"never": False, "always": True}.get(self.wrong, made)

    def get(self, key):
        return b"other" if self.wrong == "get" else super().get(key)

    def stats(self, keys):
        if self.wrong == "stats":
            return [None]
        if self.wrong == "down":
            raise StoreError("503")
        return super().stats(keys)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("never", "could not be created"),
        ("always", "two processes could write to one result"),
        ("get", "does not read as it was written"),
        ("stats", "size is not what was written"),
        ("down", "503"),
    ],
)
def test_a_store_that_does_something_wrong(wrong, said, tmp_path, monkeypatch):
    monkeypatch.setattr(Lying, "wrong", wrong)
    monkeypatch.setattr(places, "open_place", Lying)
    assert_says(check_store(str(tmp_path)), FAILED, said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [("ftp://host/x", "addresses are a path or begin with"), ("/proc/nowhere/at/all", "/proc/nowhere")],
)
def test_a_store_that_cannot_be_reached(url, said):
    assert_says(check_store(url), FAILED, said)


# --- Cluster and servers


@pytest.mark.parametrize(
    ("name", "state", "said"),
    [
        ("local", OK, "workers on this machine"),
        ("slurm", WARNING, "there is no sbatch here"),
        ("kubernetes", FAILED, "TLS needs --tls-ca"),
        ("nowhere.yaml", FAILED, "there is no such cluster file"),
    ],
)
def test_cluster(name, state, said, tmp_path):
    assert_says(check_workers(name, None, {"PATH": str(tmp_path)}), state, said)


def test_cluster_with_what_it_needs(tmp_path):
    (tmp_path / "sbatch").touch(mode=0o755)
    found = check_workers("slurm", None, {"PATH": str(tmp_path)})
    assert_says(found, OK, "slurm: 0 to 4 workers of 4 cores")
    assert_says(check_workers("kubernetes", certificates(tmp_path / "tls"), {}), OK, "kubernetes: 0 to 4 workers")


HERE = {
    "overtile": "0.1.0",
    "distributed": "2026.8.0",
    "torch": "2.13",
    "zarr": "3.1.6",
    "numpy": "2.4",
    "python": "3.11.7",
}


def census(*, scheduler="2026.8.0", address="tcp://127.0.0.1:1", error="", **worker):
    workers = {} if error or worker.pop("none", False) else {"w": HERE | worker}
    return Census(HERE, {"distributed": scheduler, "python": "3.11.7"}, workers, address, error)


@pytest.mark.parametrize(
    ("found", "state", "said"),
    [
        (census(), OK, "1 worker(s), distributed 2026.8.0"),
        (census(scheduler="2026.7.0"), FAILED, "the scheduler has distributed 2026.7.0, here it is 2026.8.0"),
        (census(distributed="2026.7.0"), FAILED, "worker w has distributed 2026.7.0"),
        (census(overtile="0.0.9"), FAILED, "worker w has overtile 0.0.9, here it is 0.1.0"),
        (census(zarr=""), FAILED, "worker w has zarr not installed"),
        (census(torch="2.12"), WARNING, "worker w has torch 2.12, here it is 2.13"),
        (census(python="3.12.1"), WARNING, "worker w has python 3.12.1"),
        (census(python="3.11.9"), OK, "1 worker(s)"),
        (census(none=True), WARNING, "it has no workers"),
        (census(error="ModuleNotFoundError: pipeline"), FAILED, "install overtile in the workers' environment"),
        (census(address="tcp://10.0.0.5:8786"), WARNING, "it listens at tcp://10.0.0.5:8786 without TLS"),
        (census(address="tls://10.0.0.5:8786"), OK, "1 worker(s)"),
    ],
)
def test_scheduler(found, state, said):
    assert_says(judge_census("tcp://127.0.0.1:1", found), state, said)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://10.0.0.1:8786", "a plain connection to another machine is refused"),
        ("tls://h:1", "TLS needs --tls-ca"),
    ],
)
def test_a_scheduler_that_may_not_be_talked_to_is_not(address, said):
    assert_says(check_scheduler(address, None), FAILED, said)


@pytest.mark.parametrize(
    ("server", "state", "said"),
    [
        (Server(), OK, "no PREFECT_API_URL"),
        (Server("http://127.0.0.1:4200/api", error="refused"), FAILED, "does not answer (refused)"),
        (Server("http://127.0.0.1:4200/api", "3.8.8", open=True, heard=("127.0.0.1",)), OK, "version 3.8.8"),
        (Server("http://127.0.0.1:4200/api", "3.8.8", open=True, heard=("0.0.0.0",)), WARNING, "--host 127.0.0.1"),
        (Server("http://localhost:4200/api", "3.8.8", heard=("::",)), OK, "version 3.8.8"),
        (Server("http://127.0.0.1:4200/api", "3.9.1", open=True), WARNING, "use the same release"),
        (Server("https://prefect.example.org/api", "3.8.1"), OK, "version 3.8.1"),
        (Server("https://prefect.example.org/api", "3.8.8", open=True), FAILED, "anybody who reaches it"),
        (Server("http://10.0.0.5:4200/api", "3.8.8"), WARNING, "put it behind https"),
        (Server("http://10.0.0.5:4200/api", "3.8.8", open=True), FAILED, "put it behind https"),
        (Server("https://prefect.example.org/api", "3.7.0"), WARNING, "use the same release"),
    ],
)
def test_prefect(server, state, said):
    assert_says(check_prefect(server, "3.8.8"), state, said)


@contextmanager
def prefect(*, login):
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            known = not login or self.headers.get("Authorization") == "Basic YWRtaW46cGFzcw=="
            self.send_response(200 if known and self.path == "/api/admin/version" else 401)
            self.end_headers()
            self.wfile.write(json.dumps("3.8.8").encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api/"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("login", "own", "expected"),
    [
        (False, {}, ("3.8.8", "", True)),
        (True, {"PREFECT_API_AUTH_STRING": "admin:pass"}, ("3.8.8", "", False)),
        (True, {"PREFECT_API_AUTH_STRING": "admin:wrong"}, ("", "HTTP Error 401: Unauthorized", False)),
        (True, {"PREFECT_API_KEY": "wrong"}, ("", "HTTP Error 401: Unauthorized", False)),
    ],
)
def test_a_server_is_asked_with_and_without_a_login(login, own, expected):
    with prefect(login=login) as url:
        found = find_prefect({"PREFECT_API_URL": url} | own)
    assert (found.version, found.error, found.open) == expected
    assert found.url == url.rstrip("/")
    assert set(found.heard) <= {"127.0.0.1"}


def test_a_server_that_is_down_and_an_address_that_is_none():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert "refused" in find_prefect({"PREFECT_API_URL": f"http://127.0.0.1:{closed.getsockname()[1]}"}).error
    assert "begins with neither" in find_prefect({"PREFECT_API_URL": "file:///etc/passwd"}).error
    assert find_prefect({}) == Server()


def test_prefects_own_settings_are_read_from_its_profile(tmp_path):
    (tmp_path / "profiles.toml").write_text(
        'active = "a"\n[profiles.a]\nPREFECT_API_URL = "http://a"\n[profiles.b]\nPREFECT_API_URL = "http://b"\n'
    )
    home = {"PREFECT_HOME": str(tmp_path)}
    assert prefect_settings(home)["PREFECT_API_URL"] == "http://a"
    assert prefect_settings(home | {"PREFECT_PROFILE": "b"})["PREFECT_API_URL"] == "http://b"
    assert prefect_settings(home | {"PREFECT_API_URL": "http://c"})["PREFECT_API_URL"] == "http://c"
    (tmp_path / "profiles.toml").write_text("[")
    assert "PREFECT_API_URL" not in prefect_settings(home)


# --- All together


def test_every_check_is_made_once(tmp_path):
    job = DoctorJob(path=str(tmp_path), store=str(tmp_path), scheduler="tcp://10.0.0.1:1")
    found = list(doctor(job, {"PREFECT_HOME": str(tmp_path)}))
    assert [finding.name for finding in found] == [
        "versions", "combinations", "extras", "allocator", "cores", "memory", "shared memory", "gpus", "disk", "store",
        "cluster", "scheduler", "prefect",
    ]  # fmt: skip
    assert {finding.state for finding in found} <= {OK, WARNING, FAILED}
    assert all(set(finding.to_json()) == {"name", "state", "found", "advice"} for finding in found)


@pytest.mark.parametrize(("store", "code", "ok"), [("", 0, True), ("ftp://host/x", 2, False)])
def test_the_command_exits_with_2_if_a_check_failed(store, code, ok, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    command = [OVERTILE, "doctor", "--store", store or str(tmp_path)]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"]) == (code, ok)
    assert ("1 check(s) failed: store" in done.stderr) is not ok
    table = subprocess.run(command, capture_output=True, text=True, check=False)
    assert table.returncode == code
    assert [line.split()[0] for line in table.stdout.splitlines() if line.startswith(("ok", "warn", "fail"))] == [
        check["state"] for check in told["checks"]
    ]
