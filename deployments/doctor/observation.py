"""What surrounds a target's database, for `greylag verify @environment/service`: its newest migration Job with the pods' last words, its workload.

The recipe's `kubectl get jobs | grep migrate` and `kubectl logs -l app.kubernetes.io/component=migration`. Reads only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from migrator import errors
from migrator.cli.invocation import Observation
from tasks import kubernetes, redaction
from tasks.fleet.models import Target, WorkloadKind
from tasks.job import standing
from tasks.job.standing import JobState
from tasks.rollout import statuses
from tasks.settings import Settings, load

LAST_LINES = 10
"""Lines of a container's log that are shown: goose's and greylag's last lines with the hint."""

MOST_PODS = 4
"""Pods whose words are shown, the newest ones: as many as a Job with backoffLimit 3 makes."""

Json = Mapping[str, Any]


class Cluster(Protocol):
    """What is asked of a cluster."""

    def workload(self, kind: WorkloadKind, namespace: str, name: str) -> Json | None: ...

    def jobs(self, namespace: str, selector: str = "") -> Sequence[Json]: ...

    def pods(self, namespace: str, selector: str) -> Sequence[Json]: ...

    def log(self, namespace: str, pod: str, *, container: str, lines: int) -> str: ...


def observe(target: Target, settings: Settings | None = None) -> Observation:
    """Looks at the configured cluster; without one it says so. What the cluster refuses is told, never raised: the database comes next."""
    try:
        cluster = kubernetes.connect(target, settings or load())
    except errors.GreylagError as error:
        return _untold(error)
    if cluster is None:
        told = "no cluster is configured (GREYLAG_KUBE_CONTEXT): the migration Job and the workload were not looked at"
        return Observation((told,), {"job": None, "workload": None})
    return look(target, cluster)


def look(target: Target, cluster: Cluster) -> Observation:
    """Looks at the Job, then at the workload. The first problem counts."""
    found = [_guarded(part, target, cluster) for part in (job, workload)]
    problems = [item.problem for item in found if item.problem is not None]
    return Observation(
        tuple(redaction.clean(line) for item in found for line in item.lines),
        {key: value for item in found for key, value in item.document.items()},
        problems[0] if problems else None,
    )


def _guarded(part: Any, target: Target, cluster: Cluster) -> Observation:
    try:
        observed: Observation = part(target, cluster)
    except errors.GreylagError as error:
        return _untold(error)
    return observed


def _untold(error: errors.GreylagError) -> Observation:
    return Observation((error.describe(),), {}, error)


def job(target: Target, cluster: Cluster) -> Observation:
    """Looks at the newest migration Job and the last words of its pods. Raises what the cluster refuses."""
    newest = standing.newest(cluster.jobs(target.namespace), target)
    if newest is None:
        return Observation((f"no migration Job of {target.service} in {target.namespace}",), {"job": None})
    name, state = newest["metadata"]["name"], standing.state(newest)
    lines = [f"job {target.namespace}/{name}: {standing.ended(newest)}"]
    told = []
    pods = cluster.pods(target.namespace, f"batch.kubernetes.io/job-name={name}")
    for pod in standing.pods_of(newest, pods)[-MOST_PODS:]:
        said = _last_words(target, cluster, pod)
        lines += [f"pod {pod['metadata']['name']}: {standing.pod_ended(pod)}", *(f"  | {line}" for line in said)]
        told.append({"name": pod["metadata"]["name"], "state": standing.pod_ended(pod), "log": [redaction.clean(line) for line in said]})
    document = {"name": name, "namespace": target.namespace, "state": str(state), "ended": standing.ended(newest), "pods": told}
    return Observation(tuple(lines), {"job": document}, _verdict(target, name, state))


def _last_words(target: Target, cluster: Cluster, pod: Json) -> list[str]:
    found: list[str] = []
    for container in standing.containers(pod):
        text = cluster.log(target.namespace, pod["metadata"]["name"], container=container, lines=LAST_LINES)
        found += text.splitlines()[-LAST_LINES:]
    return found


def _verdict(target: Target, name: str, state: JobState) -> errors.GreylagError | None:
    if state is JobState.FAILED:
        return errors.VerificationFailed(
            f"{target.label}: the newest migration Job {name} failed",
            code="migration-job-failed",
            hint="its pods' last lines are above. The database has all files of this checkout: if the Job is of an older release, "
            f"`kubectl -n {target.namespace} delete job {name}`",
        )
    if state in (JobState.RUNNING, JobState.SUSPENDED):
        return errors.NotYet(
            f"{target.label}: the migration Job {name} is {state}",
            code="migration-job-unfinished",
            hint=f"`kubectl -n {target.namespace} wait --for=condition=complete job/{name}`, then verify again",
        )
    return None


def workload(target: Target, cluster: Cluster) -> Observation:
    """Looks at the workload. Raises what the cluster refuses."""
    kind, name = target.workload.kind, target.workload.name
    place = f"{kind} {target.namespace}/{name}"
    found_workload = cluster.workload(kind, target.namespace, name)
    if found_workload is None:
        return Observation((f"{place} does not exist",), {"workload": None})
    found = statuses.status(kind, found_workload)
    document = {"kind": str(kind), "name": name, "state": found.progress.name.lower(), "reason": found.reason}
    return Observation((f"{place}: {found.progress.value}: {found.reason}",), {"workload": document})
