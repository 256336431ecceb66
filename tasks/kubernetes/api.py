"""The thin edge to a Kubernetes API server: reads objects as plain JSON, and turns its errors into greylag's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from migrator import errors
from tasks.fleet.models import WorkloadKind

IN_CLUSTER = "in-cluster"
"""The kube context that means the pod's own service account."""

ROLLOUTS = ("argoproj.io", "v1alpha1")
"""Group and version of Argo Rollouts' objects; the only version there has been."""

TIMEOUT = (5.0, 30.0)
"""Seconds to connect and to answer: a hung API server must not hang a step."""


class Api:
    """One cluster. Objects come as the API's own JSON, without the client's model classes: they are slow and lose unknown fields."""

    def __init__(self, connection: client.ApiClient) -> None:
        self.connection = connection
        self._apps = client.AppsV1Api(connection)
        self._core = client.CoreV1Api(connection)
        self._batch = client.BatchV1Api(connection)
        self._custom = client.CustomObjectsApi(connection)

    def workload(self, kind: WorkloadKind, namespace: str, name: str) -> dict[str, Any] | None:
        """A Deployment, StatefulSet, DaemonSet or Argo Rollout; None where there is none."""
        read = {
            WorkloadKind.DEPLOYMENT: self._apps.read_namespaced_deployment,
            WorkloadKind.STATEFUL_SET: self._apps.read_namespaced_stateful_set,
            WorkloadKind.DAEMON_SET: self._apps.read_namespaced_daemon_set,
            WorkloadKind.ROLLOUT: self._rollout,
        }[kind]
        found: dict[str, Any] | None = call(
            lambda: _json(read(name, namespace, **_RAW)), f"reading {kind} {namespace}/{name}", missing=None
        )
        return found

    def replica_sets(self, namespace: str, selector: str) -> Sequence[dict[str, Any]]:
        """ReplicaSets by label selector."""
        return self._list(self._apps.list_namespaced_replica_set, namespace, selector, "ReplicaSets")

    def controller_revisions(self, namespace: str, selector: str) -> Sequence[dict[str, Any]]:
        """ControllerRevisions (of StatefulSets and DaemonSets) by label selector."""
        return self._list(self._apps.list_namespaced_controller_revision, namespace, selector, "ControllerRevisions")

    def pods(self, namespace: str, selector: str) -> Sequence[dict[str, Any]]:
        """Pods by label selector, those being deleted included."""
        return self._list(self._core.list_namespaced_pod, namespace, selector, "pods")

    def jobs(self, namespace: str, selector: str = "") -> Sequence[dict[str, Any]]:
        """Jobs by label selector; all of the namespace where none is given."""
        return self._list(self._batch.list_namespaced_job, namespace, selector, "Jobs")

    def log(self, namespace: str, pod: str, *, container: str, lines: int, previous: bool = False) -> str:
        """The last lines of a container's log, or of its previous instance's; empty where it has not started, or is gone."""

        options = _RAW | ({"previous": True} if previous else {})

        def read() -> str:
            answer = self._core.read_namespaced_pod_log(pod, namespace, container=container, tail_lines=lines, **options)
            return str(answer.data.decode("utf-8", "replace"))

        try:
            return str(call(read, f"reading the log of pod {namespace}/{pod}", missing=""))
        except errors.UsageError:  # 400: "waiting to start"
            return ""

    def _rollout(self, name: str, namespace: str, **options: Any) -> Any:
        return self._custom.get_namespaced_custom_object(*ROLLOUTS, namespace, "rollouts", name, **options)

    def _list(self, read: Callable[..., Any], namespace: str, selector: str, what: str) -> list[dict[str, Any]]:
        answer = call(lambda: _json(read(namespace, label_selector=selector, **_RAW)), f"listing {what} in {namespace}", missing={})
        return list((answer or {}).get("items") or ())


_RETRIES = Retry(total=1, status=0, redirect=0, respect_retry_after_header=False)
"""One more try for a connection that the server closed while it was idle; all other retries are the steps' own, which say so."""

