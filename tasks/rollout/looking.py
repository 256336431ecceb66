"""One look at a cluster: what is read, in which order, the verdict that follows, and what a container that failed said last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from migrator import errors
from tasks import redaction
from tasks.fleet.models import Target, WorkloadKind
from tasks.kubernetes import objects
from tasks.kubernetes.objects import Json
from tasks.rollout import ailments, releases, revisions, schema_gates, statuses
from tasks.rollout.ailments import Ailment
from tasks.rollout.releases import Before
from tasks.rollout.statuses import Progress, Verdict

LINES = 6
"""Lines that are shown: the error and what led to it. The rest is in `kubectl logs`."""

LONGEST_LINE = 300
"""Characters; a line of JSON or a stack frame's arguments may be endless."""


class Cluster(Protocol):
    """What is asked of a cluster; answers are the API's JSON. Each raises what `kubernetes_api.call` raises."""

    def workload(self, kind: WorkloadKind, namespace: str, name: str) -> Json | None: ...

    def replica_sets(self, namespace: str, selector: str) -> Sequence[Json]: ...

    def controller_revisions(self, namespace: str, selector: str) -> Sequence[Json]: ...

    def pods(self, namespace: str, selector: str) -> Sequence[Json]: ...

    def log(self, namespace: str, pod: str, *, container: str, lines: int, previous: bool = False) -> str: ...


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen.

    Args:
        workload: None where there is none, and where the API server did not answer.
        ailment: the container behind a failure, where one can be named.
        fault: why the API server did not answer, or not yet.
    """

    verdict: Verdict
    workload: Json | None = None
    ailment: Ailment | None = None
    fault: errors.GreylagError | None = None


def read(target: Target, cluster: Cluster) -> Json | None:
    """The target's workload; a Rollout with the pod template of the Deployment that it refers to."""
    kind, name = target.workload.kind, target.workload.name
    workload = cluster.workload(kind, target.namespace, name)
    reference = (workload["spec"].get("workloadRef") or {}) if workload is not None and kind is WorkloadKind.ROLLOUT else {}
    if workload is None or not reference:
        return workload
    if reference.get("kind") != WorkloadKind.DEPLOYMENT:
        raise errors.NotFound(
            f"Rollout {target.namespace}/{name}: its workloadRef names a {reference.get('kind')}",
            code="workload-reference",
            hint="only a Deployment's pod template can be followed",
        )
    referenced = cluster.workload(WorkloadKind.DEPLOYMENT, target.namespace, str(reference.get("name")))
    if referenced is None:
        raise errors.NotFound(
            f"Rollout {target.namespace}/{name}: its workloadRef names Deployment {reference.get('name')}, which does not exist",
            code="workload-reference",
        )
    return statuses.resolved(workload, referenced)


def look(target: Target, cluster: Cluster, *, image: str, before: Before | None, now: datetime) -> Look:
    """Looks once.

    The order is that of the questions: is it this release's, where does kubectl's rollout status stand, do older pods still run, has the schema
    gate passed. DONE is only said of a workload that is still the same after all of it was read.
    """
    kind = target.workload.kind
    workload = read(target, cluster)
    if workload is None:
        return Look(Verdict(Progress.NOT_YET, f"{kind} {target.workload.name} does not exist"))
    belonging = releases.belongs(workload, image, target.workload.container, before)
    if belonging.progress is Progress.NOT_YET:
        return Look(belonging, workload)
    standing = statuses.status(kind, workload)
    if not statuses.observed(kind, workload):
        return Look(standing, workload)
    division = _divided(target, cluster, workload)
    if belonging.progress is Progress.WAITING:
        belonging = releases.proven(workload, image, target.workload.container, division.new)
        if belonging.progress is Progress.NOT_YET:
            return Look(belonging, workload)
    found = _standing(standing, belonging, workload, division, now)
    if found.verdict.progress is Progress.DONE:
        return _unmoved(target, cluster, workload, found)
    return found


def _standing(standing: Verdict, belonging: Verdict, workload: Json, division: revisions.Division, now: datetime) -> Look:
    pods, gates = division.serving, schema_gates.gates(workload)
    if standing.progress is Progress.FAILED:
        return Look(standing, workload, ailments.suspect(pods))
    if standing.progress is Progress.WAITING:
        worst = ailments.worst(pods, gates, now)
        if worst is not None:
            return Look(Verdict(Progress.FAILED, worst.reason), workload, worst)
        remark = ailments.remark(pods, gates)
        return Look(Verdict(Progress.WAITING, f"{standing.reason}; {remark}" if remark else standing.reason), workload)
    if division.old:
        return Look(Verdict(Progress.WAITING, f"pods of the previous release still run: {', '.join(division.old_names[:3])}"), workload)
    passed = schema_gates.passed(gates, pods)
    if passed.progress is Progress.WAITING or belonging.progress is Progress.WAITING:
        return Look(passed if passed.progress is Progress.WAITING else belonging, workload)
    return Look(Verdict(Progress.DONE, f"{standing.reason}; {passed.reason}"), workload)


def _divided(target: Target, cluster: Cluster, workload: Json) -> revisions.Division:
    kind, selector = target.workload.kind, objects.selector(workload)
    found: Sequence[Json] = ()
    if kind is WorkloadKind.DEPLOYMENT:
        found = cluster.replica_sets(target.namespace, selector)
    elif kind is WorkloadKind.DAEMON_SET:
        found = cluster.controller_revisions(target.namespace, selector)
    return revisions.divide(kind, workload, found, cluster.pods(target.namespace, selector))


def _unmoved(target: Target, cluster: Cluster, workload: Json, found: Look) -> Look:
    """The workload and its pods are read one after the other: another release may have begun in between."""
    again = read(target, cluster)
    same = again is not None and (again["metadata"].get("uid"), objects.generation(again)) == (
        workload["metadata"].get("uid"),
        objects.generation(workload),
    )
    return found if same else Look(Verdict(Progress.WAITING, "the workload changed while it was looked at"), again)


def last_words(cluster: Cluster, namespace: str, ailment: Ailment) -> str:
    """The container's last words, as lines for an error's detail; empty where it had none.

    A log that can't be read is no reason to hide why the rollout failed: the words then say why there are none.
    """
    text = ailment.message
    if not text.strip() and ailment.previous is not None:
        try:
            text = _log(cluster, namespace, ailment, ailment.previous)
        except errors.GreylagError as error:
            hint = f" ({error.hint})" if error.hint else ""
            return f"its log can't be read: {error.message}{hint}"
    lines = [line.rstrip() for line in text.splitlines() if line.strip()][-LINES:]
    if not lines:
        return ""
    shown = "\n".join("  " + (line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…") for line in lines)
    # A container that could not be made said nothing; the kubelet speaks of it.
    whose = "last words of" if ailment.previous is not None else "what the kubelet says of"
    return f"{whose} container {ailment.container}, pod {ailment.pod}:\n{redaction.clean(shown)}"


def _log(cluster: Cluster, namespace: str, ailment: Ailment, previous: bool) -> str:
    text = cluster.log(namespace, ailment.pod, container=ailment.container, lines=LINES, previous=previous)
    if text.strip() or not previous:
        return text
    # The node may have removed the previous instance's log, or started the next one between the two questions.
    return cluster.log(namespace, ailment.pod, container=ailment.container, lines=LINES)
