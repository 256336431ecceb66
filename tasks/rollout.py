"""Step 5: is this release's code running, and no older code any more? `kubectl rollout status`, with what it leaves out.

kubectl calls the previous release's finished rollout a success, and does not count old pods that are still terminating (kubernetes.md §4). So
first the workload must carry this release's image (or a newer pod template than before the run), then kubectl's rules decide, then no pod of an
older ReplicaSet may be left. Everything that decides is a pure function over the API's own JSON.
"""

from __future__ import annotations

import enum
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from migrator import errors
from tasks.fleet_models import Target, WorkloadKind
from tasks.outcomes import RolloutOutcome, RolloutState
from tasks.settings import Settings, load

Json = Mapping[str, Any]

IMAGE_PATIENCE = 60.0
"""Seconds after which an image that can't be pulled counts as stuck: registries hiccup, and the kubelet's first tries fall into this time."""

NEVER_PULLED = frozenset({"InvalidImageName", "ErrImageNeverPull"})
"""Reasons that no time will mend."""

BACKING_OFF = frozenset({"ImagePullBackOff", "ErrImagePull"})

REVISION = "deployment.kubernetes.io/revision"


class Progress(enum.Enum):
    """Where a rollout stands."""

    NOT_YET = "not rolled out yet"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A progress and why."""

    progress: Progress
    reason: str


@dataclass(frozen=True, slots=True)
class Before:
    """What a workload was before the migration ran. `template` is a digest of its pod template: scaling makes a new generation, not a new
    release. The defaults stand for "there was none".
    """

    uid: str = ""
    generation: int = 0
    template: str = ""


class Cluster(Protocol):
    """What is asked of a cluster; answers are the API's JSON."""

    def workload(self, kind: WorkloadKind, namespace: str, name: str) -> Json | None: ...

    def replica_sets(self, namespace: str, selector: str) -> Sequence[Json]: ...

    def pods(self, namespace: str, selector: str) -> Sequence[Json]: ...


def snapshot(workload: Json | None) -> Before:
    """What is to be remembered of a workload before a run."""
    if workload is None:
        return Before()
    metadata = workload["metadata"]
    return Before(str(metadata.get("uid", "")), int(metadata.get("generation", 0)), _template(workload))


def belongs(workload: Json, image: str, container: str, before: Before | None) -> Verdict:
    """Whether the workload is this release's at all: DONE or NOT_YET.

    With an image, the image decides. Without one, the pod template must be newer than before the run. With neither, nothing tells releases
    apart, and nothing is claimed.
    """
    if image:
        carried = _images(workload, container)
        if image in carried:
            return Verdict(Progress.DONE, f"carries {image}")
        return Verdict(Progress.NOT_YET, f"carries {', '.join(carried) or 'no such container'}, not {image}")
    if before is None:
        return Verdict(
            Progress.NOT_YET, "nothing tells this release from the one before: neither its image nor what was there before is known"
        )
    metadata = workload["metadata"]
    if str(metadata.get("uid", "")) != before.uid:
        return Verdict(Progress.DONE, "was created since the run began")
    generation = int(metadata.get("generation", 0))
    if generation > before.generation and _template(workload) != before.template:
        return Verdict(Progress.DONE, f"generation {generation} is newer than {before.generation}, seen before the run")
    return Verdict(Progress.NOT_YET, f"still has the pod template of generation {before.generation}, seen before the run")


def status(kind: WorkloadKind, workload: Json) -> Verdict:
    """kubectl's rollout status (1.36), rule by rule in its order (kubernetes.md §4.1)."""
    return {
        WorkloadKind.DEPLOYMENT: _deployment,
        WorkloadKind.STATEFUL_SET: _stateful_set,
        WorkloadKind.DAEMON_SET: _daemon_set,
    }[kind](workload)


