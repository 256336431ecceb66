"""The sandbox's Argo CD: a sync is a real one, in the order of phases and waves (argocd.md §2); accounts have the rights that they were given."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.argocd.api import ApiRefused
from sandbox.argocd.installation import ArgoCD
from sandbox.argocd.repository import Repository
from sandbox.cluster.api import Object
from tests.cluster import manifests
from tests.cluster.workloads import Namespace, configmap, container, deployment, job

pytestmark = pytest.mark.cluster


@pytest.fixture
def application(argocd: ArgoCD, repository: Repository, namespace: Namespace) -> Iterator[str]:
    """An application of the repository's folder `app`, named after the test's namespace."""
    repository.commit({"app/.keep": ""})
    argocd.create_application(namespace.name, repository, "app", namespace.name)
    yield namespace.name
    argocd.delete_application(namespace.name)


def wave(found: Object, number: int, hook: str = "") -> Object:
    """The object with its wave, and as a hook where one is named."""
    annotations = {"argocd.argoproj.io/sync-wave": str(number)}
    if hook:
        annotations |= {"argocd.argoproj.io/hook": hook, "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation"}
    found["metadata"].setdefault("annotations", {}).update(annotations)
    return found


def test_a_sync_hook_runs_between_the_waves_before_and_after_it(
    argocd: ArgoCD, repository: Repository, namespace: Namespace, application: str
) -> None:
    migrate = wave(job("migrate", 'test "$LEVEL" = two && sleep 2'), -2, "Sync")
    migrate["spec"]["backoffLimit"] = 0
    migrate["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings"}}]
    commit = repository.commit(
        {
            "app/settings.yaml": manifests.text(wave(configmap("settings", LEVEL="two"), -4)),
            "app/job.yaml": manifests.text(migrate),
            "app/deployment.yaml": manifests.text(deployment("app", container("sleep 600"))),
        }
    )
    state = argocd.synced(application)
    assert (state["phase"], state["syncResult"]["revision"]) == ("Succeeded", commit), state
    found = namespace.get("job", "migrate")
    made = namespace.get("deployment", "app")
    assert found is not None and made is not None
    assert found["status"]["completionTime"] <= made["metadata"]["creationTimestamp"]


def test_bad_flow_a_hook_that_fails_ends_the_sync_before_the_later_waves(
    argocd: ArgoCD, repository: Repository, namespace: Namespace, application: str
) -> None:
    failing = wave(job("migrate", "exit 3", backoffLimit=0), -2, "Sync")
    repository.commit({"app/all.yaml": manifests.text(failing, configmap("later"))})
    state = argocd.synced(application)
    assert state["phase"] == "Failed" and namespace.get("configmap", "later") is None
    (hook,) = [item for item in state["syncResult"]["resources"] if item.get("hookType")]
    assert (hook["kind"], hook["hookPhase"]) == ("Job", "Failed")


def test_an_account_has_the_rights_that_it_was_given(argocd: ArgoCD, application: str) -> None:
    reader = argocd.account("reader", "applications, get, default/*, allow")
    assert reader.request("GET", f"applications/{application}", None, project="default")["metadata"]["name"] == application
    with pytest.raises(ApiRefused) as refused:
        reader.request("POST", f"applications/{application}/sync", {"project": "default"})
    assert (refused.value.status, refused.value.reason) == (403, 7)
