"""A bad release: migrated, rolled out, and the Deployment rolled back to the image before, on a database that stays newer. Nobody touches the
database: the older image's Job and its init container pass, unless a newer file says that it is too old."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from migrator import errors
from sandbox.databases.postgres import PostgresServer
from tasks.outcomes import RolloutState
from tests.cluster.releases import FIRST, ROUNDS, SECOND, Gate, Service, play
from tests.cluster.workloads import Namespace, condition, state

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

FORBIDDING = FIRST | {"00002_email.sql": "-- greylag: oldest-app 2\n" + SECOND["00002_email.sql"]}


@pytest.fixture
def service(namespace: Namespace, postgres_server: PostgresServer, tmp_path: Path) -> Service:
    files = {"1": FIRST, "2": SECOND, "3": FORBIDDING}
    return Service(namespace, Gate.of(namespace), postgres_server, tmp_path, files).register()


def released(service: Service, name: str, tag: str) -> str:
    """A database that this release migrated, and its Deployment rolled out. Returns the database's name."""
    database = service.database(name)
    assert condition(service.namespace.finished(service.migrate(name, tag)), "Complete")
    service.namespace.create(service.deployment(name, tag))
    assert service.gate.await_health(name, image=service.image(tag)).state is RolloutState.HEALTHY
    return database


def job_pod(service: Service, job: str) -> str:
    """The name of the Job's only pod."""
    (only,) = service.namespace.list("pod", labelSelector=f"batch.kubernetes.io/job-name={job}")
    return str(only["metadata"]["name"])


@pytest.mark.slow
def test_good_flow_a_deployment_rolled_back_to_the_older_image_comes_up_without_a_manual_step(service: Service) -> None:
    warned: list[int] = []

    def play_round(number: int) -> None:
        name = f"b{number}"
        database = released(service, name, "2")
        service.move(name, "1")
        older = service.migrate(name, "1")
        assert condition(service.namespace.finished(older), "Complete")
        assert "[newer-database]" in service.log(job_pod(service, older), "migrate")
        outcome = service.gate.await_health(name, image=service.image("1"))
        assert outcome.reason.endswith("`greylag wait` has passed in 1 pod")
        assert "[newer-database]" in service.log(service.pods(name)[0]["metadata"]["name"], "wait-for-schema")
        assert service.server.execute("SELECT max(version_id) FROM goose_db_version WHERE is_applied", database).strip() == "2"
        warned.append(number)
        service.drop(name, database)

    play([functools.partial(play_round, number) for number in range(ROUNDS)])
    assert len(warned) == ROUNDS


def test_kubectl_rollout_undo_is_such_a_rollback(service: Service) -> None:
    database = service.database("undone")
    service.namespace.finished(service.migrate("undone", "1"))
    service.namespace.create(service.deployment("undone", "1"))
    service.gate.await_health("undone", image=service.image("1"))
    service.namespace.finished(service.migrate("undone", "2"))
    service.move("undone", "2")
    service.gate.await_health("undone", image=service.image("2"))
    service.namespace.cluster.kubectl("rollout", "undo", "deployment/undone", "--namespace", service.namespace.name)
    outcome = service.gate.await_health("undone", image=service.image("1"))
    assert outcome.state is RolloutState.HEALTHY
    assert "[newer-database]" in service.log(service.pods("undone")[0]["metadata"]["name"], "wait-for-schema")
    service.drop("undone", database)


def test_bad_flow_an_image_that_a_newer_file_calls_too_old_is_refused_with_the_reason(service: Service) -> None:
    released(service, "refused", "3")
    older = service.migrate("refused", "1")
    assert condition(service.namespace.finished(older), "Failed")
    (pod,) = service.namespace.list("pod", labelSelector=f"batch.kubernetes.io/job-name={older}")
    end = state(pod, "migrate")["terminated"]
    assert end["exitCode"] == errors.ExitCode.REFUSED
    assert "00002_email.sql" in end["message"] and "[older-app]" in end["message"]
    service.move("refused", "1")
    with pytest.raises(errors.VerificationFailed) as caught:
        service.gate.await_health("refused", image=service.image("1"))
    assert caught.value.code == "rollout-failed"
    assert f"ended with {int(errors.ExitCode.REFUSED)}, which no retry mends" in caught.value.message
    assert "images older than 2 can't run on this database" in caught.value.detail
    still = [pod for pod in service.pods("refused") if pod["spec"]["containers"][0]["image"] == service.image("3")]
    assert condition(still[0], "Ready"), "the newer release goes on serving"
