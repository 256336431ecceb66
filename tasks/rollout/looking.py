"""One look at a cluster: reads the objects in the right order, derives the verdict, and fetches the last words of a container that failed."""

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
"""Lines that are shown: the error and what led to it. `kubectl logs` has the rest."""

LONGEST_LINE = 300
"""Characters. A line of JSON or a stack frame's arguments may be very long."""


class Cluster(Protocol):
    """The calls to a cluster that this module needs; answers are the API's JSON. Each raises what `kubernetes.api.call` raises."""

    def workload(self, kind: WorkloadKind, namespace: str, name: str) -> Json | None: ...

    def replica_sets(self, namespace: str, selector: str) -> Sequence[Json]: ...

    def controller_revisions(self, namespace: str, selector: str) -> Sequence[Json]: ...

    def pods(self, namespace: str, selector: str) -> Sequence[Json]: ...

    def log(self, namespace: str, pod: str, *, container: str, lines: int, previous: bool = False) -> str: ...


@dataclass(frozen=True, slots=True)
class Look:
    """The result of one look.

    Args:
        workload: None when there is none, and when the API server did not answer.
        ailment: the container that caused a failure, if one can be named.
        fault: the error, when the API server did not answer.
    """

    verdict: Verdict
    workload: Json | None = None
    ailment: Ailment | None = None
    fault: errors.GreylagError | None = None


def read(target: Target, cluster: Cluster) -> Json | None:
    """Reads the target's workload; a Rollout gets the pod template of the Deployment that it refers to."""
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
    """Looks at the rollout once.

    It asks in this order: is the workload this release's, what does kubectl's rollout status say, do older pods still run, has the schema
    gate passed. It returns DONE only if the workload is still the same after all of that was read.
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
    """Returns the look if the workload has not changed since it was read: another release may have begun before its pods were read."""
    again = read(target, cluster)
    same = again is not None and (again["metadata"].get("uid"), objects.generation(again)) == (
        workload["metadata"].get("uid"),
        objects.generation(workload),
    )
    return found if same else Look(Verdict(Progress.WAITING, "the workload changed while it was looked at"), again)


def last_words(cluster: Cluster, namespace: str, ailment: Ailment) -> str:
    """Returns the container's last words, as lines for an error's detail; empty when there are none.

    A log that can't be read must not hide why the rollout failed: the text then says why there are no last words.
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
    # A container that could not be created said nothing; the message is the kubelet's about it.
    whose = "last words of" if ailment.previous is not None else "what the kubelet says of"
    return f"{whose} container {ailment.container}, pod {ailment.pod}:\n{redaction.clean(shown)}"


def _log(cluster: Cluster, namespace: str, ailment: Ailment, previous: bool) -> str:
    text = cluster.log(namespace, ailment.pod, container=ailment.container, lines=LINES, previous=previous)
    if text.strip() or not previous:
        return text
    # The node may have removed the previous instance's log, or started the next instance meanwhile.
    return cluster.log(namespace, ailment.pod, container=ailment.container, lines=LINES)
