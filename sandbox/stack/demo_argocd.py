"""The demo's Argo CD (`make demo CLUSTER=1 ARGOCD=1`): step 3 is a sync of a real Argo CD, which brings the migration's hook and then the Deployment.

The demo plays the platform team (an application per service and environment, synced by nobody on its own, and for each environment's worker an account that
may `get` and `sync` its applications and nothing else), and the pipeline, which commits each environment's release to Git. What begins a sync is greylag.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from migrator import errors
from sandbox import builds
from sandbox.argocd import installation
from sandbox.argocd.repository import Repository
from sandbox.stack import demo_cluster
from sandbox.stack.demo_cluster import RELEASE, DemoCluster
from tasks import fleet
from tasks.fleet.models import Fleet, Target
from tasks.job import manifest

APPLICATION = "{service}-{environment}"

_WAVES = {"Job": "-2", "Deployment": "0"}
_BOUND = ("GREYLAG_BUNDLE", "GREYLAG_APPROVED_DIGEST")
"""What a Job that a run makes is bound to; what lies in Git is bound to nothing but its image."""


class DemoArgoCD(DemoCluster):
    """The cluster with an Argo CD on it, which delivers the services. Arguments as DemoCluster.

    Raises:
        NotFound: this machine can't run a cluster, or Argo CD is not built.
    """

    def __init__(self, directory: Path, given: Fleet) -> None:
        super().__init__(directory, given)
        reason = installation.unavailable()
        if reason is not None:
            raise errors.NotFound(reason, code="sandbox-missing", hint="`make demo CLUSTER=1` without ARGOCD=1 needs no Argo CD")
        self._directory = directory.absolute()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._argocd = installation.ArgoCD(self._cluster, self._directory / "argocd", wave_delay_seconds=0)

    def fleet_file(self) -> Path:
        """Writes the fleet with Argo CD's section, and returns the file's path."""
        source = self._fleet.path
        assert source is not None, "the demo's fleet is read from a file"
        written = yaml.safe_load(source.read_text(encoding="utf-8"))
        written["root"] = str((source.parent / str(written.get("root", "."))).resolve())
        written["argocd"] = {"server": self._argocd.url, "application": APPLICATION}
        path = self._directory / "fleet.yaml"
        path.write_text(yaml.safe_dump(written, sort_keys=False), encoding="utf-8")
        self._fleet = fleet.load(path)
        return path

    def start(self) -> None:
        """Starts the cluster, then Argo CD on it."""
        super().start()
        self._argocd.start()

    def stop(self) -> None:
        """Stops everything; objects, applications and Git are kept."""
        self._argocd.stop()
        super().stop()

    def prepare(self, environment: str, secrets: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Does the platform team's and the pipeline's part for an environment: its applications and their release in Git; safe to repeat."""
        variables = super().prepare(environment, secrets)
        targets = self._targets(environment)
        repository = Repository(self._directory / "delivery" / environment)
        repository.commit({f"{target.service}/all.json": _manifests(target) for target in targets}, f"release {RELEASE}")
        rights = []
        for target in targets:
            name = target.argocd.application
            self._argocd.create_application(name, repository, target.service, target.namespace)
            rights += [f"applications, {verb}, default/{name}, allow" for verb in ("get", "sync")]
        token = self._directory / f"argocd-token-{environment}"
        token.touch(mode=0o600)
        token.write_text(self._argocd.account(f"greylag-{environment}", *rights).token + "\n", encoding="utf-8")
        return variables | {"GREYLAG_MODE": "argocd", "GREYLAG_ARGOCD_TOKEN_FILE": str(token)}

    def roll_out(self, environment: str) -> str:
        """Does nothing: the release is in Git, and each sync brings its Deployment behind the migration. Returns what to tell."""
        return f"the release {self.release} is in Git; each service's sync migrates it, then brings its Deployment"

    def commands(self) -> Iterator[tuple[str, str]]:
        """Yields commands to try, and what they show."""
        yield from super().commands()
        yield "kubectl -n argocd get applications", "an application per service and environment"
        yield f"{self._argocd.url}", f"Argo CD's UI; user admin, password {self._argocd.password}"


def build(say: Callable[[str], None]) -> None:
    """Builds the control plane and Argo CD if they are not cached. Raises NotFound without Go, Unavailable when a build fails."""
    demo_cluster.build(say)
    builds.build(builds.ARGOCD, say)


def _manifests(target: Target) -> str:
    """Returns what a service's chart would have in Git: the migration's hook, then the Deployment."""
    hook = manifest.manifest(manifest.Order(target=target, image=target.image(RELEASE), bundle="", plan=""))
    hook["metadata"] = {"name": f"{target.service}-migrate", "labels": hook["metadata"]["labels"]}
    (container,) = hook["spec"]["template"]["spec"]["containers"]
    container["env"] = [item for item in container["env"] if item["name"] not in _BOUND]
    items = [hook, demo_cluster.deployment(target)]
    for item in items:
        item["metadata"]["annotations"] = {"argocd.argoproj.io/sync-wave": _WAVES[item["kind"]]}
    hook["metadata"]["annotations"] |= {
        "argocd.argoproj.io/hook": "Sync",
        "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1)
