"""The promise of the sequence, over fifty rounds each with chance in its moments: no program starts before its migration, and the gate is never
green on the old image. Real Deployments, real Jobs, real PostgreSQL; one database per round.
"""

from __future__ import annotations

import datetime
import functools
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from migrator import errors
from sandbox.databases.postgres import PostgresServer
from tasks.outcomes import RolloutState
from tests.cluster.releases import FIRST, ROUNDS, SECOND, Gate, Service, later, play
from tests.cluster.workloads import Namespace

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

LONGEST_WAIT = 4.0
"""Seconds between a round's first and second act: a pod takes about one to start, so either may win."""

LONGEST_MOVE = 6.0
"""Seconds after the migration in which the image moves: the two minutes of a slow pipeline, twenty times as fast."""


@pytest.fixture(scope="module")
def server(session_directory: Path) -> Iterator[PostgresServer]:
    """A server that remembers when each transaction was committed: a row's own time is a moment earlier."""
    with PostgresServer(session_directory / "postgres-rounds", settings={"track_commit_timestamp": "on"}) as running:
        yield running


@pytest.fixture
def service(namespace: Namespace, server: PostgresServer, tmp_path: Path) -> Service:
    return Service(namespace, Gate.of(namespace), server, tmp_path, {"1": FIRST, "2": SECOND}).register()


def committed(service: Service, database: str, version: int) -> float:
    """When the version's history row became visible, by the server's clock (seconds)."""
    query = f"SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM goose_db_version WHERE version_id = {version} AND is_applied"
    return float(service.server.execute(query, database))


def seconds(moment: str) -> float:
    """A moment of the API's, or of a log's line, as seconds."""
    return datetime.datetime.fromisoformat(moment[:26].rstrip("Z") + "+00:00").timestamp()


def started(service: Service, name: str) -> float:
    """When the program of the Deployment's only pod began, by the first line that it printed."""
    only = service.pods(name)[0]["metadata"]["name"]
    service.namespace.cluster.wait_until(lambda: bool(service.first_line(only)), f"{only} has started", 120)
    return seconds(service.first_line(only).partition(" ")[0])


def test_a_program_never_starts_before_its_migration(service: Service) -> None:
    held: list[int] = []

    def play_round(number: int) -> None:
        name, chance = f"r{number}", random.Random(number)
        database = service.database(name)
        acts: list[Callable[[], object]] = [
            lambda: service.namespace.create(service.deployment(name, "1")),
            lambda: service.migrate(name, "1"),
        ]
        if chance.random() < 0.3:
            acts.reverse()
        acts[0]()
        time.sleep(chance.uniform(0, LONGEST_WAIT))
        acts[1]()
        outcome = service.gate.await_health(name, image=service.image("1"))
        assert outcome.reason.endswith("`greylag wait` has passed in 1 pod")
        row = committed(service, database, 1)
        assert started(service, name) > row
        pod = service.pods(name)[0]
        # The status counts whole seconds.
        assert seconds(pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]) >= int(row)
        if seconds(pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["startedAt"]) + 1 < row:
            held.append(number)
        service.drop(name, database)

    play([functools.partial(play_round, number) for number in range(ROUNDS)])
    assert held, "in no round did a pod come before its migration: nothing was proven"


def test_without_the_init_container_the_same_measurement_sees_a_program_start_too_early(service: Service) -> None:
    database = service.database("bare")
    service.namespace.create(service.deployment("bare", "1", gated=False))
    outcome = service.gate.await_health("bare", image=service.image("1"))
    assert "no init container runs `greylag wait`" in outcome.reason
    service.namespace.finished(service.migrate("bare", "1"))
    assert started(service, "bare") < committed(service, database, 1)
    service.drop("bare", database)


def test_the_gate_is_never_green_on_the_old_image(service: Service) -> None:
    green: list[int] = []

    def play_round(number: int) -> None:
        name, chance = f"g{number}", random.Random(number)
        database = service.database(name)
        service.namespace.finished(service.migrate(name, "1"))
        service.namespace.create(service.deployment(name, "1"))
        assert service.gate.await_health(name, image=service.image("1")).state is RolloutState.HEALTHY
        before = service.gate.observe(name)
        service.namespace.finished(service.migrate(name, "2"))
        wanted: dict[str, Any] = {"image": service.image("2")} if number % 2 else {"before": before}
        if number % 5 == 0:
            with pytest.raises(errors.NotYet) as caught:
                service.gate.await_health(name, seconds=LONGEST_MOVE, **wanted)
            assert caught.value.code == "not-rolled-out"
        else:
            moved = threading.Event()

            def move() -> None:
                moved.set()
                service.move(name, "2")

            mover = later(chance.uniform(0, LONGEST_MOVE), move)
            outcome = service.gate.await_health(name, **wanted)
            had_moved, pods = moved.is_set(), service.pods(name)
            mover.join()
            assert had_moved and outcome.state is RolloutState.HEALTHY
            # A pod whose containers have ended is listed until its node has removed it: it runs no code any more.
            over = {pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] in ("Succeeded", "Failed")}
            alive = [pod for pod in pods if pod["metadata"]["name"] not in over]
            assert {pod["spec"]["containers"][0]["image"] for pod in alive} == {service.image("2")}, [pod["status"] for pod in pods]
            assert all(status["ready"] for pod in alive for status in pod["status"]["containerStatuses"])
            assert not any(
                "running" in status["state"] for pod in pods if pod not in alive for status in pod["status"]["containerStatuses"]
            )
            green.append(number)
        service.drop(name, database)

    play([functools.partial(play_round, number) for number in range(ROUNDS)])
    assert len(green) == ROUNDS - len(range(0, ROUNDS, 5))
