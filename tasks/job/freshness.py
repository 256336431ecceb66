"""Freshness of the ExternalSecret whose Secret the migration's pod reads, for the worker's modes (kubernetes.md §3.3).

An ExternalSecret stays Ready from its last synchronisation, and its Secret may be older than what Vault holds by an hour. So a run asks External Secrets for a
synchronisation and waits for one that began after it had asked, then compares Vault's version with the one from before: had it moved in between, it asks
again. What is read of an ExternalSecret is pure, and the doctor reads it by the same functions.

The orchestrator's Role needs, where `job.external_secret` of fleet.yaml names one:

    {apiGroups: [external-secrets.io], resources: [externalsecrets], resourceNames: [NAME], verbs: [get, patch]}
    {apiGroups: [""],                  resources: [events],          verbs: [list]}
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from migrator import errors, registry
from tasks import credentials, kubernetes
from tasks.fleet.models import Target
from tasks.job.following import interrupted
from tasks.job.logs import Told
from tasks.kubernetes import following, objects
from tasks.request import Request

Json = Mapping[str, Any]

LOOK_SECONDS = 0.5
"""Seconds between two looks: a synchronisation takes a tenth of a second."""

GRACE_SECONDS = 10.0
"""Seconds in which a failure that External Secrets has told anew may still mend itself: it tries again by itself, after 5.7 s in what was observed."""

ROUNDS = 3
"""Synchronisations that are asked for, when Vault's secret changes while one is waited for."""


class Cluster(Protocol):
    """What is asked of a cluster."""

    def external_secret(self, namespace: str, name: str) -> Json | None: ...

    def force_sync(self, namespace: str, name: str, mark: str) -> Json: ...

    def events(self, namespace: str, uid: str) -> Sequence[Json]: ...


# --- what an ExternalSecret says ---------------------------------------------------------------------------------------------------


def synced_version(found: Json) -> tuple[str, str]:
    """Returns the two parts of `syncedResourceVersion`, the generation that was synced and a hash; empty texts before the first synchronisation.

    The hash is that of labels and annotations (`GetResourceVersion` of External Secrets), so another annotation gives another hash once it is synced.
    """
    generation, _, digest = str((found.get("status") or {}).get("syncedResourceVersion") or "").partition("-")
    return generation, digest


def is_current(found: Json) -> bool:
    """Tells whether it is Ready, and was synced from its present specification. Nothing is said of when."""
    return bool(objects.condition(found, "Ready")) and synced_version(found)[0] == str(objects.generation(found))


def is_fresh(found: Json, before: str) -> bool:
    """Tells whether it was synced after an annotation was changed.

    Args:
        before: the hash part from before the change.
    """
    digest = synced_version(found)[1]
    return bool(digest) and digest != before and is_current(found)


def cause(found: Json, told: Sequence[Json]) -> str:
    """Returns why it is not Ready: its newest warning's words. The condition's are the same for every cause."""
    warnings = [event for event in told if event.get("type") == "Warning"]
    if warnings:
        return str(max(warnings, key=_last_seen).get("message") or "")
    conditions: list[Json] = list((found.get("status") or {}).get("conditions") or ())
    ready: Json = next((item for item in conditions if item.get("type") == "Ready"), {})
    return str(ready.get("message") or "External Secrets has not looked at it yet")


def _last_seen(event: Json) -> str:
    series: Json = event.get("series") or {}
    metadata: Json = event.get("metadata") or {}
    moments = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"), metadata.get("creationTimestamp"))
    return str(next((moment for moment in moments if moment), ""))


def secret_name(found: Json) -> str:
    """Returns the name of the Secret that it makes."""
    return str((found["spec"].get("target") or {}).get("name") or objects.name(found))


def differing_reference(found: Json, path: str, version: int) -> str:
    """Says which reference of an ExternalSecret is not the secret that the run has read; empty when all are.

    Args:
        path: the secret's path in Vault, without its mount: a store may have the mount in its own path, or not.
        version: the secret's present version.
    """
    extracted = [item["extract"] for item in found["spec"].get("dataFrom") or () if item.get("extract")]
    for reference in [*(item["remoteRef"] for item in found["spec"].get("data") or ()), *extracted]:
        key, pinned = str(reference.get("key", "")), str(reference.get("version") or "")
        if key != path and not key.endswith(f"/{path}"):
            return f"it reads {key}, and fleet.yaml says {path}"
        if pinned and pinned != str(version):
            return f"it is pinned to version {pinned} of {key}, and Vault's is {version}"
    return ""


# --- asking for a synchronisation --------------------------------------------------------------------------------------------------


