"""What Job mode asks of an API server: Jobs, their pods, events and logs, as the API's own JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kubernetes import client
from urllib3.exceptions import HTTPError

from migrator import errors
from tasks.kubernetes.api import TIMEOUT, call
from tasks.kubernetes.following import Expired, Page

Json = dict[str, Any]

QUIET_SECONDS = 10.0
"""A stream that is silent for so much longer than the server keeps it open is a connection that nobody holds at the other end."""

LOG_SILENCE_SECONDS = 60.0
"""A log may be silent for as long as a statement runs; after this it is asked again from where it stopped, in case nobody is there any more."""


class JobApi:
    """The Jobs and pods of one cluster. Usable from several threads."""

    def __init__(self, connection: client.ApiClient, *, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._batch = client.BatchV1Api(connection)
        self._core = client.CoreV1Api(connection)
        self._quiet = quiet_seconds

    def create(self, namespace: str, manifest: Json) -> Json | None:
        """Creates a Job; None where the name is taken. Raises as `kubernetes_api.call`."""

        def post() -> Json | None:
            try:
                return _json(self._batch.create_namespaced_job(namespace, manifest, **_RAW))
            except client.ApiException as error:
                if error.status == 409 and _reason(error) == "AlreadyExists":
                    return None
                raise

        found: Json | None = call(post, f"creating Job {namespace}/{manifest['metadata']['name']}")
        return found

    def job(self, namespace: str, name: str) -> Json | None:
        """A Job; None where there is none."""
        found: Json | None = call(
            lambda: _json(self._batch.read_namespaced_job(name, namespace, **_RAW)), f"reading Job {namespace}/{name}", missing=None
        )
        return found

    def jobs(self, namespace: str, *, labels: str = "", fields: str = "") -> Page:
        """Jobs by label or field selector."""
        return self._page(self._batch.list_namespaced_job, namespace, labels, fields, "Jobs")

    def pods(self, namespace: str, *, labels: str = "", fields: str = "") -> Page:
        """Pods by label or field selector."""
        return self._page(self._core.list_namespaced_pod, namespace, labels, fields, "pods")

    def events(self, namespace: str, uid: str) -> list[Json]:
        """The events about an object."""
        return self._page(self._core.list_namespaced_event, namespace, "", f"involvedObject.uid={uid}", "events").items

    def delete(self, namespace: str, name: str, uid: str) -> None:
        """Deletes a Job if it is still that one; it stays visible until its pods have ended."""
        body = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}

        def remove() -> None:
            try:
                self._batch.delete_namespaced_job(name, namespace, body=body, **_RAW)
            except client.ApiException as error:
                if error.status != 409:  # the name belongs to another Job by now
                    raise

        call(remove, f"deleting Job {namespace}/{name}", missing=None)

    def watch_jobs(self, namespace: str, version: str, seconds: int, *, labels: str = "", fields: str = "") -> Iterator[tuple[str, Json]]:
        """Changes of Jobs after that resource version; see `_watch`."""
        return self._watch(self._batch.list_namespaced_job, namespace, version, seconds, labels, fields, "Jobs")

    def watch_pods(self, namespace: str, version: str, seconds: int, *, labels: str = "", fields: str = "") -> Iterator[tuple[str, Json]]:
        """Changes of pods after that resource version; see `_watch`."""
        return self._watch(self._core.list_namespaced_pod, namespace, version, seconds, labels, fields, "pods")

    def log(self, namespace: str, pod: str, container: str, since_seconds: int | None = None) -> Iterator[tuple[str, str]]:
        """The lines of a container's log as they come: (time as the kubelet wrote it, text). Ends with the container, or with the connection.

        Args:
            since_seconds: only lines that are not older than this, by the node's clock; None begins at the beginning.

        Raises as `kubernetes_api.call`: UsageError where the container has not started (400), NotFound where the pod is gone, Unavailable also where
        the connection is lost or silent.
        """
        given: Json = {"container": container, "follow": True, "timestamps": True, "_preload_content": False}
        given["_request_timeout"] = (TIMEOUT[0], LOG_SILENCE_SECONDS)
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

    def _page(self, read: Any, namespace: str, labels: str, fields: str, what: str) -> Page:
        given = {**_RAW, **_selectors(labels, fields)}
        found = call(lambda: _json(read(namespace, **given)), f"listing {what} in {namespace}")
        return Page(list(found.get("items") or ()), str((found.get("metadata") or {}).get("resourceVersion", "")))

    def _watch(
        self, read: Any, namespace: str, version: str, seconds: int, labels: str, fields: str, what: str
    ) -> Iterator[tuple[str, Json]]:
        """(ADDED, MODIFIED, DELETED or BOOKMARK; the object) until the server ends it, after these seconds at the latest.

        Raises Expired for 410, be it the answer or an event; as `kubernetes_api.call` otherwise; Unavailable also for a silent connection.
        """
        given: Json = {**_selectors(labels, fields), "watch": True, "resource_version": version, "timeout_seconds": seconds}
        given |= {"allow_watch_bookmarks": True, "_preload_content": False, "_request_timeout": (TIMEOUT[0], seconds + self._quiet)}
        doing = f"watching {what} in {namespace}"

        def open_stream() -> Any:
            try:
                return read(namespace, **given)
            except client.ApiException as error:
                if error.status == 410:
                    raise Expired from None
                raise

        response = call(open_stream, doing)
        try:
            for line in _lines(response):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    _raise_event(event["object"], doing)
                yield event["type"], event["object"]
        except (HTTPError, OSError):
            raise errors.Unavailable(f"{doing}: the connection was lost", code="kube-unreachable") from None
        except ValueError:  # cut off in the middle of an event
            raise errors.Unavailable(f"{doing}: an event could not be read", code="kube-unavailable") from None
        finally:
            response.close()


_RAW: Json = {"_preload_content": False, "_request_timeout": TIMEOUT}


def _selectors(labels: str, fields: str) -> Json:
    return {**({"label_selector": labels} if labels else {}), **({"field_selector": fields} if fields else {})}


def _lines(response: Any) -> Iterator[bytes]:
    """A streamed answer line by line, each as soon as it is there: the API server sends streams in chunks."""
    rest = b""
    for piece in response.stream(amt=None, decode_content=True):
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line for line in whole if line)
    if rest:
        yield rest


def _raise_event(status: Json, doing: str) -> None:
    if status.get("code") == 410:
        raise Expired
    raise errors.Unavailable(f"{doing}: {status.get('message') or 'the API server ended it'}", code="kube-unavailable")


def _json(response: Any) -> Json:
    found: Json = json.loads(response.data)
    return found


def _reason(error: client.ApiException) -> str:
    try:
        return str(json.loads(error.body or "{}").get("reason", ""))
    except (TypeError, ValueError, AttributeError):
        return ""
