"""The printed Roles and the Vault policy are enough for the whole sequence, and each verb of them is needed: without it the run ends with a 403 that
names what is missing."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from deployments.doctor import observation
from deployments.privileges import rendering
from migrator import errors
from sandbox.cluster.api import Api, ApiRefused, Login, Object
from sandbox.stack.prefect_server import PrefectServer
from tasks import backoff, credentials, database_url, fleet, migration, rollout, settings, verification
from tasks.fleet.models import Target
from tasks.job import running
from tasks.kubernetes import api as kubernetes_api
from tasks.request import Request
from tests.cluster.fleet_stage import RBAC, FleetStage, become
from tests.cluster.workloads import condition
from tests.flows import prefect_api

pytestmark = pytest.mark.cluster

PRINTED: list[Object] = list(yaml.safe_load_all(rendering.kubernetes([fleet.load().target("auth-service", "dev")])))
RULES: list[Object] = [rule for found in PRINTED if found["kind"] == "Role" for rule in found["rules"]]
VERBS = sorted({(rule["apiGroups"][0], resource, verb) for rule in RULES for resource in rule["resources"] for verb in rule["verbs"]})
"""Every verb of every resource: what can be taken away. (group, resource, verb)"""

AFTER_A_JOB = {("batch", "jobs", "delete")}
"""Asked for only where an earlier run's Job is in the way."""


def sequence(target: Target, image: str) -> None:
    """The flow's steps as plain calls, then what `greylag verify` looks at."""
    chosen = settings.load()
    found = credentials.fetch(target)
    url = database_url.encode(found, target)
    before = rollout.observe(target)
    env = migration.substitutions(target, found)
    request = Request(target, url, env=env, run_id="0" * 32, deadline=180.0)
    running.run(request, image=image, tell=lambda level, text: None)
    verification.verify(request)
    rollout.await_health(target, image=image, before=before)
    problem = observation.look(target, kubernetes_api.connect(chosen.kube_context)).problem
    if problem is not None:
        raise problem


@pytest.fixture
def stage(worker: FleetStage) -> Iterator[FleetStage]:
    """dev with its Secret and a healthy Deployment; no Job, nothing applied."""
    worker.credentials_secret()
    worker.deploy()
    namespace = worker.namespace()
    namespace.wait("deployment", "auth-service", lambda found: (found.get("status") or {}).get("availableReplicas") == 1, "is available")
    yield worker
    namespace.delete_all("job", propagationPolicy="Foreground")
    for job in namespace.list("job"):
        namespace.gone("job", job["metadata"]["name"])
    worker.undo()


@contextmanager
def without(stage: FleetStage, group: str, resource: str, verb: str) -> Iterator[None]:
    """The worker's Roles without one verb of one resource, for as long as the block runs."""
    namespace, api = stage.namespace(), stage.cluster.api
    path = f"{RBAC}/namespaces/{namespace.name}/roles"
    roles: list[Object] = [role for role in api.get(path)["items"] if role["metadata"]["name"].startswith(rendering.WORKER)]
    for role in roles:
        changed = copy.deepcopy(role)
        for rule in changed["rules"]:
            if resource in rule["resources"]:
                rule["verbs"] = [item for item in rule["verbs"] if item != verb]
        changed["rules"] = [rule for rule in changed["rules"] if rule["verbs"]]
        api.patch(f"{path}/{role['metadata']['name']}", {"rules": changed["rules"]}, "application/merge-patch+json")
    own = Api(stage.cluster.url, stage.cluster.ca_file, Login(token=stage.cluster.token(namespace.name, rendering.WORKER)))
    plain, _, part = resource.partition("/")
    names = {"get": {"name": "auth-service"}} if resource == "deployments" else {}
    asked = {"namespace": namespace.name, "verb": verb, "group": group, "resource": plain, "subresource": part, **names.get(verb, {})}

    def allowed() -> bool:
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": asked}}
        return bool(own.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)["status"]["allowed"])

    try:
        stage.cluster.wait_until(lambda: not allowed(), "the authorizer has seen the change")
        yield
    finally:
        for role in roles:
            api.patch(f"{path}/{role['metadata']['name']}", {"rules": role["rules"]}, "application/merge-patch+json")
        stage.cluster.wait_until(allowed, "the authorizer has seen the change taken back")


