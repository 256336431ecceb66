"""deploy_service with mode argocd: Prefect, databases, a cluster and Argo CD, each of them real; only Vault is the small server with its API."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.argocd.installation import ArgoCD
from sandbox.argocd.repository import Repository
from sandbox.stack.prefect_server import PrefectServer
from tasks import fleet
from tests.cluster import argocd_stage, manifests
from tests.cluster.job_stage import GATED, gate
from tests.cluster.test_job_mode_flow import BOTH, SERVICE, Team, deploy, executed, team  # noqa: F401 - a fixture
from tests.cluster.workloads import container, deployment
from tests.flows import prefect_api

pytestmark = pytest.mark.cluster

GATED_VERSION = 20250103000000


class Delivery:
    """The team's application: what Git holds, and Argo CD brings."""

    def __init__(self, team: Team, argocd: ArgoCD, repository: Repository) -> None:  # noqa: F811
        self.team, self.argocd, self.repository = team, argocd, repository
        self.name = team.namespace.name

    def release(self, tag: str) -> None:
        """Commits a release: the migration's hook and the Deployment behind it."""
        image = self.team.push(tag)
        target = fleet.load(self.team.stage.directory / "fleet.yaml").target(SERVICE, "dev")
        code = deployment(SERVICE, container("exec sleep 600", name=SERVICE, image=image))
        self.repository.commit({"app/all.yaml": manifests.text(argocd_stage.hook(target, image), code)})

    def operation(self) -> dict[str, object]:
        """The last operation's state."""
        found: dict[str, object] = self.argocd.application(self.name)["status"]["operationState"]
        return found


@pytest.fixture
def delivery(
    team: Team,  # noqa: F811
    argocd: ArgoCD,
    repository: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Delivery]:
    made = Delivery(team, argocd, repository)
    path = team.stage.directory / "fleet.yaml"
    path.write_text(f"argocd: {{server: '{argocd.url}', application: {made.name}}}\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    rights = (f"applications, {verb}, default/{made.name}, allow" for verb in argocd_stage.RIGHTS)
    token = tmp_path / "argocd-token"
    token.write_text(argocd.account(f"flow-{made.name}", *rights).token, encoding="utf-8")
    monkeypatch.setenv("GREYLAG_ARGOCD_TOKEN_FILE", str(token))
    variables = team.variables()
    monkeypatch.setattr(team, "variables", lambda: variables | {"GREYLAG_ARGOCD_TOKEN_FILE": str(token)})
    repository.commit({"app/.keep": ""})
    argocd.create_application(made.name, repository, "app", made.name)
    yield made
    argocd.delete_application(made.name)


def test_good_flow_from_nothing_to_a_healthy_deployment_by_five_tasks_and_a_sync(delivery: Delivery, prefect_server: PrefectServer) -> None:
    delivery.release("1")
    state = deploy(image="1", mode="argocd")
    assert state.is_completed(), state.message
    runs = prefect_api.task_runs(prefect_server, str(state.state_details.flow_run_id), 5)
    assert [run["name"].removesuffix(" dev/auth-service") for run in runs] == [
        "fetch credentials",
        "encode URL",
        "run migration",
        "verify tables",
        "await Deployment health",
    ]
    assert delivery.team.stage.versions(SERVICE, "dev") == BOTH
    row = prefect_api.artifact(prefect_server, "result-auth-service-dev")[0]
    assert (row["outcome"], row["migrations"]) == ("migrated", 2)
    assert row["rollout"].startswith("healthy")


def test_good_flow_the_sync_of_a_killed_worker_goes_on_and_the_next_run_adopts_it(
    delivery: Delivery, prefect_server: PrefectServer
) -> None:
    stage = delivery.team.stage
    stage.write(f"auth-service/migrations/{GATED_VERSION}_gated.sql", GATED)
    delivery.release("1")
    given = {"service": SERVICE, "environment": "dev", "image": "1", "mode": "argocd"}
    with gate(stage.postgres.superuser_url(stage.database(SERVICE, "dev"))):
        process = executed(delivery.team, prefect_server, "deploy_service", **given)
        delivery.team.wait_at_gate()
        process.send_signal(signal.SIGKILL)
        output, _ = process.communicate()
        first = delivery.operation()["operation"]
        prefect_api.free_limit(prefect_server, "greylag-auth-service-dev")
        process = executed(delivery.team, prefect_server, "deploy_service", **given)
        assert process.stdout is not None
        for line in process.stdout:
            if "going on with that operation" in line:
                break
    output, _ = process.communicate()
    assert "ENDED COMPLETED" in output, output
    assert delivery.operation()["operation"] == first
    assert stage.versions(SERVICE, "dev") == [*BOTH, GATED_VERSION]


def test_bad_flow_a_cancelled_run_says_so_after_its_pod_has_ended_and_the_lock_is_free(
    delivery: Delivery, prefect_server: PrefectServer
) -> None:
    stage = delivery.team.stage
    stage.write(f"auth-service/migrations/{GATED_VERSION}_gated.sql", GATED)
    delivery.release("1")
    with gate(stage.postgres.superuser_url(stage.database(SERVICE, "dev"))):
        process = executed(delivery.team, prefect_server, "deploy_service", service=SERVICE, environment="dev", image="1", mode="argocd")
        delivery.team.wait_at_gate()
        os.kill(process.pid, signal.SIGTERM)
        output, _ = process.communicate()
        working = [pod for pod in delivery.team.namespace.list("pod") if pod["status"].get("phase") in ("Pending", "Running")]
        assert working == [], output
    assert "ENDED COMPLETED" not in output
    assert "its pod has ended and the lock is free" in output
    assert delivery.operation()["message"] == "Operation terminated"
    assert stage.versions(SERVICE, "dev") == BOTH
