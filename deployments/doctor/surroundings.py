"""The links around the database: the chart's values, what the cluster holds of the service, the Argo CD application.

What the caller's Role doesn't show is *unknown*, with the rule that would show it: the shipped Roles need no more for a doctor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from deployments.chart import values
from deployments.doctor import observation
from deployments.doctor.findings import Finding, Look, State, absent, broken, sound, unknown
from migrator import errors
from migrator.planning import files as loading
from tasks import kubernetes
from tasks.argocd import client as argocd
from tasks.argocd.states import Application, Phase
from tasks.fleet.models import Target
from tasks.job import failures, freshness, standing
from tasks.kubernetes import objects, waiting
from tasks.rollout import statuses
from tasks.settings import Settings

Json = Mapping[str, Any]

_CHART = Path("deployments") / "chart" / "service" / "values"


class Cluster(observation.Cluster, Protocol):
    """What is asked of a cluster."""

    def external_secret(self, namespace: str, name: str) -> Json | None: ...

    def events(self, namespace: str, uid: str) -> Sequence[Json]: ...

    def config_map(self, namespace: str, name: str) -> Json | None: ...


class Surroundings:
    """The links of one target outside of its database.

    Args:
        root: the checkout, where the chart's values are.
        version: tells the version of Vault's secret that the links before have read; 0 where it has none.
    """

    def __init__(self, target: Target, settings: Settings, root: Path, version: Callable[[], int] = lambda: 0) -> None:
        self.target = target
        self.settings = settings
        self.root = root
        self._version_read = version
        self._cluster: Cluster | None = None

    def chain(self) -> list[tuple[str, Look]]:
        """Returns the links in their order."""
        return [
            ("chart values", self._values),
            ("cluster", self._connect),
            ("ExternalSecret", self._external_secret),
            ("ConfigMap", self._config_map),
            ("migration Job", self._job),
            ("workload", self._workload),
            ("Argo CD application", self._application),
        ]

    def _values(self) -> Iterator[Finding]:
        path = self.root / _CHART / f"{self.target.service}.yaml"
        if not path.exists():
            yield absent("chart values", f"no {_CHART / path.name} in this checkout")
            return
        import yaml

        written = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        mine = written.get("migration") or {}
        if mine.get("enabled") is False:
            yield broken(
                "chart values",
                f"{_CHART / path.name}: migration.enabled is false, so no Job is made",
                cause="migration-disabled",
                hint="set it to true, or migrate by the flows (strategy external)",
            )
            return
        ours = values.values(self.target)["migration"]
        differing = sorted(name for name in ("engine", "database") if name in mine and mine[name] != ours[name])
        if differing and mine.get("environment") == self.target.environment:
            yield broken(
                "chart values",
                f"{_CHART / path.name}: migration.{differing[0]} is {mine[differing[0]]}, fleet.yaml says {ours[differing[0]]}",
                cause="chart-values",
                hint=f"greylag chart values @{self.target.label}",
            )
            return
        yield sound("chart values", f"{_CHART / path.name} says what fleet.yaml says")

    def _connect(self) -> Iterator[Finding]:
        self._cluster = kubernetes.connect(self.target, self.settings)
        if self._cluster is None:
            yield absent("cluster", "no cluster is configured (GREYLAG_KUBE_CONTEXT)")
            return
        yield sound("cluster", f"context {self.target.kube_context or self.settings.kube_context}, namespace {self.target.namespace}")

    def _external_secret(self) -> Iterator[Finding]:
        if self._cluster is None or "kv" not in self.target.source.policies:
            yield absent(
                "ExternalSecret", "not asked: no cluster" if self._cluster is None else "the credentials don't come from Vault's store"
            )
            return
        name = self.target.job.external_secret or self.target.job.secret
        place = f"ExternalSecret {self.target.namespace}/{name}"
        try:
            found = self._cluster.external_secret(self.target.namespace, name)
            if found is None and self.target.job.external_secret:
                yield broken(
                    "ExternalSecret",
                    f"there is no {place}, which job.external_secret of fleet.yaml names",
                    cause="external-secret-missing",
                    hint="install the service's chart, or correct job.external_secret",
                )
                return
            if found is None:
                yield absent(
                    "ExternalSecret", f"there is no {place}: the service's chart is not installed, or its Secret comes from elsewhere"
                )
                return
            ready = objects.condition(found, "Ready")
            if not ready:
                told = self._cluster.events(self.target.namespace, str(found["metadata"]["uid"]))
                yield broken(
                    "ExternalSecret",
                    f"{place} is not Ready: {freshness.cause(found, told)}",
                    cause="external-secret-failed",
                    hint=f"does Vault hold {self.target.vault_path}? `kubectl -n {self.target.namespace} describe externalsecret {name}`",
                )
                return
        except errors.LoginFailed as error:
            yield _unseen("ExternalSecret", error)
            return
        version_read = self._version_read()
        if version_read and (why := freshness.differing_reference(found, self.target.vault_path, version_read)):
            yield broken(
                "ExternalSecret",
                f"{place} is not this database's: {why}",
                cause="external-secret-other",
                hint=f"greylag chart values @{self.target.label}",
            )
            return
        current, version = freshness.is_current(found), "-".join(filter(None, freshness.synced_version(found)))
        yield (sound if current else unknown)(
            "ExternalSecret", f"{place} is Ready, synced {'from' if current else 'before'} its present specification ({version or 'never'})"
        )

    def _config_map(self) -> Iterator[Finding]:
        if self._cluster is None:
            yield absent("ConfigMap", "not asked: no cluster")
            return
        try:
            newest = standing.newest(self._cluster.jobs(self.target.namespace), self.target)
            names = _mounted(newest) if newest else []
            if newest is None or not names:
                yield absent("ConfigMap", "the newest migration Job mounts none" if newest else "there is no migration Job that mounts one")
                return
            for name in names:
                yield self._sql(name, self._cluster.config_map(self.target.namespace, name))
        except errors.LoginFailed as error:
            yield _unseen("ConfigMap", error)

    def _sql(self, name: str, found: Json | None) -> Finding:
        place = f"ConfigMap {self.target.namespace}/{name}"
        if found is None:
            return broken(
                "ConfigMap",
                f"there is no {place}, which the newest migration Job mounts",
                cause="config-map-missing",
                hint="sync the whole application: the ConfigMap belongs before the Job",
            )
        held = {key: text.replace("\r\n", "\n") for key, text in (found.get("data") or {}).items() if key.endswith(".sql")}
        migrations = loading.load(self.target.directory).migrations
        files = {Path(item.path).name: item.read().decode("utf-8", "replace") for item in migrations if item.kind == "sql"}
        other = sorted(key for key, text in held.items() if key in files and text != files[key].replace("\r\n", "\n"))
        if other:
            return broken(
                "ConfigMap",
                f"{place} holds another text of {other[0]} than this checkout",
                cause="config-map-differs",
                hint="which of the two is released? `greylag verify` compares the checkout with the database",
            )
        later = sorted(files.keys() - held.keys())
        return sound(
            "ConfigMap", f"{place} holds {len(held)} file(s) as this checkout has them" + (f", not yet {later[0]}" if later else "")
        )

    def _job(self) -> Iterator[Finding]:
        if self._cluster is None:
            yield absent("migration Job", "not asked: no cluster")
            return
        try:
            found = observation.job(self.target, self._cluster)
            said = "; ".join(found.lines)
            if found.document.get("job") is None:
                yield absent("migration Job", said)
            elif found.problem is None:
                yield sound("migration Job", said)
            else:
                yield self._failing_job(said, found.problem)
        except errors.LoginFailed as error:
            yield _unseen("migration Job", error)

    def _failing_job(self, said: str, problem: errors.GreylagError) -> Finding:
        """Returns what keeps the newest Job from its end: its pods' own words, or what its pods wait for."""
        assert self._cluster is not None
        job = standing.newest(self._cluster.jobs(self.target.namespace), self.target)
        if job is None:  # deleted since
            return unknown("migration Job", said)
        name = job["metadata"]["name"]
        pods = standing.pods_of(job, self._cluster.pods(self.target.namespace, f"batch.kubernetes.io/job-name={name}"))
        if standing.state(job) is standing.JobState.FAILED:
            told = failures.failure(job, pods, self.target.label)
            if told.code == failures.JobFailed.code:
                return Finding("migration Job", State.BROKEN, said, problem.code, problem.hint or "")
            return Finding("migration Job", State.BROKEN, f"{told.message}; {said}", told.code, told.hint or "")
        stuck = failures.stuck(job, pods, self._told([job, *pods]))
        if stuck is None:
            return unknown("migration Job", f"at work: {said}")
        code, hint = failures.STUCK[stuck.state]
        return broken("migration Job", f"Job {name} does not get on: {stuck.reason}", cause=code, hint=hint)

    def _told(self, found: Sequence[Json]) -> list[Json]:
        assert self._cluster is not None
        return [event for item in found for event in self._cluster.events(self.target.namespace, str(item["metadata"].get("uid", "")))]

    def _workload(self) -> Iterator[Finding]:
        if self._cluster is None:
            yield absent("workload", "not asked: no cluster")
            return
        kind, name, namespace = self.target.workload.kind, self.target.workload.name, self.target.namespace
        place = f"{kind} {namespace}/{name}"
        try:
            found = self._cluster.workload(kind, namespace, name)
            if found is None:
                yield absent("workload", f"{place} does not exist")
                return
            verdict = statuses.status(kind, found)
            said = f"{place}: {verdict.progress.value}: {verdict.reason}"
            if verdict.progress is statuses.Progress.DONE:
                yield sound("workload", said)
            else:
                yield self._unready(found, verdict, said)
        except errors.LoginFailed as error:
            yield _unseen("workload", error)

    def _unready(self, found: Json, verdict: statuses.Verdict, said: str) -> Finding:
        """Returns what a workload's pods wait for; where nothing is wrong with them, that it is not known whether they become ready."""
        assert self._cluster is not None
        selector = objects.selector(found) if found["spec"].get("selector") else ""
        pods = [pod for pod in self._cluster.pods(self.target.namespace, selector) if not objects.deleting(pod)] if selector else []
        pending = [pod for pod in pods if (pod.get("status") or {}).get("phase", "Pending") == "Pending"]
        stuck = failures.stuck(found, pods, self._told(pending))
        refused = objects.condition(found, "ReplicaFailure")
        code, hint = failures.STUCK[stuck.state] if stuck else failures.STUCK["pod"]
        if stuck is not None:
            return broken("workload", f"{said}; its pods: {stuck.reason}", cause=code, hint=hint)
        if refused:
            return broken("workload", f"{said}: {refused.get('message', '')}", cause=code, hint=hint)
        waits = [(pod, item, waiting.read(item)) for pod in pods for item in objects.container_statuses(pod)]
        for pod, item, wait in waits:
            if wait is not None and wait.reason == waiting.CRASH_LOOP:
                lines = self._cluster.log(
                    self.target.namespace, objects.name(pod), container=str(item["name"]), lines=observation.LAST_LINES
                )
                last = "; ".join(lines.splitlines())
                return broken(
                    "workload",
                    f"{said}; container {item['name']} ends and is restarted: {last or wait.message}",
                    cause="crash-loop",
                    hint=f"its last words are above: `kubectl -n {self.target.namespace} logs {objects.name(pod)} --previous`",
                )
        if verdict.progress is statuses.Progress.FAILED:
            hint = f"`kubectl -n {self.target.namespace} describe {self.target.workload.kind.lower()} {self.target.workload.name}`"
            return broken("workload", said, cause="rollout-failed", hint=hint)
        return unknown("workload", said)

    def _application(self) -> Iterator[Finding]:
        if not self.target.argocd.server:
            yield absent("Argo CD application", "fleet.yaml names no Argo CD (argocd.server)")
            return
        with argocd.connect(self.target, self.settings) as client:
            found = client.application()
        yield standing_of(found)