def _deployment(workload: Json) -> Verdict:
    spec, state = workload["spec"], workload.get("status") or {}
    name = workload["metadata"]["name"]
    if int(workload["metadata"].get("generation", 0)) > int(state.get("observedGeneration", 0)):
        return Verdict(Progress.WAITING, "the controller has not seen the new specification yet")
    progressing: Json = next((item for item in state.get("conditions") or () if item.get("type") == "Progressing"), {})
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        return Verdict(Progress.FAILED, f"ProgressDeadlineExceeded: {progressing.get('message') or f'{name} made no progress in time'}")
    if spec.get("paused"):  # kubectl would wait until its own time-out without saying why
        return Verdict(Progress.WAITING, f"the rollout is paused: `kubectl rollout resume deployment/{name}` goes on")
    updated, total, available = (int(state.get(key, 0)) for key in ("updatedReplicas", "replicas", "availableReplicas"))
    wanted = int(spec.get("replicas", 1))
    if updated < wanted:
        return Verdict(Progress.WAITING, f"{updated} of {wanted} new replicas have been updated")
    if total > updated:
        return Verdict(Progress.WAITING, f"{total - updated} old replicas are pending termination")
    if available < updated:
        return Verdict(Progress.WAITING, f"{available} of {updated} updated replicas are available")
    return Verdict(Progress.DONE, f"{available} of {wanted} replicas are updated and available")


def _stateful_set(workload: Json) -> Verdict:
    spec, state = workload["spec"], workload.get("status") or {}
    if (found := _rolling_only(spec, "StatefulSet")) is not None:
        return found
    observed = int(state.get("observedGeneration", 0))
    if observed == 0 or int(workload["metadata"].get("generation", 0)) > observed:
        return Verdict(Progress.WAITING, "the controller has not seen the new specification yet")
    wanted, ready, updated = int(spec.get("replicas", 1)), int(state.get("readyReplicas", 0)), int(state.get("updatedReplicas", 0))
    if ready < wanted:
        return Verdict(Progress.WAITING, f"{ready} of {wanted} pods are ready")
    rolling = (spec.get("updateStrategy") or {}).get("rollingUpdate")
    if rolling is not None and rolling.get("partition") is not None:
        needed = wanted - int(rolling["partition"])
        if updated < needed:
            return Verdict(Progress.WAITING, f"{updated} of {needed} pods of the partition are updated")
        return Verdict(Progress.DONE, f"{updated} pods are updated, {ready} ready")
    if state.get("updateRevision") != state.get("currentRevision"):
        return Verdict(Progress.WAITING, f"{updated} pods are at revision {state.get('updateRevision')}")
    return Verdict(Progress.DONE, f"{state.get('currentReplicas', ready)} pods are at revision {state.get('currentRevision')}")


def _daemon_set(workload: Json) -> Verdict:
    spec, state = workload["spec"], workload.get("status") or {}
    if (found := _rolling_only(spec, "DaemonSet")) is not None:
        return found
    if int(workload["metadata"].get("generation", 0)) > int(state.get("observedGeneration", 0)):
        return Verdict(Progress.WAITING, "the controller has not seen the new specification yet")
    wanted = int(state.get("desiredNumberScheduled", 0))
    for key, words in (("updatedNumberScheduled", "updated"), ("numberAvailable", "available")):
        if int(state.get(key, 0)) < wanted:
            return Verdict(Progress.WAITING, f"{int(state.get(key, 0))} of {wanted} pods are {words}")
    return Verdict(Progress.DONE, f"{wanted} of {wanted} pods are updated and available")


def _rolling_only(spec: Json, kind: str) -> Verdict | None:
    strategy = (spec.get("updateStrategy") or {}).get("type", "RollingUpdate")
    if strategy == "RollingUpdate":
        return None
    return Verdict(Progress.FAILED, f"the {kind}'s update strategy is {strategy}: its rollout can't be awaited")


def old_pods(workload: Json, replica_sets: Sequence[Json], pods: Sequence[Json]) -> tuple[str, ...]:
    """Names of pods that still run a Deployment's older code, those being deleted included (kubernetes.md §4.3)."""
    uid = workload["metadata"].get("uid")
    owned = [item for item in replica_sets if _owner(item) == uid]
    newest = max(owned, key=lambda item: int((item["metadata"].get("annotations") or {}).get(REVISION, 0)), default=None)
    old = {item["metadata"]["uid"] for item in owned if item is not newest}
    alive = ("Pending", "Running", "Unknown")
    return tuple(
        sorted(pod["metadata"]["name"] for pod in pods if _owner(pod) in old and (pod.get("status") or {}).get("phase", "Unknown") in alive)
    )


