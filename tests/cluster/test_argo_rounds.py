"""Thirty releases under a real Argo CD, with chance in every moment: no program of the new Deployment starts before the history row of its migration.

Round N is seeded by N, so that a long proof can be made in pieces: GREYLAG_TEST_ARGO_ROUNDS=10-19 plays those ten.
"""

from __future__ import annotations

import datetime
import functools
import os
import random
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sandbox.argocd.installation import ArgoCD
from sandbox.argocd.repository import Repository
from sandbox.cluster.api import Object
from sandbox.databases.postgres import PostgresServer
from tests.cluster.argo_databases import Postgres
from tests.cluster.argo_layouts import STRATEGIES, image
from tests.cluster.argo_story import OTHER_PATH, PATH, Story
from tests.cluster.chart_stage import parts
from tests.cluster.external_secrets_double import ExternalSecretsDouble
from tests.cluster.releases import later, play
from tests.cluster.workloads import Namespace

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]


def chosen(text: str) -> range:
    """The rounds that a text names, `FIRST-LAST`."""
    first, _, last = text.partition("-")
    return range(int(first), int(last) + 1)


ROUNDS = chosen(os.environ.get("GREYLAG_TEST_ARGO_ROUNDS", "0-29"))
LANES = 3
"""Applications side by side; each plays every third round, one release after the other."""


@pytest.fixture(scope="module")
def server(session_directory: Path) -> Iterator[PostgresServer]:
    """A server that remembers when each transaction was committed: a row's own time is a moment earlier."""
    with PostgresServer(session_directory / "postgres-argo-rounds", settings={"track_commit_timestamp": "on"}) as running:
        yield running


@pytest.fixture
def stories(argocd: ArgoCD, server: PostgresServer, tmp_path: Path) -> Iterator[list[Story]]:
    """Applications with a database each; the strategies in turn."""
    made: list[Story] = []
    doubles: list[ExternalSecretsDouble] = []
    for lane in range(LANES):
        name = argocd.cluster.create_namespace(f"test-{secrets.token_hex(4)}")
        database = f"test_{secrets.token_hex(5)}"
        url = server.create_database(database, owner=database, password="plain-words-2")
        login = parts(url, "postgres")
        doubles.append(ExternalSecretsDouble(argocd.cluster, name).__enter__())
        doubles[-1].store = {PATH: login, OTHER_PATH: dict(login)}
        where = Postgres(login, url, functools.partial(server.execute, database=database))
        repository = Repository(tmp_path / f"repository-{lane}")
        made.append(Story(STRATEGIES[lane % 2], argocd, repository, Namespace(argocd.cluster, name), where, doubles[-1]))
    yield made
    for story, double in zip(made, doubles, strict=True):
        argocd.delete_application(story.name)
        double.__exit__()
        argocd.cluster.delete_namespace(story.name)


def slow(number: int, seconds: float) -> str:
    """The text of a migration that takes this long."""
    return f"-- +goose Up\nCREATE TABLE t{number} (id bigint);\nSELECT pg_sleep({seconds:.2f});\n-- +goose Down\nDROP TABLE t{number};\n"


def committed(story: Story, version: int) -> float:
    """When the version's history row became visible, by the server's clock (seconds): this machine's."""
    assert isinstance(story.database, Postgres)
    query = f"SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM goose_db_version WHERE version_id = {version} AND is_applied"
    return float(story.database.sql(query))


def pods(story: Story) -> list[Object]:
    """The Deployment's pods that carry the release's image."""
    return [
        pod
        for pod in story.namespace.list("pod")
        if any(owner["kind"] == "ReplicaSet" for owner in pod["metadata"].get("ownerReferences") or ())
        and pod["spec"]["containers"][0]["image"] == image(story.name, story.tag)
    ]


def programs(story: Story) -> list[float]:
    """When the programs of these pods began, by the first line that each has printed; empty until all have."""

    def said(pod: Object) -> str:
        return story.namespace.logs(pod["metadata"]["name"], "--container", pod["spec"]["containers"][0]["name"]) if began(pod) else ""

    lines = [said(pod) for pod in pods(story)]
    return [float(line.split()[0]) for line in lines] if lines and all(lines) else []


