"""The only client of a Kubernetes API server: a thin one, which returns objects as plain JSON and raises greylag's errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from migrator import errors
from tasks.fleet.models import WorkloadKind

Json = dict[str, Any]
Answer = TypeVar("Answer")

IN_CLUSTER = "in-cluster"
"""The kube context that means the pod's own service account."""

EXTERNAL_SECRETS = ("external-secrets.io", "v1")
ROLLOUTS = ("argoproj.io", "v1alpha1")
"""Group and version of Argo Rollouts' objects; the only version there has been."""

TIMEOUT = (5.0, 30.0)
"""Seconds to connect and to answer: a hung API server must not hang a step."""

LOG_SILENCE_SECONDS = 60.0
"""Seconds. A log may be silent for as long as a statement runs; then it is requested again from where it stopped, in case the connection is half-open."""


class Api:
    """One cluster. Objects come as the API's own JSON, without the client's model classes: they are slow and lose unknown fields.

    Usable from several threads. Each method raises as `call`.

    Args:
        log_silence_seconds: seconds that a followed log may be silent before it is requested again from where it stopped.
    """

    def __init__(self, connection: client.ApiClient, *, log_silence_seconds: float = LOG_SILENCE_SECONDS) -> None:
        self._apps = client.AppsV1Api(connection)
        self._core = client.CoreV1Api(connection)
        self._batch = client.BatchV1Api(connection)
        self._custom = client.CustomObjectsApi(connection)
        self._log_silence = log_silence_seconds

    # --- workloads and what belongs to them -------------------------------------------------------------------------------------

    def workload(self, kind: WorkloadKind, namespace: str, name: str) -> Json | None:
        """Returns a Deployment, StatefulSet, DaemonSet or Argo Rollout; None when there is none."""
        read = {
            WorkloadKind.DEPLOYMENT: self._apps.read_namespaced_deployment,
            WorkloadKind.STATEFUL_SET: self._apps.read_namespaced_stateful_set,
            WorkloadKind.DAEMON_SET: self._apps.read_namespaced_daemon_set,
            WorkloadKind.ROLLOUT: self._rollout,
        }[kind]
        return self._one(read, namespace, name, kind)

    def replica_sets(self, namespace: str, selector: str) -> list[Json]:
        """Lists ReplicaSets by label selector."""
        return self._list(self._apps.list_namespaced_replica_set, namespace, "ReplicaSets", label_selector=selector)

    def controller_revisions(self, namespace: str, selector: str) -> list[Json]:
        """Lists ControllerRevisions (of StatefulSets and DaemonSets) by label selector."""
        return self._list(self._apps.list_namespaced_controller_revision, namespace, "ControllerRevisions", label_selector=selector)

    def pods(self, namespace: str, selector: str) -> list[Json]:
        """Lists pods by label selector, including those being deleted."""
        return self._list(self._core.list_namespaced_pod, namespace, "pods", label_selector=selector)

    def events(self, namespace: str, uid: str) -> list[Json]:
        """Lists the events about an object."""
        return self._list(self._core.list_namespaced_event, namespace, "events", field_selector=f"involvedObject.uid={uid}")

    def config_map(self, namespace: str, name: str) -> Json | None:
        """Returns a ConfigMap; None when there is none."""
        return self._one(self._core.read_namespaced_config_map, namespace, name, "ConfigMap")

    # --- Jobs --------------------------------------------------------------------------------------------------------------------

    def job(self, namespace: str, name: str) -> Json | None:
        """Returns a Job; None when there is none."""
        return self._one(self._batch.read_namespaced_job, namespace, name, "Job")

    def jobs(self, namespace: str, selector: str = "") -> list[Json]:
        """Lists Jobs by label selector; all of the namespace when none is given."""
        return self._list(self._batch.list_namespaced_job, namespace, "Jobs", label_selector=selector)

    def create_job(self, namespace: str, manifest: Json) -> Json | None:
        """Creates a Job and returns it; None when the name is taken."""

        def post() -> Json | None:
            try:
                return _json(self._batch.create_namespaced_job(namespace, manifest, **_RAW))
            except client.ApiException as error:
                if error.status == 409 and _status(error).get("reason") == "AlreadyExists":
                    return None
                raise

        return call(post, f"creating Job {namespace}/{manifest['metadata']['name']}")

    def delete_job(self, namespace: str, name: str, uid: str) -> None:
        """Deletes a Job if it still has this uid; it stays visible until its pods have ended."""
        body = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}

        def remove() -> None:
            try:
                self._batch.delete_namespaced_job(name, namespace, body=body, **_RAW)
            except client.ApiException as error:
                if error.status not in (404, 409):  # 409: the name belongs to another Job by now
                    raise

        call(remove, f"deleting Job {namespace}/{name}")

    # --- logs --------------------------------------------------------------------------------------------------------------------

    def log(self, namespace: str, pod: str, *, container: str, lines: int, previous: bool = False) -> str:
        """Returns the last lines of a container's log, or of its previous instance's; empty when it has not started, or is gone."""
        options = _RAW | ({"previous": True} if previous else {})

        def read() -> str:
            answer = self._core.read_namespaced_pod_log(pod, namespace, container=container, tail_lines=lines, **options)
            return str(answer.data.decode("utf-8", "replace"))

        try:
            return call(read, f"reading the log of pod {namespace}/{pod}")
        except (errors.NotFound, errors.UsageError):  # 400: "waiting to start"
            return ""

    def log_lines(self, namespace: str, pod: str, *, container: str, since_seconds: int | None = None) -> Iterator[tuple[str, str]]:
        """Yields the lines of a container's log as they come: (time as the kubelet wrote it, text). Ends with the container, or with the connection.

        Args:
            since_seconds: leaves out lines that are older than this, by the node's clock; None begins at the beginning.

        Raises UsageError when the container has not started (400), NotFound when the pod is gone, and Unavailable also when the connection is lost
        or silent.
        """
        given: Json = {"container": container, "follow": True, "timestamps": True, "_preload_content": False}
        given["_request_timeout"] = (TIMEOUT[0], self._log_silence)
        if since_seconds is not None:
            given["since_seconds"] = since_seconds
        doing = f"reading the log of pod {namespace}/{pod}"
        response = call(lambda: self._core.read_namespaced_pod_log(pod, namespace, **given), doing)
        try:
            for line in _lines(response):
                time, _, text = line.decode("utf-8", "replace").partition(" ")
                yield time, text
        except (HTTPError, OSError):
            raise errors.Unavailable(f"{doing}: the connection was lost", code="kube-unreachable") from None
        finally:
            response.close()

    # --- how it is asked ---------------------------------------------------------------------------------------------------------

    def external_secret(self, namespace: str, name: str) -> Json | None:
        """Returns an ExternalSecret; None when there is none, or the cluster has no External Secrets."""
        return self._one(self._external_secret, namespace, name, "ExternalSecret")

    def force_sync(self, namespace: str, name: str, mark: str) -> Json:
        """Asks External Secrets to sync an ExternalSecret now, by the annotation that its documentation names, and returns it; safe to repeat.

        Args:
            mark: the annotation's value; another one than before.
        """
        body = {"metadata": {"annotations": {"force-sync": mark}}}

        def patch() -> Json:
            return _json(
                self._custom.patch_namespaced_custom_object(
                    *EXTERNAL_SECRETS, namespace, "externalsecrets", name, body, _content_type="application/merge-patch+json", **_RAW
                )
            )

        return call(patch, f"annotating ExternalSecret {namespace}/{name}")

    def _external_secret(self, name: str, namespace: str, **options: Any) -> Any:
        return self._custom.get_namespaced_custom_object(*EXTERNAL_SECRETS, namespace, "externalsecrets", name, **options)

    def _rollout(self, name: str, namespace: str, **options: Any) -> Any:
        return self._custom.get_namespaced_custom_object(*ROLLOUTS, namespace, "rollouts", name, **options)

    def _one(self, read: Callable[..., Any], namespace: str, name: str, what: str) -> Json | None:
        try:
            return call(lambda: _json(read(name, namespace, **_RAW)), f"reading {what} {namespace}/{name}")
        except errors.NotFound:
            return None

    def _list(self, read: Callable[..., Any], namespace: str, what: str, **selectors: str) -> list[Json]:
        given = _RAW | {key: value for key, value in selectors.items() if value}
        found = call(lambda: _json(read(namespace, **given)), f"listing {what} in {namespace}")
        return list(found.get("items") or ())