def stuck_image(pods: Sequence[Json], image: str, now: datetime) -> str:
    """Why an image will not be pulled, in words; empty while it still may be. Only pods of this release are looked at, where an image is given."""
    for pod in pods:
        state = pod.get("status") or {}
        for item in [*(state.get("initContainerStatuses") or ()), *(state.get("containerStatuses") or ())]:
            waiting = (item.get("state") or {}).get("waiting") or {}
            reason = waiting.get("reason", "")
            if image and item.get("image") and item["image"] != image and not item["image"].endswith("/" + image):
                continue
            late = reason in BACKING_OFF and _age(pod, now) > IMAGE_PATIENCE
            if reason in NEVER_PULLED or late:
                return f"{reason}: pod {pod['metadata']['name']}, container {item.get('name')}, image {item.get('image')}"
    return ""


def judge(target: Target, cluster: Cluster, *, image: str, before: Before | None, now: datetime) -> tuple[Verdict, Json | None]:
    """One look at the cluster: the verdict, and the workload as it was seen."""
    kind, name = target.workload.kind, target.workload.name
    workload = cluster.workload(kind, target.namespace, name)
    if workload is None:
        return Verdict(Progress.NOT_YET, f"{kind} {name} does not exist"), None
    found = belongs(workload, image, target.workload.container, before)
    if found.progress is Progress.NOT_YET:
        return found, workload
    found = status(kind, workload)
    if found.progress is Progress.FAILED:
        return found, workload
    selector = _selector(workload)
    pods = cluster.pods(target.namespace, selector)
    if found.progress is Progress.WAITING:
        stuck = stuck_image(pods, image, now)
        return (Verdict(Progress.FAILED, stuck) if stuck else found), workload
    if kind is WorkloadKind.DEPLOYMENT:
        old = old_pods(workload, cluster.replica_sets(target.namespace, selector), pods)
        if old:
            return Verdict(Progress.WAITING, f"pods of the previous release still run: {', '.join(old[:3])}"), workload
    return found, workload


def observe(target: Target, settings: Settings | None = None, cluster: Cluster | None = None) -> Before | None:
    """What the workload is before a run; to be handed to `await_health`. None without a cluster."""
    chosen = settings or load()
    cluster = cluster or connect(target, chosen)
    if cluster is None:
        return None
    return snapshot(cluster.workload(target.workload.kind, target.namespace, target.workload.name))