@pytest.mark.parametrize("mode", ["inline", "job"])
def test_good_flow_one_run_passes_with_exactly_what_is_printed(stage: FleetStage, prefect_server: PrefectServer, mode: str) -> None:
    from flows.deploy_service import deploy_service

    state: Any = deploy_service(service="auth-service", environment="dev", image=stage.image.name, mode=mode, return_state=True)
    assert state.is_completed(), state.message
    assert stage.versions() == [20250101000000]
    row = state.result()
    assert str(row["rollout"]).startswith("healthy"), row
    assert len(stage.namespace().list("job")) == (mode == "job")


@pytest.mark.parametrize(("group", "resource", "verb"), VERBS, ids=lambda value: value or "core")
def test_bad_flow_without_any_one_verb_the_403_names_it(stage: FleetStage, group: str, resource: str, verb: str) -> None:
    target, namespace = stage.target(), stage.namespace()
    if (group, resource, verb) in AFTER_A_JOB:
        sequence(target, stage.image.name)
        stage.undo()
    with without(stage, group, resource, verb), pytest.raises(errors.LoginFailed) as caught:
        sequence(target, stage.image.name)
    assert (caught.value.code, caught.value.exit_code) == ("kube-forbidden", 12)
    assert backoff.permanent(caught.value), "one attempt"
    assert f'cannot {verb} resource "{resource}"' in caught.value.message
    assert f'{{apiGroups: ["{group}"], resources: ["{resource}"], verbs: ["{verb}"]}} in namespace {namespace.name}' in caught.value.hint
    for job in namespace.list("job"):  # one that was made goes on without its watcher
        if not job["metadata"].get("deletionTimestamp"):
            assert condition(namespace.finished(job["metadata"]["name"]), "Complete")


def test_bad_flow_a_vault_policy_without_the_rule_is_one_attempt_and_names_it(stage: FleetStage, prefect_server: PrefectServer) -> None:
    from flows.deploy_service import deploy_service

    target = stage.target()
    stage.policy("dev", 'path "secret/data/elsewhere" { capabilities = ["read"] }')
    try:
        state: Any = deploy_service(service="auth-service", environment="dev", image=stage.image.name, mode="job", return_state=True)
    finally:
        stage.policy("dev", rendering.vault([target]))
    assert state.is_failed()
    assert "[vault-forbidden]" in state.message
    assert f'path "secret/data/{target.vault_path}" {{ capabilities = ["read"] }}' in state.message
    (only,) = prefect_api.task_runs(prefect_server, str(state.state_details.flow_run_id), 1)
    assert only["run_count"] == 1
    assert stage.namespace().list("job") == []


def test_the_worker_can_neither_read_nor_list_a_secret(stage: FleetStage) -> None:
    namespace = stage.namespace()
    own = Api(stage.cluster.url, stage.cluster.ca_file, Login(token=stage.cluster.token(namespace.name, rendering.WORKER)))
    for path in (
        f"/api/v1/namespaces/{namespace.name}/secrets",
        f"/api/v1/namespaces/{namespace.name}/secrets/auth-service-postgres-credentials",
    ):
        with pytest.raises(ApiRefused) as caught:
            own.get(path)
        assert caught.value.status == 403


