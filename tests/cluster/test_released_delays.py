"""The delays as released, 10, 20 and 40 s, on a cluster of their own: of any Job, and of greylag's whose database stays away. Both fail side by side,
because each takes more than a minute.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import pytest
from kubernetes.config import kube_config

from migrator import errors
from sandbox import ports
from sandbox.cluster import cluster as sandbox
from sandbox.cluster import images
from sandbox.cluster.api import Object
from sandbox.databases.postgres import PostgresServer
from tasks.fleet.models import Engine
from tasks.job.failures import JobFailed
from tasks.job.manifest import CONTAINER
from tasks.outcomes import MigrationOutcome
from tests.cluster.job_stage import USERS, JobStage
from tests.cluster.workloads import Namespace, condition, job, state

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

DATABASE = "released_delays"


@dataclass(frozen=True)
class Failing:
    """Two Jobs that are failing: `failing` in a namespace of its own, and the stage's."""

    namespace: Namespace
    stage: JobStage
    run: Future[MigrationOutcome]


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[Failing]:
    reason = sandbox.unavailable()
    if reason is not None:
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("released")
    (directory / "migrations").mkdir()
    for place in (directory, directory / "migrations"):
        place.chmod(0o755)
    url = postgres_server.create_database(DATABASE, owner=DATABASE, password="p%/:@#?")
    with sandbox.Cluster(directory / "cluster") as released, pytest.MonkeyPatch.context() as patch:
        patch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(released.kubeconfig))
        released.register(images.machine("machine"))
        namespace = Namespace(released, released.create_namespace("plain"))
        namespace.create(job("failing", "exit 1", backoffLimit=3))
        own = Namespace(released, released.create_namespace("delays"))
        stage = JobStage(own, directory, url, Engine.POSTGRES, postgres_server.execute)
        stage.write("00001_first.sql", USERS)
        stage.store_secret(port=str(ports.free_port()))
        yield Failing(namespace, stage, stage.start(deadline=300.0))
        stage.pool.shutdown(wait=True)
    postgres_server.drop_database(DATABASE, owner=DATABASE)


def delays(pods: list[Object], container: str) -> list[float]:
    """Seconds from each pod's end to the next one's beginning."""
    ends = [state(pod, container)["terminated"]["finishedAt"] for pod in pods]
    begins = [pod["metadata"]["creationTimestamp"] for pod in pods]
    ended, began = ([datetime.datetime.fromisoformat(str(moment)) for moment in moments] for moments in (ends, begins))
    return [(after - before).total_seconds() for before, after in zip(ended, began[1:], strict=False)]


def as_released(found: list[float]) -> list[bool]:
    """Whether each delay is long enough. Times are whole seconds: one may look a second shorter than it was."""
    return [delay >= least - 1 for delay, least in zip(found, (10, 20, 40), strict=True)]


def test_the_released_delays_are_10_20_and_40_seconds(failing: Failing) -> None:
    finished = failing.namespace.wait("job", "failing", lambda found: condition(found, "Failed"), "fails", seconds=150)
    assert finished["status"]["failed"] == 4
    found = delays(failing.namespace.list("pod", labelSelector="batch.kubernetes.io/job-name=failing"), "main")
    assert as_released(found) == [True, True, True], found


def test_bad_flow_an_unreachable_database_is_tried_4_times_at_10_20_and_40_seconds(failing: Failing) -> None:
    with pytest.raises(JobFailed) as caught:
        failing.run.result()
    assert (caught.value.code, caught.value.exit_code) == ("unavailable", errors.ExitCode.UNAVAILABLE)
    pods = failing.stage.pods()
    assert condition(failing.stage.only_job(), "Failed")["reason"] == "BackoffLimitExceeded"
    assert len(pods) == 4
    found = delays(pods, CONTAINER)
    assert as_released(found) == [True, True, True], found