def await_health(
    target: Target,
    *,
    image: str = "",
    before: Before | None = None,
    settings: Settings | None = None,
    cluster: Cluster | None = None,
    listener: Callable[[str], None] = lambda text: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> RolloutOutcome:
    """Watches the rollout until this release's code runs everywhere.

    Without a configured cluster the outcome is `skipped`, and says so.

    Args:
        image: this release's image, as the workload names it. before: what `observe` saw before the migration.
        listener: is told each new state in words. sleep, clock: the time, for tests.

    Raises:
        VerificationFailed: `rollout-failed`: ProgressDeadlineExceeded, an image that can't be pulled, a strategy that can't be awaited.
        NotFound: `workload-deleted`: it was there and is gone.
        NotYet: `not-rolled-out`, `rollout-unfinished`: the time was up.
    """
    chosen = settings or load()
    what = f"{target.workload.kind} {target.namespace}/{target.workload.name}"
    cluster = cluster or connect(target, chosen)
    if cluster is None:
        reason = "no cluster configured (GREYLAG_KUBE_CONTEXT)"
        return RolloutOutcome(service=target.service, environment=target.environment, state=RolloutState.SKIPPED, reason=reason)
    if not image and before is None:
        raise errors.UsageError(
            f"{what}: neither this release's image nor what was there before the run is known, so its rollout can't be told from an older one",
            code="release-unknown",
            hint="give the image, or look at the workload before the migration (`rollout.observe`)",
        )
    started, told, existed = clock(), "", before is not None and bool(before.uid)
    while True:
        verdict, workload = judge(target, cluster, image=image, before=before, now=datetime.now(UTC))
        if workload is None and existed:
            raise errors.NotFound(f"{what} was deleted", code="workload-deleted", hint="somebody removed it: deploy the release again")
        existed = existed or workload is not None
        if verdict.progress is Progress.FAILED:
            raise errors.VerificationFailed(
                f"{what}: {verdict.reason}",
                code="rollout-failed",
                hint=f"`kubectl -n {target.namespace} describe {str(target.workload.kind).lower()} {target.workload.name}`; "
                "the database is migrated already: roll forward",
            )
        if verdict.progress is Progress.DONE and workload is not None:
            return _healthy(target, verdict, workload, image, clock() - started)
        if verdict.reason != told:
            told = verdict.reason
            listener(f"{what}: {verdict.reason}")
        if clock() - started >= chosen.rollout_timeout_seconds:
            raise _too_late(what, verdict, chosen)
        sleep(chosen.rollout_poll_seconds)


def _healthy(target: Target, verdict: Verdict, workload: Json, image: str, seconds: float) -> RolloutOutcome:
    carried = _images(workload, target.workload.container)
    return RolloutOutcome(
        service=target.service,
        environment=target.environment,
        state=RolloutState.HEALTHY,
        reason=verdict.reason,
        image=image or (carried[0] if carried else ""),
        generation=int(workload["metadata"].get("generation", 0)),
        seconds=round(seconds, 1),
    )


def _too_late(what: str, verdict: Verdict, settings: Settings) -> errors.NotYet:
    seconds = f"{settings.rollout_timeout_seconds:g} s"
    if verdict.progress is Progress.NOT_YET:
        return errors.NotYet(
            f"{what}: not rolled out yet after {seconds}: {verdict.reason}",
            code="not-rolled-out",
            hint="greylag does not move images itself: sync or deploy the release, the next attempt looks again",
        )
    return errors.NotYet(
        f"{what}: the rollout is unfinished after {seconds}: {verdict.reason}",
        code="rollout-unfinished",
        hint="GREYLAG_ROLLOUT_TIMEOUT_SECONDS watches longer",
    )


def connect(target: Target, settings: Settings) -> Cluster | None:
    """The configured cluster, None where none is. The environment's kube context wins over the worker's."""
    context = target.kube_context or settings.kube_context
    if not context:
        return None
    from tasks import kubernetes_api

    return kubernetes_api.connect(context)


def _template(workload: Json) -> str:
    template = workload["spec"].get("template") or {}
    return hashlib.sha256(json.dumps(template, sort_keys=True, default=str).encode()).hexdigest()


def _images(workload: Json, container: str) -> list[str]:
    """Images of the named container, of all where none is named: a sidecar's image does not matter, but which one is the sidecar?"""
    containers = workload["spec"].get("template", {}).get("spec", {}).get("containers") or ()
    return [item.get("image", "") for item in containers if not container or item.get("name") == container]


def _owner(item: Json) -> str | None:
    owners = item["metadata"].get("ownerReferences") or ()
    return next((owner.get("uid") for owner in owners if owner.get("controller")), None)


def _age(pod: Json, now: datetime) -> float:
    created = pod["metadata"].get("creationTimestamp")
    if not created:
        return 0.0
    moment = created if isinstance(created, datetime) else datetime.fromisoformat(str(created).replace("Z", "+00:00"))
    return (now - moment).total_seconds()


def _selector(workload: Json) -> str:
    """A label selector as the API takes it, `matchExpressions` included."""
    selector = workload["spec"].get("selector") or {}
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for item in selector.get("matchExpressions") or ():
        values = ",".join(item.get("values") or ())
        parts.append(
            {
                "In": f"{item['key']} in ({values})",
                "NotIn": f"{item['key']} notin ({values})",
                "Exists": item["key"],
                "DoesNotExist": f"!{item['key']}",
            }[item["operator"]]
        )
    return ",".join(parts)