def test_a_migration_pods_account_may_do_nothing(stage: FleetStage) -> None:
    namespace = stage.namespace()
    token = stage.cluster.token(namespace.name, "auth-service-migration")
    own = Api(stage.cluster.url, stage.cluster.ca_file, Login(token=token))
    for resource in ("pods", "secrets", "configmaps"):
        with pytest.raises(ApiRefused, match=f'cannot list resource "{resource}"'):
            own.get(f"/api/v1/namespaces/{namespace.name}/{resource}")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"serviceAccountName": "greylag-worker"}, "runs as the account that fleet.yaml names"),
        ({"automountServiceAccountToken": True}, "no token of the API server"),
        ({"volumes": [{"name": "x", "secret": {"secretName": "another"}}]}, "mounts its service's own Secret alone"),
        ({"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}, "mounts its service's own Secret alone"),
        ({"hostNetwork": True}, "nothing of its node"),
        ({"containers": [{"name": "c", "image": "registry.example/elsewhere:1"}]}, "runs the service's own image"),
        ({"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "another"}}]}]}, "takes no variables wholesale"),
        (
            {"containers": [{"name": "c", "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "another", "key": "k"}}}]}]},
            "reads its service's own Secret alone",
        ),
    ],
    ids=["account", "token", "secret", "host-path", "host-network", "image", "env-from", "env"],
)
def test_bad_flow_a_job_that_is_no_migration_is_not_admitted(stage: FleetStage, change: dict[str, Any], reason: str) -> None:
    namespace = stage.namespace()
    own = Api(stage.cluster.url, stage.cluster.ca_file, Login(token=stage.cluster.token(namespace.name, rendering.WORKER)))
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": "auth-service-migration",
        "automountServiceAccountToken": False,
        "containers": [{"name": "c", "image": stage.image.name}],
    }
    pod |= change
    pod["containers"] = [{"image": stage.image.name, **item} for item in pod["containers"]]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": "x-"}, "spec": {"template": {"spec": pod}}}
    told = ""

    def denied() -> bool:
        nonlocal told
        try:
            own.request("POST", f"/apis/batch/v1/namespaces/{namespace.name}/jobs", job, query={"dryRun": "All"})
        except ApiRefused as refused:
            told = refused.message
        return bool(told)

    stage.cluster.wait_until(denied, "the policy is in force")
    assert reason in told


# --- one environment's worker with another environment's things -----------------------------------------------------------------


def refused(stage: FleetStage, target: Target) -> errors.GreylagError:
    with pytest.raises(errors.GreylagError) as caught:
        sequence(target, stage.image.name)
    assert backoff.permanent(caught.value)
    return caught.value


def test_bad_flow_another_environments_secret_is_refused_by_vault(stage: FleetStage) -> None:
    refusal = refused(stage, stage.target("release"))
    assert refusal.code == "vault-forbidden"
    assert f"secret/data/{stage.target('release').vault_path}" in refusal.hint


def test_bad_flow_another_environments_namespace_is_refused_by_kubernetes(stage: FleetStage) -> None:
    release = stage.target("release")
    mixed = stage.target().model_copy(update={"namespace": release.namespace})
    refusal = refused(stage, mixed)
    assert refusal.code == "kube-forbidden" and f"in namespace {release.namespace}" in refusal.hint
    assert stage.namespace("release").list("job") == []


def test_bad_flow_another_environments_database_is_refused_by_its_name_and_by_the_server(stage: FleetStage) -> None:
    other = stage.target("release").database
    kept: Mapping[str, object] = stage.secret("dev", database=other)
    try:
        refusal = refused(stage, stage.target())
        assert (refusal.code, refusal.exit_code) == ("wrong-database", 13)
        pretending = stage.target().model_copy(update={"suffix": stage.target("release").suffix})
        refusal = refused(stage, pretending)
        assert refusal.exit_code == 12 and "permission denied for database" in refusal.message + refusal.detail
    finally:
        stage.secret("dev")
    assert kept["database"] == other and stage.versions("release") == []


def test_good_flow_each_environments_worker_completes_its_own_part(stage: FleetStage, monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, stage, "release")
    stage.credentials_secret("release")
    stage.deploy("release")
    try:
        sequence(stage.target("release"), stage.image.name)
        assert (stage.versions("release"), stage.versions("dev")) == ([20250101000000], [])
    finally:
        stage.undo("release")
