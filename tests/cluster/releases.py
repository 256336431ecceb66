"""A service with releases: this checkout as its image, once per release, each with its own migration files; its Deployment, its migration Job, and
the rollout gate that watches it with exactly the rights that `tasks.rollout` says it needs."""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from migrator import errors
from sandbox.cluster import images
from sandbox.cluster.api import Object
from sandbox.databases.postgres import PostgresServer
from tasks import fleet, rollout
from tasks.fleet.models import Workload, WorkloadKind
from tasks.kubernetes import api as kubernetes_api
from tasks.outcomes import RolloutOutcome
from tasks.settings import Settings
from tests.cluster.workloads import Namespace, container, deployment

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = int(os.environ.get("GREYLAG_TEST_ROUNDS", "50"))
"""Rounds of each proof; fewer for somebody who is working on it."""

WORKERS = 6
"""Rounds that run side by side: two cores are busy with that, and each round mostly waits."""

SERVE = "trap 'exit 0' TERM; echo started; sleep 3600 & wait"

USERS = "-- +goose Up\nCREATE TABLE users (id text PRIMARY KEY);\n\n-- +goose Down\nDROP TABLE users;\n"
EMAIL = "-- +goose Up\nALTER TABLE users ADD COLUMN email text;\n\n-- +goose Down\nALTER TABLE users DROP COLUMN email;\n"
FIRST = {"00001_users.sql": USERS}
SECOND = FIRST | {"00002_email.sql": EMAIL}
"""Migration files of two releases."""

RULES: tuple[Object, ...] = (
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]},
    {"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["get"]},
    {"apiGroups": ["apps"], "resources": ["daemonsets"], "verbs": ["get"]},
    {"apiGroups": ["argoproj.io"], "resources": ["rollouts"], "verbs": ["get"]},
    {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["list"]},
    {"apiGroups": ["apps"], "resources": ["controllerrevisions"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
)
"""What the docstring of `tasks.rollout` lists, as a Role spells it."""


def play(rounds: Sequence[Callable[[], None]], workers: int = WORKERS) -> None:
    """Plays rounds side by side; raises the first failure with the number of its round, once all have ended."""
    with ThreadPoolExecutor(workers) as pool:
        ended = [pool.submit(round_) for round_ in rounds]
    failures = {number: each.exception() for number, each in enumerate(ended) if each.exception() is not None}
    for number, failure in failures.items():
        raise AssertionError(f"{len(failures)} of {len(rounds)} rounds failed; round {number}: {failure}") from failure


def grant(namespace: Namespace, account: str, rules: Sequence[Object]) -> None:
    """A service account with a Role of these rules."""
    meta, rbac = {"name": account}, "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace.name}
    namespace.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": meta, "rules": list(rules)},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "subjects": [subject],
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": account},
        },
    )


def _allowed(act: Callable[[], object]) -> bool:
    try:
        act()
    except errors.LoginFailed:
        return False
    return True


@dataclasses.dataclass(frozen=True)
class Gate:
    """`rollout.observe` and `rollout.await_health` of a namespace, as a service account that has `rules` and nothing else."""

    namespace: Namespace
    cluster: kubernetes_api.Api

    @classmethod
    def of(cls, namespace: Namespace, account: str = "gate", rules: Sequence[Object] = RULES) -> Gate:
        from kubernetes import client, config

        grant(namespace, account, rules)
        kubeconfig = namespace.cluster.service_account_kubeconfig(namespace.name, account)
        settings = client.Configuration()
        settings.retries = kubernetes_api._RETRIES  # what `connect` sets
        api = kubernetes_api.Api(config.new_client_from_config(str(kubeconfig), client_configuration=settings))
        # The authorizer learns of a Role a moment after it was made. At most one of these two rules is left out.
        tries: list[Callable[[], object]] = [lambda: api.pods(namespace.name, ""), lambda: api.replica_sets(namespace.name, "")]
        namespace.cluster.wait_until(lambda: any(map(_allowed, tries)), f"the authorizer has seen the role of {account}")
        return cls(namespace, api)

    def await_health(
        self,
        name: str,
        *,
        image: str = "",
        before: rollout.Before | None = None,
        kind: WorkloadKind = WorkloadKind.DEPLOYMENT,
        seconds: float = 240.0,
        told: list[str] | None = None,
    ) -> RolloutOutcome:
        """Looks four times a second."""
        return rollout.await_health(
            self._target(kind, name),
            image=image,
            before=before,
            settings=Settings(rollout_timeout_seconds=seconds, rollout_poll_seconds=0.25),
            cluster=self.cluster,
            listener=(told if told is not None else []).append,
        )

    def observe(self, name: str, kind: WorkloadKind = WorkloadKind.DEPLOYMENT) -> rollout.Before:
        """What the workload is before a run."""
        found = rollout.observe(self._target(kind, name), Settings(), self.cluster)
        assert found is not None
        return found

    def _target(self, kind: WorkloadKind, name: str) -> fleet.Target:
        target = fleet.load().target("auth-service", "dev")
        return target.model_copy(update={"namespace": self.namespace.name, "workload": Workload(kind=kind, name=name, container="main")})