def began(pod: Object) -> bool:
    """Whether the pod's own container runs or has run."""
    statuses = pod["status"].get("containerStatuses") or []
    return bool(statuses) and "waiting" not in statuses[0]["state"]


def delete_pods_of_the_job(story: Story) -> None:
    """Deletes what the Job runs at this moment, if it runs anything."""
    for pod in story.pods():
        story.namespace.delete("pod", pod["metadata"]["name"])


def play_round(story: Story, number: int, seen: list[str]) -> None:
    """One release: what happens to it, and when, is chance."""
    chance = random.Random(number)
    acts = []
    away = chance.uniform(0, 4) if chance.random() < 0.4 else 0.0
    selective = chance.random() < 0.4 and story.releases > 0
    # The sandbox's kubelet does not renew a Secret under a pod that waits, as a real one does within a minute or two.
    path = story.paths[-1] if selective else chance.choice((PATH, OTHER_PATH))
    deleted = chance.uniform(0, 6) if chance.random() < 0.3 else 0.0
    threads: list[threading.Thread] = []
    if away:
        story.double.leave(away)
        acts.append("External Secrets away")
    story.release(slow(len(story.files) + 1, chance.uniform(0, 4)), path=path)
    time.sleep(chance.uniform(0, 2))
    if selective:  # such a sync runs no hook: the new pods are there before the migration
        story.sync_without_hooks()
        acts.append("Deployment first")
        time.sleep(chance.uniform(0, 4))
    mark = story.begin()
    if deleted:
        threads.append(later(deleted, lambda: delete_pods_of_the_job(story)))
        acts.append("pod deleted")
    state = story.ended(mark)
    for thread in threads:
        thread.join()
    if state["phase"] != "Succeeded":  # a Job that was held for too long: the next sync goes on
        acts.append(state["phase"])
        state = story.sync()
    assert state["phase"] == "Succeeded", story.told()
    story.wait(lambda: bool(programs(story)), "the release's programs have started", 120)
    version = len(story.files)
    row = committed(story, version)
    early = [moment for moment in programs(story) if moment <= row]
    assert not early, f"round {number} ({story.layout}): started {row - early[0]:.3f} s before the row of version {version}"
    statuses = [status for pod in pods(story) for status in pod["status"]["initContainerStatuses"]]
    # The status counts whole seconds. One that was restarted tells of its last start alone.
    held = any(status["restartCount"] or timestamp(status["state"]["terminated"]["startedAt"]) + 1 < row for status in statuses)
    words = f"{', '.join(acts) or 'as usual'}: {min(programs(story)) - row:.2f} s after the row{', held until then' if held else ''}"
    seen.append(f"round {number:2}: {story.layout}: {words}")


def timestamp(moment: str) -> float:
    """A whole second of the API's."""
    return datetime.datetime.fromisoformat(moment).timestamp()


def test_no_program_of_a_new_deployment_starts_before_its_migration(stories: Sequence[Story]) -> None:
    seen: list[str] = []

    def play_lane(lane: int) -> None:
        for number in ROUNDS:
            if number % LANES == lane:
                play_round(stories[lane], number, seen)

    play([functools.partial(play_lane, lane) for lane in range(LANES)], LANES)
    print("\n".join(sorted(seen)))
    assert len(seen) == len(ROUNDS)
    assert any(line.endswith("held until then") for line in seen), "in no round did a pod come before its migration: nothing was proven"


def test_without_the_init_container_the_same_measurement_sees_a_program_start_too_early(stories: Sequence[Story]) -> None:
    story = stories[0]
    story.waits = False
    story.release(story.table())
    assert story.sync()["phase"] == "Succeeded", story.told()
    story.release(slow(2, 1.0))
    story.sync_without_hooks()
    story.wait(lambda: bool(programs(story)), "the program has started")
    assert story.sync()["phase"] == "Succeeded", story.told()
    assert min(programs(story)) < committed(story, 2)
