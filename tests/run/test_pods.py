"""What is asked of Kubernetes, against a small API server of our own on loopback."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
import yaml

from pipeline.config.cluster import KubernetesCluster
from pipeline.run.cluster.manifest import autoscaler_manifest, cluster_manifest
from pipeline.run.cluster.pods import Pods, PodsError
from pipeline.run.cluster_spec import ClusterSpec

SITE = KubernetesCluster(namespace="here")
CLUSTER = cluster_manifest("a", ClusterSpec(1, 1, 1 << 30, site=SITE), SITE)
SCALER = autoscaler_manifest("a", SITE)
DASK = "/apis/kubernetes.dask.org/v1/namespaces/here"
SERVICE = "/api/v1/namespaces/here/services/a-scheduler"

KNOWN = {
    "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList", "groupVersion": "v1",
        "resources": [{"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["list"]}],
    },
}  # fmt: skip
"""What kr8s asks a server for first."""


class Answers(BaseHTTPRequestHandler):
    """Keeps resources by their paths; lists those below one."""

    def do_GET(self):
        path = urlsplit(self.path).path.rstrip("/")
        kept = self.server.kept
        if path in KNOWN:
            self.answer(200, KNOWN[path])
        elif path in kept:
            self.answer(200, kept[path])
        elif path.endswith(("/pods", "/daskclusters", "/daskautoscalers", "/services")):
            wanted = self.path.partition("metadata.name%3D")[2].partition("&")[0]
            below = [each for at, each in kept.items() if at.rpartition("/")[0] == path]
            self.answer(
                200, {"kind": "List", "items": [f for f in below if wanted in ("", f["metadata"]["name"])]}
            )
        else:
            self.answer(404, {"kind": "Status", "message": f"{path} not found"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.refuses:
            self.answer(403, {"kind": "Status", "message": "forbidden: no rights to create"})
            return
        self.server.kept[f"{urlsplit(self.path).path.rstrip('/')}/{body['metadata']['name']}"] = body
        self.answer(201, body)

    def do_DELETE(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = self.server.kept.pop(urlsplit(self.path).path.rstrip("/"), None)
        self.answer(200 if found else 404, {"kind": "Status", "message": "gone"})

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    """One server for all tests: kr8s keeps its connection for as long as the process lives."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server, pytest.MonkeyPatch.context() as patch:
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "default"}}],
        }  # fmt: skip
        path = tmp_path_factory.mktemp("kubernetes") / "config"
        path.write_text(yaml.safe_dump(config))
        patch.setenv("KUBECONFIG", str(path))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(standing):
    standing.kept, standing.refuses = {}, False
    return standing


def test_resources_are_created_and_removed(server):
    pods = Pods("here")
    pods.create(CLUSTER)
    pods.create(SCALER)
    assert list(server.kept) == [f"{DASK}/daskclusters/a", f"{DASK}/daskautoscalers/a"]
    assert server.kept[f"{DASK}/daskclusters/a"]["spec"] == CLUSTER["spec"]
    pods.remove(CLUSTER)
    pods.remove(SCALER)
    pods.remove(SCALER)  # it is gone, which is what was wanted
    assert server.kept == {}


def test_what_is_refused_is_told(server):
    server.refuses = True
    with pytest.raises(PodsError, match=r"DaskCluster a could not be created .*no rights to create"):
        Pods("here").create(CLUSTER)


def pod(ready):
    conditions = [{"type": kind, "status": ready} for kind in ("Ready", "ContainersReady")]
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "here"},
        "status": {"phase": "Running", "conditions": conditions},
    }  # fmt: skip


def test_a_scheduler_is_ready_when_a_pod_of_its_service_is(server):
    pods = Pods("here")
    assert not pods.is_ready("a-scheduler")
    metadata = {"name": "a-scheduler", "namespace": "here"}
    spec = {"type": "ClusterIP", "selector": {"a": "b"}, "ports": [{"port": 8786}]}
    server.kept[SERVICE] = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    assert not pods.is_ready("a-scheduler")
    server.kept["/api/v1/namespaces/here/pods/p"] = pod("False")
    assert not pods.is_ready("a-scheduler")
    server.kept["/api/v1/namespaces/here/pods/p"] = pod("True")
    assert pods.is_ready("a-scheduler")


def test_inside_the_cluster_a_service_is_reached_by_its_name(monkeypatch):
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port: asked.append(host))
    with Pods("here").reach("a-scheduler", 8786) as place:
        assert place == ("a-scheduler.here.svc", 8786)
    assert asked == ["a-scheduler.here.svc"]


def test_where_there_is_no_such_service_there_is_no_tunnel(server):
    with (
        pytest.raises(PodsError, match="no tunnel to the service a-scheduler"),
        Pods("here").reach("a-scheduler", 8786),
    ):
        pass
