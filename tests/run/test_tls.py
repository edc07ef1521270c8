"""Which schedulers may be talked to, and with what."""

import importlib.util

import dask
import pytest
from clusters import certificates

from pipeline.config.cluster import ClusterFields, KubernetesCluster, SlurmCluster
from pipeline.errors import InputError
from pipeline.run.cluster import connect
from pipeline.run.cluster.existing import security
from pipeline.run.cluster_spec import ClusterSpec, Tls, tls_of
from pipeline.run.tls import ALLOW_PLAIN, check_address, check_cluster, is_loopback, split_address

GIB = 1 << 30


@pytest.fixture
def tls(tmp_path):
    return certificates(tmp_path / "tls")


def spec(**settings):
    return ClusterSpec(1, 1, GIB, **settings)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("tcp://127.0.0.1:8786", ("tcp", "127.0.0.1")),
        ("tls://node-3.cluster:8786", ("tls", "node-3.cluster")),
        ("localhost:8786", ("tcp", "localhost")),
        ("tls://[::1]:8786", ("tls", "::1")),
    ],
)
def test_an_address_is_scheme_and_host(address, expected):
    assert split_address(address) == expected


@pytest.mark.parametrize(
    "address", ["", "host", "http://h:1", "ucx://h:1", "inproc://x", "tcp://:1", "tcp://h:x", "://h:1"]
)
def test_other_addresses_are_refused(address):
    with pytest.raises(InputError, match="not an address of the form tcp://"):
        split_address(address)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("localhost.example.org", False), ("127.0.0.1.example.org", False), ("node", False)],
)  # fmt: skip
def test_only_this_machine_is_loopback(host, expected):
    assert is_loopback(host) is expected


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "localhost:1", "tcp://[::1]:8786"])
def test_this_machine_may_be_talked_to_in_plain(address):
    check_address(address, None, {})


@pytest.mark.parametrize(
    "address", ["tcp://10.0.0.1:8786", "node:8786", "tcp://0.0.0.0:8786", "tcp://[fe80::1]:8786"]
)
def test_a_plain_connection_to_another_machine_is_refused_and_what_to_do_is_said(address):
    with pytest.raises(
        InputError, match=r"--scheduler .*refused.*overtile certs.*--tls-ca.*OVERTILE_ALLOW_PLAIN"
    ) as raised:
        check_address(address, None, {ALLOW_PLAIN: "0"})
    assert raised.value.exit_code == 2
    assert f"tls://{address.removeprefix('tcp://')}" in str(raised.value)
    check_address(address, None, {ALLOW_PLAIN: "1"})


def test_the_refusal_comes_before_any_connection(monkeypatch):
    monkeypatch.delenv(ALLOW_PLAIN, raising=False)
    with (
        pytest.raises(InputError, match="a plain connection to another machine is refused"),
        connect(spec(address="tcp://192.0.2.1:8786")),
    ):
        pass


def test_tls_needs_certificates():
    with pytest.raises(InputError, match=r"TLS needs --tls-ca.*distributed.comm.tls.ca-file.* is not set"):
        check_address("tls://node:8786", None, {})


def test_certificates_of_dasks_own_configuration_do(tls):
    names = {"ca-file": tls.ca, "client.cert": tls.cert, "client.key": tls.key}
    with dask.config.set({f"distributed.comm.tls.{name}": path for name, path in names.items()}):
        check_address("tls://node:8786", None, {})
        found = security("tls://node:8786", None)
    assert found is not None
    assert found.require_encryption
    assert (found.tls_ca_file, found.tls_client_cert, found.tls_client_key) == (tls.ca, tls.cert, tls.key)


def test_certificates_in_dasks_configuration_may_be_texts(tls):
    with open(tls.ca) as file:
        text = file.read()
    with dask.config.set(
        {f"distributed.comm.tls.{name}": text for name in ("ca-file", "client.cert", "client.key")}
    ):
        check_address("tls://node:8786", None, {})


def test_the_jobs_certificates_are_shown(tls):
    check_address("tls://node:8786", tls, {})
    found = security("tls://node:8786", tls)
    assert found is not None
    assert found.require_encryption
    assert (found.tls_ca_file, found.tls_client_cert, found.tls_client_key) == (tls.ca, tls.cert, tls.key)
    assert security("tcp://127.0.0.1:1", tls) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, r"--tls-cert .* cannot be read \(No such file"), ("hello", "--tls-cert .* is not a PEM file")],
)
def test_certificates_that_are_none_are_refused(content, said, tls, tmp_path):
    if content:
        (tmp_path / "cert.pem").write_text(content)
    with pytest.raises(InputError, match=said):
        check_address("tls://node:8786", Tls(tls.ca, str(tmp_path / "cert.pem"), tls.key), {})


def test_a_cluster_of_pods_needs_certificates_or_an_operators_word(tls):
    check_cluster(spec(site=KubernetesCluster(), tls=tls), {})
    with pytest.raises(InputError, match="--cluster kubernetes: TLS needs --tls-ca"):
        check_cluster(spec(site=KubernetesCluster()), {})
    plain = spec(site=KubernetesCluster(tls_secret=None))
    with pytest.raises(InputError, match="tls_secret is null, so any pod could run code"):
        check_cluster(plain, {})
    check_cluster(plain, {ALLOW_PLAIN: "1"})


def test_local_workers_and_jobs_of_slurm_need_nothing():
    check_cluster(spec(), {})
    check_cluster(spec(site=SlurmCluster()), {})


@pytest.mark.parametrize("site", [SlurmCluster(), KubernetesCluster()])
def test_what_is_not_installed_is_named(site, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=rf"pip install 'overtile\[{site.kind}\]'"):
        check_cluster(spec(site=site), {})


def test_certificates_are_those_of_the_job(tls):
    assert tls_of(ClusterFields()) is None
    assert tls_of(ClusterFields(tls_ca=tls.ca, tls_cert=tls.cert, tls_key=tls.key)) == tls