@dataclasses.dataclass(frozen=True)
class Service:
    """A service's releases in a namespace. `files` maps a release's tag to its migration files."""

    namespace: Namespace
    gate: Gate
    server: PostgresServer
    directory: Path
    files: Mapping[str, Mapping[str, str]]

    def register(self) -> Service:
        """Makes the images of all releases known to the node."""
        for tag, texts in self.files.items():
            migrations = self.directory / tag
            migrations.mkdir()
            for name, text in texts.items():
                (migrations / name).write_text(text, encoding="utf-8")
            self.namespace.cluster.register(images.checkout(self.image(tag), ROOT, Path(sys.executable), {"/migrations": str(migrations)}))
        return self

    def image(self, tag: str) -> str:
        """A release's image."""
        return f"registry.example/{self.namespace.name}:{tag}"

    def database(self, name: str) -> str:
        """A new database and the Secret of this name that leads to it. Returns the database's name."""
        database = f"{self.namespace.name}_{name}".replace("-", "_")
        url = self.server.create_database(database, owner=database, password="p%/:@#?")
        secret = {"GOOSE_DRIVER": "postgres", "GOOSE_DBSTRING": url}
        self.namespace.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": secret})
        return database

    def drop(self, name: str, database: str) -> None:
        """Removes what a round leaves: its Deployment, its Jobs and its database."""
        self.namespace.delete("deployment", name)
        for job in self.namespace.list("job", labelSelector=f"round={name}"):
            self.namespace.delete("job", job["metadata"]["name"], propagationPolicy="Background")
        self.namespace.cluster.wait_until(
            lambda: not self.namespace.list("pod", labelSelector=f"round={name}"), f"the pods of round {name} are gone", 120
        )
        self.server.drop_database(database, owner=database)

    def deployment(self, name: str, tag: str, *, gated: bool = True) -> Object:
        """The Deployment of this name at a release; its init container waits for the release's newest version."""
        environment: Any = {"envFrom": [{"secretRef": {"name": name}}]}
        wait = {"name": "wait-for-schema", "image": self.image(tag), **environment}
        wait["command"] = ["greylag", "-dir", "/migrations", "wait", "-timeout", "5m"]
        wait["terminationMessagePolicy"] = "FallbackToLogsOnError"
        found = deployment(name, container(SERVE, image=self.image(tag)), deadline=600)
        if gated:
            found["spec"]["template"]["spec"]["initContainers"] = [wait]
        found["spec"]["template"]["metadata"]["labels"]["round"] = name
        return found

    def move(self, name: str, tag: str) -> None:
        """Moves the Deployment to a release: both its containers."""
        spec = self.deployment(name, tag)["spec"]["template"]["spec"]
        path = f"/apis/apps/v1/namespaces/{self.namespace.name}/deployments/{name}"
        self.namespace.cluster.api.patch(path, {"spec": {"template": {"spec": spec}}})

    def migrate(self, name: str, tag: str) -> str:
        """Starts the release's migration Job; returns the Job's name."""
        main = {
            "name": "migrate",
            "image": self.image(tag),
            "command": ["greylag", "-dir", "/migrations", "up"],
            "envFrom": [{"secretRef": {"name": name}}],
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }
        template = {"metadata": {"labels": {"round": name}}, "spec": {"restartPolicy": "Never", "containers": [main]}}
        meta = {"name": f"{name}-{tag}", "labels": {"round": name}}
        self.namespace.create(
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"backoffLimit": 0, "template": template}}
        )
        return f"{name}-{tag}"

    def pods(self, name: str) -> list[Object]:
        """The Deployment's pods."""
        return self.namespace.list("pod", labelSelector=f"app={name}")

    def log(self, pod: str, container: str) -> str:
        """The end of a container's log."""
        return self.gate.cluster.log(self.namespace.name, pod, container=container, lines=50)

    def first_line(self, pod: str, container: str = "main") -> str:
        """The first line of a container's log, with its time; empty while there is none."""
        path = f"/api/v1/namespaces/{self.namespace.name}/pods/{pod}/log"
        text: str = self.namespace.cluster.api.get(path, container=container, timestamps="true").get("message", "")
        return text.partition("\n")[0]


def later(seconds: float, act: Callable[[], object]) -> threading.Thread:
    """Does something after so many seconds; join the thread before the test ends."""

    def work() -> None:
        time.sleep(max(seconds, 0.0))
        act()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread
