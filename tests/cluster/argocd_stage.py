"""A service whose migration is a hook of an Argo CD application: what a chart renders, written by hand, and a run of mode argocd beside it."""

from __future__ import annotations

import contextvars
import os
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from sandbox.argocd.api import Api
from sandbox.argocd.installation import ArgoCD
from sandbox.argocd.repository import Repository
from sandbox.cluster.api import Object
from tasks import settings
from tasks.argocd import running
from tasks.fleet import ArgoCD as Section
from tasks.fleet import Target
from tasks.job import manifest
from tasks.job.manifest import Order
from tasks.outcomes import MigrationOutcome
from tasks.request import Request
from tests.cluster import manifests
from tests.cluster.job_stage import SERVICE, JobStage
from tests.cluster.workloads import configmap, container, deployment

HOOK = f"{SERVICE}-migrate"
ACCOUNT = "greylag"
RIGHTS = ("get", "sync")
BOUND = ("GREYLAG_BUNDLE", "GREYLAG_APPROVED_DIGEST")
"""What a Job that a run makes is bound to; a chart knows neither when it is rendered."""


def annotated(found: Object, wave: int, hook: str = "") -> Object:
    """The object in its wave, as a hook where one is named."""
    notes = {"argocd.argoproj.io/sync-wave": str(wave)}
    if hook:
        notes |= {"argocd.argoproj.io/hook": hook, "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation"}
    found["metadata"]["annotations"] = notes
    return found


def hook(target: Target, image: str, kind: str = "Sync", retries: int = 0, **changes: Any) -> Object:
    """The migration's Job of a target as a chart has it, a hook in wave -2; `changes` are of its container."""
    made = manifest.manifest(Order(target=target, image=image, bundle="", plan="", backoff_limit=retries))
    made["metadata"] = {"name": HOOK, "labels": made["metadata"]["labels"]}
    (main,) = made["spec"]["template"]["spec"]["containers"]
    main["env"] = [item for item in main["env"] if item["name"] not in BOUND]
    main.update(changes)
    return annotated(made, -2, kind)


@dataclass
class ArgoStage:
    """One application. `told` is what a run's log would hold; `section` what fleet.yaml would say otherwise."""

    stage: JobStage
    argocd: ArgoCD
    repository: Repository
    section: dict[str, Any] = field(default_factory=dict)
    project: str = "default"
    patience: float = 60.0
    retries: int = 0
    api: Api = field(init=False)

    def __post_init__(self) -> None:
        rights = (f"applications, {verb}, {self.project}/{self.name}, allow" for verb in RIGHTS)
        self.api = self.argocd.account(f"{ACCOUNT}-{self.name}", *rights)
        self.repository.commit({"app/.keep": ""})

    @property
    def name(self) -> str:
        """The application's, that of the namespace."""
        return self.stage.namespace.name

    @property
    def target(self) -> Target:
        """The service in its environment, as the fleet would have it."""
        given = {"server": self.argocd.url, "application": self.name, "project": self.project, **self.section}
        return self.stage.target.model_copy(update={"argocd": Section(**given)})

    def create(self, **given: Any) -> None:
        """Creates the application."""
        self.argocd.create_application(self.name, self.repository, "app", self.name, project=self.project, **given)

    def hook(self, tag: str = "", kind: str = "Sync", **changes: Any) -> Object:
        """The migration's Job of a chart; `changes` are of its container."""
        return hook(self.target, self.target.image(tag or self.stage.push()), kind, self.retries, **changes)

    def release(self, *objects: Object, **changes: Any) -> str:
        """Commits a release: a ConfigMap before the migration, the migration's hook, and the Deployment after it; gives the commit."""
        hook = self.hook(**changes)
        image = hook["spec"]["template"]["spec"]["containers"][0]["image"]
        code = deployment(SERVICE, container("trap 'exit 0' TERM; sleep 3600 & wait", image=image))
        return self.commit(annotated(configmap("settings", IMAGE=image), -4), hook, code, *objects)

    def commit(self, *objects: Object) -> str:
        """Commits exactly these objects."""
        return self.repository.commit({"app/all.yaml": manifests.text(*objects)})

    def run(self, run_id: str = "", deadline: float = 120.0, **given: Any) -> MigrationOutcome:
        """Step 3 in mode argocd, in this process, as the account that may get and sync."""
        chosen = settings.load().model_copy(
            update={"job_patience_seconds": self.patience, "argocd_token": SecretStr(self.api.token), "lock_wait_seconds": 5.0}
        )
        request = Request(
            self.target,
            SecretStr(self.stage.dbstring),
            env={},
            settings=chosen,
            run_id=run_id or os.urandom(16).hex(),
            deadline=deadline,
            **given,
        )

        def tell(level: str, text: str) -> None:
            self.stage.told.append((level, text))

        return running.run(request, tell=tell)

    def start(self, **given: Any) -> Future[MigrationOutcome]:
        """`run` in another thread."""
        context = contextvars.copy_context()
        return self.stage.pool.submit(lambda: context.run(lambda: self.run(**given)))

    def wait_until_told(self, part: str) -> None:
        """Waits until the run's log holds a text."""
        self.argocd.cluster.wait_until(lambda: part in self.stage.said(), f"the run says {part!r}: {self.stage.said()}", 90)

    def deployed(self) -> str:
        """The image of the Deployment's template; empty while there is none."""
        found = self.stage.namespace.get("deployment", SERVICE)
        return str(found["spec"]["template"]["spec"]["containers"][0]["image"]) if found else ""

    def pods(self) -> list[Object]:
        """The hook's pods."""
        return [pod for pod in self.stage.pods() if pod["metadata"]["name"].startswith(HOOK)]