_RAW: dict[str, Any] = {"_preload_content": False, "_request_timeout": TIMEOUT}


def connect(context: str) -> Api:
    """A cluster by its kubeconfig context, or by the pod's own service account (`in-cluster`).

    Raises UsageError (`kube-context`).
    """
    try:
        settings = client.Configuration()
        settings.retries = _RETRIES
        if context == IN_CLUSTER:
            config.load_incluster_config(client_configuration=settings)
            return Api(client.ApiClient(settings))
        return Api(config.new_client_from_config(context=context, client_configuration=settings))
    except ConfigException as error:
        raise errors.UsageError(
            f'the kube context "{context}" can\'t be used: {error}',
            code="kube-context",
            hint="`kubectl config get-contexts` lists them; GREYLAG_KUBE_CONTEXT names one, or `in-cluster` inside a pod",
        ) from None


def call(action: Callable[[], Any], doing: str, *, missing: Any = ...) -> Any:
    """Runs one call to the API; `missing` is the answer for 404, where one is given.

    Raises LoginFailed (401 `kube-unauthenticated`, 403 `kube-forbidden` naming verb, resource and namespace), NotFound (404),
    Unavailable (conflicts, throttling, the server's own failures), UsageError (the rest of 4xx).
    """
    try:
        return action()
    except client.ApiException as error:
        if error.status == 404 and missing is not ...:
            return missing
        raise _refused(error, doing) from None
    except HTTPError:
        raise errors.Unavailable(
            f"{doing}: the API server can't be reached", code="kube-unreachable", hint="`kubectl cluster-info` tells how it is"
        ) from None
    except json.JSONDecodeError:  # a proxy's error page with status 200
        raise errors.Unavailable(
            f"{doing}: what answered is not an API server", code="kube-unreachable", hint="`kubectl cluster-info` tells how it is"
        ) from None


_DENIED = re.compile(
    r'cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]*)"| (?P<cluster>at the cluster scope))?'
)
"""How the RBAC authorizer words a refusal. Its Status has the kind and the name as fields, the verb and the namespace only in the message."""


def missing_rule(said: str) -> str:
    """The rule that a refusal asks for, as a Role spells it, and where; empty for a refusal of another kind (admission, quota)."""
    found = _DENIED.search(said)
    if found is None:
        return ""
    place = f"in namespace {found['namespace']}" if found["namespace"] else "in a ClusterRole"
    return f'{{apiGroups: ["{found["group"]}"], resources: ["{found["resource"]}"], verbs: ["{found["verb"]}"]}} {place}'


def _refused(error: client.ApiException, doing: str) -> errors.GreylagError:
    said = _said(error)
    if error.status == 401:
        return errors.LoginFailed(
            f"{doing}: the API server does not know the caller: {said}",
            code="kube-unauthenticated",
            hint="the token or the certificate has expired, or belongs to another cluster: renew the kubeconfig or the service account's token",
        )
    if error.status == 403:
        rule = missing_rule(said)
        return errors.LoginFailed(
            f"{doing}: the API server refused: {said}",
            code="kube-forbidden",
            hint=f"the role needs {rule}; `greylag privileges` prints all that is needed"
            if rule
            else "the cluster's own rules refuse this",
        )
    if error.status == 404:
        return errors.NotFound(f"{doing}: there is none", code="kube-not-found", hint="check the namespace and the name in fleet.yaml")
    if error.status in (0, 408, 409, 410, 429) or (error.status or 0) >= 500:
        return errors.Unavailable(f"{doing}: the API server answered {error.status}: {said}", code="kube-unavailable")
    return errors.UsageError(f"{doing}: the API server answered {error.status}: {said}", code="kube-refused")


def _said(error: client.ApiException) -> str:
    """The `message` of the API's Status object; the whole body may be anything."""
    try:
        return str(json.loads(error.body or "{}").get("message", "") or error.reason)
    except (TypeError, ValueError, AttributeError):
        return str(error.reason)


def _json(response: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(response.data)
    return found
