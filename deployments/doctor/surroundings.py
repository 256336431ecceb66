"""The links around the database: the chart's values, what the cluster holds of the service, the Argo CD application.

What the caller's Role doesn't show is *unknown*, with the rule that would show it: the shipped Roles need no more for a doctor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from deployments.chart import values
from deployments.doctor import observation
from deployments.doctor.findings import Finding, Look, absent, broken, of_error, sound, unknown
from migrator import errors
from tasks import kubernetes
from tasks.argocd import client as argocd
from tasks.fleet.models import Target
from tasks.kubernetes import objects
from tasks.settings import Settings

Json = Mapping[str, Any]

_CHART = Path("deployments") / "chart" / "service" / "values"


class Cluster(observation.Cluster, Protocol):
    """What is asked of a cluster."""

    def external_secret(self, namespace: str, name: str) -> Json | None: ...

    def events(self, namespace: str, uid: str) -> Sequence[Json]: ...


class Surroundings:
    """The links of one target outside of its database."""

    def __init__(self, target: Target, settings: Settings, root: Path) -> None:
        self.target = target
        self.settings = settings
        self.root = root
        self._cluster: Cluster | None = None

    def chain(self) -> list[tuple[str, Look]]:
        """Returns the links in their order."""
        return [
            ("chart values", self._values),
            ("cluster", self._connect),
            ("ExternalSecret", self._external_secret),
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
        name, place = self.target.job.secret, f"ExternalSecret {self.target.namespace}/{self.target.job.secret}"
        try:
            found = self._cluster.external_secret(self.target.namespace, name)
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
                    _failing(place, found, told),
                    cause="external-secret-failed",
                    hint=f"does Vault hold {self.target.vault_path}? `kubectl -n {self.target.namespace} describe externalsecret {name}`",
                )
                return
        except errors.LoginFailed as error:
            yield _unseen("ExternalSecret", error)
            return
        version = str((found.get("status") or {}).get("syncedResourceVersion", ""))
        current = version.partition("-")[0] == str(objects.generation(found))
        yield (sound if current else unknown)(
            "ExternalSecret", f"{place} is Ready, synced {'from' if current else 'before'} its present specification ({version or 'never'})"
        )

    def _job(self) -> Iterator[Finding]:
        yield from self._observed("migration Job", "job", observation.job)

    def _workload(self) -> Iterator[Finding]:
        yield from self._observed("workload", "workload", observation.workload)

    def _observed(self, link: str, key: str, look: Any) -> Iterator[Finding]:
        if self._cluster is None:
            yield absent(link, "not asked: no cluster")
            return
        try:
            found = look(self.target, self._cluster)
        except errors.LoginFailed as error:
            yield _unseen(link, error)
            return
        said = "; ".join(found.lines)
        if found.problem is not None:
            yield of_error(link, found.problem)
        elif found.document.get(key) is None:
            yield absent(link, said)
        else:
            yield sound(link, said)

    def _application(self) -> Iterator[Finding]:
        if not self.target.argocd.server:
            yield absent("Argo CD application", "fleet.yaml names no Argo CD (argocd.server)")
            return
        with argocd.connect(self.target, self.settings) as client:
            found = client.application()
        said = f"{found.name}: {found.sync or 'sync unknown'}, {found.health or 'health unknown'}"
        if found.conditions:
            yield broken(
                "Argo CD application", f"{said}: {found.conditions[0]}", cause="application-condition", hint=f"argocd app get {found.name}"
            )
        elif found.sync == "OutOfSync":
            yield broken("Argo CD application", said, cause="application-out-of-sync", hint=f"argocd app diff {found.name}")
        else:
            yield sound("Argo CD application", said)


def _failing(place: str, found: Json, told: Sequence[Json]) -> str:
    conditions: list[Json] = list((found.get("status") or {}).get("conditions") or ())
    condition: Json = next((item for item in conditions if item.get("type") == "Ready"), {})
    cause = next((str(event.get("message")) for event in reversed(told) if event.get("type") == "Warning"), "")
    return f"{place} is not Ready: {cause or condition.get('message') or 'External Secrets has not looked at it yet'}"


def _unseen(link: str, error: errors.LoginFailed) -> Finding:
    return unknown(link, f"not shown to this user: {error.hint or error.message}")