_RETRIES = Retry(total=1, status=0, redirect=0, respect_retry_after_header=False)
"""One more try for a connection that the server closed while it was idle; the steps make all other retries themselves, and log them."""

_RAW: Json = {"_preload_content": False, "_request_timeout": TIMEOUT}


def connect(context: str) -> Api:
    """Connects to a cluster by its kubeconfig context, or by the pod's own service account (`in-cluster`).

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


def call(action: Callable[[], Answer], doing: str) -> Answer:
    """Runs one call to the API.

    Raises LoginFailed (401 `kube-unauthenticated`, 403 `kube-forbidden` naming verb, resource and namespace), NotFound (404),
    Unavailable (conflicts, throttling, the server's own failures), UsageError (the rest of 4xx).
    """
    try:
        return action()
    except client.ApiException as error:
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
"""The RBAC authorizer's text for a refusal. Its Status has the kind and the name as fields, but the verb and the namespace only in the message."""


def missing_rule(said: str) -> str:
    """Returns the rule that a refused call needs, as a Role spells it, and where; empty for a refusal of another kind (admission, quota)."""
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
    return str(_status(error).get("message") or error.reason)


def _status(error: client.ApiException) -> Json:
    """Returns the API's Status object; empty when the body is not one, because a proxy's may be anything."""
    try:
        found = json.loads(error.body or "{}")
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _json(response: Any) -> Json:
    found = json.loads(response.data)
    if not isinstance(found, dict):
        raise json.JSONDecodeError("not an object", "", 0)
    return found


def _lines(response: Any) -> Iterator[bytes]:
    """Yields a streamed answer line by line, each as soon as it arrives: the API server sends streams in chunks."""
    rest = b""
    for piece in response.stream(amt=None, decode_content=True):
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line for line in whole if line)
    if rest:
        yield rest