def ensure(request: Request, tell: Told, *, secret: str = "", api: Cluster | None = None) -> None:
    """Returns once the ExternalSecret that fleet.yaml names has been synced after this call began; at once where it names none.

    Args:
        tell: receives a level and a line, in the calling thread.
        secret: the Secret that the pod will read; empty when it is not known here.

    Raises:
        UsageError (`no-cluster`), LoginFailed (`kube-forbidden`) naming the rule that lacks.
        NotFound: there is no such ExternalSecret (`external-secret-missing`), it can't be synced (`external-secret-failed`, with the cause), or makes
            another Secret, or reads another one or another version than the run (`external-secret-other`).
        NotYet: nobody has synced it within GREYLAG_JOB_PATIENCE_SECONDS (`secret-stale`). Interrupted: the run was stopped.
    """
    target = request.target
    if not target.job.external_secret:
        return
    cluster = api or kubernetes.connect(target, request.settings)
    if cluster is None:
        raise errors.UsageError(
            f"{target.label}: job.external_secret names {target.job.external_secret}, and no cluster is configured",
            code="no-cluster",
            hint="GREYLAG_KUBE_CONTEXT names a kubeconfig's context, or `in-cluster`; or leave job.external_secret out of fleet.yaml",
        )
    with _Waiting(cluster, target, request.settings.job_patience_seconds) as waiting:
        version = credentials.version(target, request.settings)
        for _ in range(ROUNDS):
            found = waiting.synced(secret)
            now = credentials.version(target, request.settings)
            if now == version:
                waiting.compare(found, version)
                tell("info", f"{target.label}: {waiting.place} is synced anew ({'-'.join(synced_version(found))}){_said(target, version)}")
                return
            tell("info", f"{target.label}: {target.secret} has changed from version {version} to {now} meanwhile: syncing it again")
            version = now
    raise errors.NotYet(
        f"{target.label}: {target.secret} has changed {ROUNDS} times while {waiting.place} was synced",
        code="secret-stale",
        hint="who writes it? deploy once it stays as it is",
    )


def _said(target: Target, version: int) -> str:
    if not version:
        return f"; {target.secret} has no version to compare it with"
    return f", from version {version} of {target.secret} or a newer one"


@dataclass(frozen=True)
class _Failure:
    """A failure that was told after the synchronisation was asked for."""

    since: float
    why: str


class _Waiting:
    """One run's wait, as a context manager: registered, like an open connection, for `registry.cancel_all`."""

    def __init__(self, cluster: Cluster, target: Target, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster, self._target, self._patience, self._clock = cluster, target, patience, clock
        self._name = target.job.external_secret
        self._cancelled = threading.Event()

    @property
    def place(self) -> str:
        return f"ExternalSecret {self._target.namespace}/{self._name}"

    def cancel(self) -> None:
        """Ends the wait soon; safe in a signal handler and in other threads."""
        self._cancelled.set()

    def __enter__(self) -> _Waiting:
        registry.register(self)
        return self

    def __exit__(self, *_: object) -> None:
        registry.unregister(self)

    def synced(self, secret: str) -> Json:
        """Asks for a synchronisation and returns the ExternalSecret after it. Raises as `ensure`."""
        first = self._found()
        if secret and secret_name(first) != secret:
            raise self._other(f"it makes the Secret {secret_name(first)}, and the migration's pod reads {secret}")
        heard = {self._mark(event) for event in self._events(first)}
        before = synced_version(first)[1]
        mark = f"{time.time_ns()}"
        following.patiently(lambda: self._cluster.force_sync(self._target.namespace, self._name, mark), sleep=self._pause)
        failed: _Failure | None = None
        found: Json = first
        for looked in following.follow(self._found, every=LOOK_SECONDS, limit=self._patience, sleep=self._pause):
            if isinstance(looked, following.Unanswered):
                continue
            found = looked
            if is_fresh(found, before):
                return found
            failed = self._failure(found, heard, failed)
            if failed is not None and self._clock() - failed.since > GRACE_SECONDS:
                break
        if not objects.condition(found, "Ready"):
            raise self._failed(failed.why if failed else cause(found, self._events(found)))
        raise errors.NotYet(
            f"{self._target.label}: {self.place} says Ready, and has not been synced since this run asked for it {self._patience:g} s ago",
            code="secret-stale",
            hint="is External Secrets running? `kubectl get pods --all-namespaces -l app.kubernetes.io/name=external-secrets`",
        )

    def compare(self, found: Json, version: int) -> None:
        """Compares what it reads with what the run has read. Raises NotFound (`external-secret-other`)."""
        if version and (why := differing_reference(found, self._target.vault_path, version)):
            raise self._other(why)

    def _found(self) -> Json:
        found = self._cluster.external_secret(self._target.namespace, self._name)
        if found is None:
            raise errors.NotFound(
                f"{self._target.label}: there is no {self.place}",
                code="external-secret-missing",
                hint="job.external_secret of fleet.yaml names it: is the service's chart installed in this namespace?",
            )
        return found

    def _events(self, found: Json) -> Sequence[Json]:
        return self._cluster.events(self._target.namespace, str(found["metadata"]["uid"]))

    @staticmethod
    def _mark(event: Json) -> tuple[str, str]:
        return str(event["metadata"].get("uid")), str(event["metadata"].get("resourceVersion"))

    def _failure(self, found: Json, heard: set[tuple[str, str]], before: _Failure | None) -> _Failure | None:
        """Returns the failure that it has been told of since; None while it is Ready, and while nothing new was told."""
        if objects.condition(found, "Ready"):
            return None
        new = [event for event in self._events(found) if event.get("type") == "Warning" and self._mark(event) not in heard]
        if not new:
            return before
        return _Failure(before.since if before else self._clock(), cause(found, new))

    def _failed(self, why: str) -> errors.NotFound:
        path = self._target.vault_path
        return errors.NotFound(
            f"{self._target.label}: {self.place} can't be synced: {why}",
            code="external-secret-failed",
            hint=f"may its store read {path}, and are all of its keys there? `kubectl -n {self._target.namespace} describe externalsecret {self._name}`",
        )

    def _other(self, why: str) -> errors.NotFound:
        return errors.NotFound(
            f"{self._target.label}: {self.place} is not this database's: {why}",
            code="external-secret-other",
            hint=f"`greylag chart values @{self._target.label}` prints what the chart needs; `greylag targets` shows fleet.yaml's path",
        )

    def _pause(self, seconds: float) -> None:
        if self._cancelled.wait(seconds):
            raise interrupted(self._target.label)