def standing_of(found: Application) -> Finding:
    """Returns what an application says of itself; a Job that its TTL has removed is told from every other difference."""
    link, operation = "Argo CD application", found.operation
    said = f"{found.name}: {found.sync or 'sync unknown'}, {found.health or 'health unknown'}"
    if found.conditions:
        return broken(link, f"{said}: {found.conditions[0]}", cause="application-condition", hint=f"argocd app get {found.name}")
    if operation is not None and operation.phase in (Phase.FAILED, Phase.ERROR):
        return broken(
            link,
            f"{said}; the last sync {operation.phase.lower()}: {operation.message}",
            cause="argocd-failed",
            hint=f"argocd app get {found.name}; after mending it `argocd app sync {found.name}`",
        )
    if operation is not None and not operation.over:
        return unknown(link, f"{said}; a sync is at work: {operation.message}")
    gone = [item for item in found.differing if item.kind == "Job" and item.missing]
    if gone:
        return broken(
            link,
            f"{said}; Job {gone[0].name} is in Git and not in the cluster",
            cause="application-job-gone",
            hint="make it a Sync hook (annotation argocd.argoproj.io/hook: Sync): hooks are no part of the comparison",
        )
    if found.sync == "OutOfSync":
        names = ", ".join(f"{item.kind} {item.name}" for item in found.differing[:3])
        return broken(link, f"{said}: {names}".rstrip(": "), cause="application-out-of-sync", hint=f"argocd app diff {found.name}")
    if found.health == "Degraded":
        return broken(link, said, cause="application-degraded", hint=f"argocd app get {found.name} --output tree")
    return sound(link, said)


def _mounted(job: Json) -> list[str]:
    volumes = (objects.template(job).get("spec") or {}).get("volumes") or ()
    return [str(item["configMap"]["name"]) for item in volumes if item.get("configMap")]


def _unseen(link: str, error: errors.LoginFailed) -> Finding:
    return unknown(link, f"not shown to this user: {error.hint or error.message}")
