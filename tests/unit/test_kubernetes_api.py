"""The edge to the API server: plain JSON in, greylag's errors out; over HTTP, with a kubeconfig, as in a real worker."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from migrator import errors
from sandbox import ports
from tasks import backoff, fleet, rollout
from tasks.fleet.models import WorkloadKind
from tasks.kubernetes import api as kubernetes_api
from tasks.settings import Settings


class ApiServer(http.server.ThreadingHTTPServer):
    """Answers every path with one status and document, and remembers what was asked."""

    status = 200
    document: Any = None
    asked: list[str]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: ApiServer

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        body = self.server.document if isinstance(self.server.document, bytes) else json.dumps(self.server.document).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    with ApiServer(("127.0.0.1", 0), _Handler) as found:
        found.asked = []
        kubeconfig(tmp_path, monkeypatch, found.server_address[1])
        thread = threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield found
        found.shutdown()


def kubeconfig(directory: Path, monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "t0ken"}}],
        "contexts": [{"name": "dev", "context": {"cluster": "c", "user": "u"}}],
    }
    path = directory / "kubeconfig"
    path.write_text(json.dumps(document), encoding="utf-8")
    from kubernetes.config import kube_config

    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(path))


def test_objects_come_as_the_apis_own_json(server: ApiServer) -> None:
    server.document = {"metadata": {"name": "auth-service"}, "unknownField": {"kept": True}}
    api = kubernetes_api.connect("dev")
    assert api.workload(WorkloadKind.DEPLOYMENT, "dev-my-girok", "auth-service") == server.document
    assert api.workload(WorkloadKind.STATEFUL_SET, "dev-my-girok", "x") == server.document
    assert api.workload(WorkloadKind.DAEMON_SET, "dev-my-girok", "x") == server.document
    server.document = {"items": [{"metadata": {"name": "a"}}]}
    assert api.pods("n", "app=auth,tier in (x)") == api.replica_sets("n", "") == server.document["items"]
    assert server.asked[:3] == [
        f"/apis/apps/v1/namespaces/dev-my-girok/{kind}" for kind in ("deployments/auth-service", "statefulsets/x", "daemonsets/x")
    ]
    assert server.asked[3] == "/api/v1/namespaces/n/pods?labelSelector=app%3Dauth%2Ctier%20in%20%28x%29"


def test_a_rollout_is_a_custom_object(server: ApiServer) -> None:
    server.document = {"metadata": {"name": "auth-service"}, "spec": {}, "status": {"phase": "Healthy"}}
    api = kubernetes_api.connect("dev")
    assert api.workload(WorkloadKind.ROLLOUT, "n", "auth-service") == server.document
    server.document = {"items": []}
    assert api.controller_revisions("n", "app=auth") == []
    assert server.asked == [
        "/apis/argoproj.io/v1alpha1/namespaces/n/rollouts/auth-service",
        "/apis/apps/v1/namespaces/n/controllerrevisions?labelSelector=app%3Dauth",
    ]


def test_what_does_not_exist_is_none(server: ApiServer) -> None:
    server.status, server.document = 404, {"message": 'deployments.apps "x" not found'}
    assert kubernetes_api.connect("dev").workload(WorkloadKind.DEPLOYMENT, "n", "x") is None
    assert rollout.observe(fleet.load().target("auth-service", "dev"), Settings(kube_context="dev")) == rollout.Before()


@pytest.mark.parametrize(
    ("status", "kind", "transient"),
    [
        (401, errors.LoginFailed, False),
        (403, errors.LoginFailed, False),
        (409, errors.Unavailable, True),
        (410, errors.Unavailable, True),
        (429, errors.Unavailable, True),
        (500, errors.Unavailable, True),
        (503, errors.Unavailable, True),
        (400, errors.UsageError, False),
    ],
)
def test_bad_flow_refusals(server: ApiServer, status: int, kind: type[errors.GreylagError], transient: bool) -> None:
    server.status, server.document = status, {"kind": "Status", "message": "said by the server"}
    with pytest.raises(errors.GreylagError) as caught:
        kubernetes_api.connect("dev").pods("n", "")
    assert type(caught.value) is kind
    assert backoff.permanent(caught.value) is not transient
    assert "said by the server" in caught.value.message and "t0ken" not in caught.value.describe()


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        (
            'deployments.apps "auth-service" is forbidden: User "system:serviceaccount:dev-my-girok:greylag-worker" cannot get resource '
            '"deployments" in API group "apps" in the namespace "dev-my-girok"',
            '{apiGroups: ["apps"], resources: ["deployments"], verbs: ["get"]} in namespace dev-my-girok',
        ),
        (
            'pods "x" is forbidden: User "u" cannot get resource "pods/log" in API group "" in the namespace "n"',
            '{apiGroups: [""], resources: ["pods/log"], verbs: ["get"]} in namespace n',
        ),
        (
            'namespaces is forbidden: User "u" cannot list resource "namespaces" in API group "" at the cluster scope',
            '{apiGroups: [""], resources: ["namespaces"], verbs: ["list"]} in a ClusterRole',
        ),
    ],
)
def test_bad_flow_a_missing_permission_names_the_rule(server: ApiServer, said: str, rule: str) -> None:
    server.status, server.document = 403, {"kind": "Status", "message": said}
    with pytest.raises(errors.LoginFailed) as caught:
        kubernetes_api.connect("dev").jobs("n")
    assert caught.value.code == "kube-forbidden"
    assert rule in caught.value.hint


def test_bad_flow_a_refusal_that_is_not_about_permissions_claims_no_rule(server: ApiServer) -> None:
    server.status, server.document = 403, {"kind": "Status", "message": 'jobs "x" is forbidden: exceeded quota: pods=1'}
    with pytest.raises(errors.LoginFailed) as caught:
        kubernetes_api.connect("dev").jobs("n")
    assert "exceeded quota" in caught.value.message and "role needs" not in caught.value.hint


def test_bad_flow_an_expired_login_is_no_missing_permission(server: ApiServer) -> None:
    server.status, server.document = 401, {"kind": "Status", "message": "Unauthorized"}
    with pytest.raises(errors.LoginFailed) as caught:
        kubernetes_api.connect("dev").jobs("n")
    assert caught.value.code == "kube-unauthenticated"


def test_the_log_of_the_instance_before_is_asked_for_by_name(server: ApiServer) -> None:
    server.document = b"panic\n"
    assert kubernetes_api.connect("dev").log("n", "p", container="app", lines=5, previous=True) == "panic\n"
    assert server.asked == ["/api/v1/namespaces/n/pods/p/log?container=app&previous=true&tailLines=5"]


def test_the_log_of_a_container_that_waits_is_empty(server: ApiServer) -> None:
    server.status, server.document = 400, {"kind": "Status", "message": 'container "migrate" in pod "p" is waiting to start'}
    assert kubernetes_api.connect("dev").log("n", "p", container="migrate", lines=5) == ""
    assert server.asked[-1] == "/api/v1/namespaces/n/pods/p/log?container=migrate&tailLines=5"
    server.status, server.document = 200, b"one\ntwo\xff\n"
    assert kubernetes_api.connect("dev").log("n", "p", container="migrate", lines=5) == "one\ntwo\ufffd\n"


def test_bad_flow_an_answer_that_is_no_status_object(server: ApiServer) -> None:
    server.status, server.document = 502, b"<html>gateway</html>"
    with pytest.raises(errors.Unavailable) as caught:
        kubernetes_api.connect("dev").pods("n", "")
    assert "<html>" not in caught.value.message


def test_bad_flow_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeconfig(tmp_path, monkeypatch, ports.free_port())
    with pytest.raises(errors.Unavailable) as caught:
        kubernetes_api.connect("dev").pods("n", "")
    assert caught.value.code == "kube-unreachable"


@pytest.mark.parametrize("context", ["elsewhere", "in-cluster"])
def test_bad_flow_a_context_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: str) -> None:
    kubeconfig(tmp_path, monkeypatch, 1)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(errors.UsageError) as caught:
        kubernetes_api.connect(context)
    assert caught.value.code == "kube-context"


def test_the_environments_context_wins_over_the_workers(server: ApiServer) -> None:
    target = fleet.load().target("auth-service", "dev").model_copy(update={"kube_context": "dev"})
    server.status, server.document = 404, {}
    assert rollout.observe(target, Settings(kube_context="elsewhere")) == rollout.Before()
