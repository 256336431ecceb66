"""One service in one layout on a real Argo CD, through what may happen to it: each situation says in a few words what was seen.

The words are facts that are read: the operation's phase, the rows of goose's table, the image in the Deployment's template, Jobs and pods by their uid.
docs/argocd-layouts.md holds them as a table; test_argo_situations.py compares it with what is seen.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from migrator import errors
from sandbox.argocd.installation import ArgoCD
from sandbox.argocd.repository import Repository
from sandbox.cluster.api import Object
from tests.cluster import argo_layouts as layouts
from tests.cluster.argo_databases import Database
from tests.cluster.argo_layouts import RECIPE, SERVICE, Release
from tests.cluster.external_secrets_double import ExternalSecretsDouble
from tests.cluster.workloads import Namespace, condition

PATH = "apps/dev/auth-service/postgres"
OTHER_PATH = "apps/dev/auth-service/moved"
BROKEN = "-- +goose Up\nDROP TABLE absent;\n-- +goose Down\nSELECT 1;\n"
WORKS_ON_SECONDS = 20.0
"""Seconds after which a pod of a terminated operation counts as one that works on: greylag ends within 10, a shell that hears nothing is killed after 30."""


@dataclass
class Story:
    """One application, from its first install on."""

    layout: str
    argocd: ArgoCD
    repository: Repository
    namespace: Namespace
    database: Database
    double: ExternalSecretsDouble
    files: dict[str, str] = field(default_factory=dict)
    tag: str = ""
    commit: str = ""
    releases: int = 0
    waits: bool = True
    paths: list[str] = field(default_factory=list)
    """The secret's path in each release."""

    @property
    def name(self) -> str:
        """The application's, that of the namespace."""
        return self.namespace.name

    # --- what is done ------------------------------------------------------------------------------------------------------------

    def release(self, text: str = "", *, replaces: bool = False, **given: Any) -> None:
        """Commits a release with a further migration, or with the last one written anew."""
        self.releases += 1
        self.tag = f"r{self.releases}"
        if text:
            number = len(self.files) + (0 if replaces else 1)
            self.files[f"{number:05}_step.sql"] = text
        layouts.push(self.argocd.cluster, self.name, self.tag)
        release = Release(self.tag, self.files, waits=self.waits, **given)
        self.paths.append(release.path)
        self.commit = layouts.write(self.layout, self.repository, self.name, self.database, release)
        if self.releases == 1:
            self.create()
        self.argocd.application(self.name, refresh=True)

    def table(self, *, gated: bool = False) -> str:
        """The text of the next migration, which makes a table."""
        return self.database.table(len(self.files) + 1, gated=gated)

    def create(self, **given: Any) -> None:
        """Creates the application, or changes it; Argo CD wants a source that it can render."""
        self.argocd.create_application(self.name, self.repository, "app", self.name, helm=layouts.helm(self.layout), **given)

    def prepare_by_hand(self, **given: Any) -> None:
        """Applies the recipe's prerequisites by kubectl, as its users do: a Job before everything else finds them only so."""
        if self.layout == RECIPE:
            made = layouts.recipe(self.name, Release(self.tag, self.files, **given))
            self.namespace.apply(*[item for item in made if item["kind"] in ("ConfigMap", "ServiceAccount", "ExternalSecret")])

    def sync(self, **body: Any) -> Object:
        """A sync to its end, whatever that is."""
        return self.argocd.synced(self.name, prune=True, **body)

    def sync_without_hooks(self) -> Object:
        """A selective sync of the Deployment and of the ConfigMap that its pods mount, which runs no hook."""
        resources = [{"group": "apps", "kind": "Deployment", "name": SERVICE}] + [
            {"group": "", "kind": item["kind"], "name": item["name"]}
            for item in self.argocd.application(self.name, refresh=True)["status"]["resources"]
            if item["kind"] == "ConfigMap" and not item.get("requiresPruning")
        ]
        return self.argocd.synced(self.name, resources=resources)

    def begin(self) -> str:
        """Starts a sync, and returns what it is known by."""
        mark = secrets.token_hex(8)
        self.argocd.sync(self.name, prune=True, infos=[{"name": "story", "value": mark}])
        return mark

    def ended(self, mark: str) -> Object:
        """The state of a sync that was begun, at its end."""

        def over(state: Object) -> bool:
            infos = (state.get("operation") or {}).get("info") or []
            return any(item["value"] == mark for item in infos) and state["phase"] in ("Succeeded", "Failed", "Error")

        return self.argocd.operation(self.name, over, "the sync has ended")

    def settle(self) -> None:
        """Brings everything to one state: what is released is migrated and runs."""
        if "operation" in self.argocd.application(self.name):
            self.argocd.terminate(self.name)
            self.wait(lambda: "operation" not in self.argocd.application(self.name), "the operation is over")
        self.prepare_by_hand()
        state = self.sync()
        assert state["phase"] == "Succeeded", self.told()

    def told(self) -> str:
        """The last operation's words, and those of the Job's pods: what a failed test shows."""
        state = self.argocd.application(self.name)["status"].get("operationState") or {}
        logs = [self.namespace.said(pod["metadata"]["name"]) for pod in self.namespace.list("pod")]
        return "\n".join([str(state.get("phase")), str(state.get("message")), str(state.get("syncResult")), *logs])

    # --- what is seen ------------------------------------------------------------------------------------------------------------

    def versions(self) -> list[int]:
        """The versions in goose's table; [] where there is none."""
        return self.database.versions()

    def job(self) -> Object | None:
        """The migration's Job; None when there is none."""
        return next((job for job in self.namespace.list("job") if job["metadata"]["name"].startswith(SERVICE)), None)

    def uid(self) -> str:
        """The Job's uid; empty when there is none."""
        found = self.job()
        return str(found["metadata"]["uid"]) if found else ""

    def pods(self) -> list[Object]:
        """The Job's pods that have not ended."""
        return [
            pod
            for pod in self.namespace.list("pod")
            if any(owner["kind"] == "Job" for owner in pod["metadata"].get("ownerReferences") or ())
            and pod["status"].get("phase") not in ("Succeeded", "Failed")
        ]

    def code(self) -> str:
        """The tag in the Deployment's template; empty while there is none."""
        found = self.namespace.get("deployment", SERVICE)
        return str(found["spec"]["template"]["spec"]["containers"][0]["image"]).rpartition(":")[2] if found else ""

    def mounted(self) -> dict[str, str]:
        """The SQL of the ConfigMap that the Deployment's pods mount; {} where they mount none, or where it is gone."""
        deployment = self.namespace.get("deployment", SERVICE) or {"spec": {"template": {"spec": {}}}}
        volumes = deployment["spec"]["template"]["spec"].get("volumes") or []
        names = [volume["configMap"]["name"] for volume in volumes if "configMap" in volume]
        found = self.namespace.get("configmap", names[0]) if names else None
        return dict(found["data"]) if found else {}

    def wait_at_gate(self, count: int = 1) -> None:
        """Waits until so many statements wait at the gate."""
        self.wait(lambda: self.database.waiting() == count, f"{count} at the gate")

    def wait(self, holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        """Waits until something is so."""
        self.argocd.cluster.wait_until(holds, f"{self.layout}: {what}", seconds)

    def within(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Tells whether something becomes so within these seconds."""
        try:
            self.wait(holds, "…", seconds)
        except errors.Unavailable:
            return False
        return True


def outcome(story: Story, state: Object, before: list[int], code: str) -> str:
    """What a sync has done: its phase, whether the released files are applied, whether the new code runs."""
    applied = story.versions()
    migrated = applied == list(range(1, len(story.files) + 1))
    files = "nothing to migrate" if migrated and applied == before else "migrated" if migrated else "not migrated"
    runs = (
        "the new code"
        if story.code() == story.tag and story.tag != code
        else "the same code"
        if story.code() == story.tag
        else "the old code"
    )
    return f"{state['phase']}: {files}, {runs}"


def first_install(story: Story) -> str:
    """Nothing is there."""
    story.release(story.table())
    mark = story.begin()

    def stands() -> bool:
        reasons = {event["reason"] for event in story.namespace.list("event") if event["involvedObject"]["kind"] == "Job"}
        account = story.namespace.cluster.api.find(f"/api/v1/namespaces/{story.name}/serviceaccounts/{SERVICE}")
        return "FailedCreate" in reasons and account is None

    if story.layout == RECIPE and story.within(stands, 60):
        time.sleep(3)
        state = story.argocd.application(story.name)["status"]["operationState"]
        return f"{state['phase']}: the Job waits for the service account, which comes after it" if stands() else "it went on"
    return outcome(story, story.ended(mark), [], "")


def upgrade(story: Story) -> str:
    """A new release with a new file."""
    before, code = story.versions(), story.code()
    story.release(story.table())
    return outcome(story, story.sync(), before, code)


def unchanged(story: Story) -> str:
    """The same release is synced again."""
    before, uid, code = story.versions(), story.uid(), story.code()
    words = outcome(story, story.sync(), before, code)
    return f"{words}; the Job {'ran again' if story.uid() != uid else 'did not run'}"


def failing(story: Story) -> str:
    """A release whose new file is rejected by the database."""
    before, code, mounted = story.versions(), story.code(), story.mounted()
    story.release(BROKEN)
    words = outcome(story, story.sync(), before, code)
    return f"{words}{'; its ConfigMap is unchanged' if mounted and story.mounted() == mounted and story.code() == code else ''}"


def mended(story: Story) -> str:
    """The rejected file is mended, and the release synced again."""
    before, code = story.versions(), story.code()
    story.release(story.database.table(len(story.files)), replaces=True)
    return outcome(story, story.sync(), before, code)


def selective(story: Story) -> str:
    """A release with a new file, of which only Deployment and ConfigMap are synced."""
    before, code, uid = story.versions(), story.code(), story.uid()
    story.release(story.table())
    words = outcome(story, story.sync_without_hooks(), before, code)
    ran = "the Job ran" if story.uid() != uid else "no Job ran"
    newest = f"registry.example/{story.name}/{SERVICE}:{story.tag}"

    def serves() -> bool:
        pods = [pod for pod in story.namespace.list("pod") if pod["spec"]["containers"][0]["image"] == newest]
        return any(condition(pod, "Ready") for pod in pods)

    return f"{words}; {ran}; its pods {'run' if story.within(serves, 8) else 'wait for their schema'}"


def rollback(story: Story) -> str:
    """Argo CD's rollback to the release before."""
    applied, uid, tag = story.versions(), story.uid(), story.tag
    story.release()
    assert story.sync()["phase"] == "Succeeded"
    uid = story.uid()
    history = story.argocd.application(story.name)["status"]["history"]
    story.argocd.api.request("POST", f"applications/{story.name}/rollback", {"id": history[-2]["id"], "project": "default", "prune": True})
    state = story.argocd.operation(
        story.name, lambda state: state["phase"] == "Succeeded" and story.code() == tag, "the rollback has ended"
    )
    ran = "the Job ran" if story.uid() != uid else "no Job ran"
    same = "the schema stays" if story.versions() == applied else "the schema has changed"
    return f"{state['phase']}: the older code, {same}; {ran}"


def deleted_pod(story: Story) -> str:
    """The Job's pod is deleted in mid-migration."""
    before, code = story.versions(), story.code()
    story.release(story.table(gated=True))
    story.prepare_by_hand()
    with story.database.gate():
        mark = story.begin()
        story.wait_at_gate()
        (first,) = story.pods()
        story.namespace.delete("pod", first["metadata"]["name"])
        both: list[int] = []

        def another() -> bool:
            both.append(len([pod for pod in story.pods() if pod["status"].get("phase") == "Running"]))
            return any(
                pod["metadata"]["uid"] != first["metadata"]["uid"] and pod["status"].get("phase") == "Running" for pod in story.pods()
            )

        story.wait(another, "another pod runs", 90)
        together = max(both)
    words = outcome(story, story.ended(mark), before, code)
    return f"{words}; {'one pod at a time' if together == 1 else 'two pods at once'}"


def terminated(story: Story) -> str:
    """The operation is terminated in mid-migration."""
    story.release(story.table(gated=True))
    story.prepare_by_hand()
    with story.database.gate():
        mark = story.begin()
        story.wait_at_gate()
        story.argocd.terminate(story.name)
        state = story.ended(mark)
        ends = story.within(lambda: story.pods() == [], WORKS_ON_SECONDS)
        left = story.database.left()
    words = "its pod ends" if ends else "its pod works on"
    return f"{state['phase']}: {words}, {left}"


def moved_secret(story: Story) -> str:
    """The secret's path changes while External Secrets is away (a double of it)."""
    before, code = story.versions(), story.code()
    with story.double.away():
        story.release(story.table(), path=OTHER_PATH)
        story.prepare_by_hand(path=OTHER_PATH)
        mark = story.begin()

        def used() -> bool:
            return story.versions() != before

        def waits() -> bool:
            pods = [pod["metadata"]["name"] for pod in story.pods()]
            return any("Secret" in story.namespace.said(name) or "secret" in story.namespace.said(name) for name in pods)

        begun = story.within(lambda: used() or waits(), 20)
        if begun and story.within(used, 4):
            return f"{story.ended(mark)['phase']}: migrated with the old Secret"
        message = story.argocd.application(story.name)["status"]["operationState"].get("message", "")
        assert begun or "ExternalSecret" in message, story.told()
    words = outcome(story, story.ended(mark), before, code)
    return f"{'the Job waits' if begun else 'waits for the ExternalSecret'}, and the old Secret is not used; then {words}"


def ttl(story: Story) -> str:
    """The finished Job is removed by its TTL."""
    story.release(ttl=2)
    story.prepare_by_hand()
    assert story.sync()["phase"] == "Succeeded"
    story.wait(lambda: story.job() is None, "the Job is gone")
    status = story.argocd.application(story.name, refresh=True)["status"]
    return f"the Job goes; the application is {status['sync']['status']}"


def self_heal(story: Story) -> str:
    """The Deployment is changed by hand under auto-sync with self-heal."""
    story.release()  # with a Job that no TTL removes meanwhile
    story.prepare_by_hand()
    assert story.sync()["phase"] == "Succeeded", story.told()
    uid, applied = story.uid(), story.versions()
    story.create(policy={"automated": {"selfHeal": True}})
    patch = {"spec": {"replicas": 2}}
    story.argocd.cluster.api.patch(f"/apis/apps/v1/namespaces/{story.name}/deployments/{SERVICE}", patch)
    story.wait(lambda: (story.namespace.get("deployment", SERVICE) or {"spec": {}})["spec"].get("replicas") == 1, "it is healed", 90)
    ran = "the Job ran" if story.uid() != uid else "no Job ran"
    return f"healed; {ran}" if story.versions() == applied else "the schema has changed"


SITUATIONS: dict[str, Callable[[Story], str]] = {
    "first install": first_install,
    "upgrade with a new file": upgrade,
    "unchanged sync": unchanged,
    "failing migration": failing,
    "mended and synced again": mended,
    "selective sync": selective,
    "rollback to the older image": rollback,
    "pod deleted in mid-migration": deleted_pod,
    "terminated in mid-migration": terminated,
    "secret's path changed, External Secrets away": moved_secret,
    "TTL": ttl,
    "self-heal": self_heal,
}

FOLLOWS = ("unchanged sync", "mended and synced again")
"""Situations that go on where the one before has ended."""
