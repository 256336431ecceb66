"""A run of mode argocd over what Argo CD may do to it and a real one does not do on demand: the server and the database here are scripts of scenes.

The same on a real Argo CD, as far as it can be provoked: tests/cluster/test_argocd_mode.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from migrator import errors, registry, targets
from migrator.planning import files, history, planner
from tasks import migration, settings
from tasks.argocd import following, running, states, verdicts
from tasks.argocd.running import SyncFailed
from tasks.fleet import ArgoCD
from tasks.fleet.argocd_section import Sync
from tasks.job.failures import JobFailed
from tasks.request import Request
from tests.unit import job_objects
from tests.unit.argocd_objects import application, asked, automated, hook, state

LABEL = "dev/auth-service"
AWAY = errors.Unavailable("Argo CD does not answer", code="argocd-unavailable")


@dataclass
class Scenes:
    """Stands for Argo CD: each look takes the next scene, the last one stays. A scene is made of the run's own info, once there is one."""

    scenes: list[Callable[[str], Any]]
    settings: ArgoCD = field(default_factory=lambda: ArgoCD(server="https://argocd.example", application="auth-service-dev"))
    answer: Callable[[str], Any] = lambda run: application(operation=asked(run))
    run: str = ""
    job_: dict[str, Any] | None = None
    pods_: list[dict[str, Any]] = field(default_factory=list)
    events_: list[dict[str, Any]] = field(default_factory=list)
    syncs: int = 0
    terminated: int = 0

    def __enter__(self) -> Scenes:
        return self

    def __exit__(self, *_: object) -> None: ...

    def application(self, *, refresh: bool = False) -> states.Application:
        scene = self.scenes.pop(0) if len(self.scenes) > 1 else self.scenes[0]
        found = scene(self.run)
        if isinstance(found, Exception):
            raise found
        return states.application(found)

    def sync(self, infos: dict[str, str]) -> states.Application | None:
        self.syncs += 1
        self.run = infos[verdicts.RUN]
        found = self.answer(self.run)
        if isinstance(found, Exception):
            raise found
        return None if found is None else states.application(found)

    def terminate(self) -> bool:
        self.terminated += 1
        return self.terminated > 2  # the controller has not begun it before

    def job(self, _: states.Hook) -> dict[str, Any] | None:
        return self.job_

    def pods(self, _: list[str]) -> list[dict[str, Any]]:
        return self.pods_

    def events(self, _: dict[str, Any]) -> list[dict[str, Any]]:
        return self.events_


def idle(_: str) -> Any:
    return application()


def beginning(run: str) -> Any:
    return application(operation=asked(run))


def at_work(run: str) -> Any:
    return application(state(asked(run), "Running", [hook("Running")]), asked(run))


def done(run: str) -> Any:
    return application(state(asked(run)))


def ended(phase: str, message: str, resources: list[dict[str, Any]] | None = None) -> Callable[[str], Any]:
    return lambda run: application(state(asked(run), phase, resources, message=message))


@pytest.fixture
def pending(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[int]]:
    """How many migrations the database lacks, at each time that it is asked: the last number stays. Nothing waits for long."""
    for module, name in ((following, "LOOK_SECONDS"), (following, "PODS_SECONDS"), (running, "READ_SECONDS")):
        monkeypatch.setattr(module, name, 0.01)
    for number in (1, 2):
        (tmp_path / f"0000{number}_x.sql").write_text("-- +goose Up\nSELECT 1;\n-- +goose Down\nSELECT 1;\n", encoding="utf-8")
    numbers = [1, 0]

    def prepare(_: Request) -> migration.Prepared:
        left = numbers.pop(0) if len(numbers) > 1 else numbers[0]
        applied = made(2 - left)
        plan = planner.plan(files.load(tmp_path), applied, targets.Target(targets.Verb.UP), engine=targets.Engine.POSTGRES)
        return migration.Prepared(plan, applied)

    monkeypatch.setattr(migration, "prepare", prepare)
    monkeypatch.setattr(running._Work, "_lock_is_free", lambda *_: True)
    yield numbers


def made(count: int) -> history.History:
    """The history of a database that has the first so many versions."""
    rows = tuple(history.Row(number, True, datetime(2026, 1, 1, tzinfo=UTC), str(number)) for number in range(count, -1, -1))
    return history.History(targets.Engine.POSTGRES, exists=True, rows=rows)


def run(scenes: Scenes, **more: Any) -> tuple[Any, list[str]]:
    told: list[str] = []
    where = job_objects.target(argocd=scenes.settings)
    chosen = settings.load().model_copy(update={"job_patience_seconds": 0.0})
    request = Request(where, SecretStr("postgres://x"), settings=chosen, run_id="f" * 32, **{"deadline": 20.0, **more})
    return running.run(request, tell=lambda _, text: told.append(text), client=scenes), told  # type: ignore[arg-type]


def refused(scenes: Scenes, **more: Any) -> errors.GreylagError:
    with pytest.raises(errors.GreylagError) as caught:
        run(scenes, **more)
    assert caught.value.hint
    return caught.value


def test_good_flow_a_sync_is_started_followed_and_the_database_asked(pending: list[int]) -> None:
    outcome, told = run(Scenes([idle, beginning, at_work, done]))
    assert (outcome.versions, outcome.current) == ((2,), 2)
    assert [line.split(": ")[2] for line in told if ": auth-service-dev: " in line] == ["beginning", "running", "succeeded"]


def test_good_flow_an_answer_that_was_lost_is_found_in_the_application(pending: list[int]) -> None:
    scenes = Scenes([idle, beginning, done], answer=lambda _: AWAY)
    assert run(scenes)[0].versions == (2,) and scenes.syncs == 1


def test_bad_flow_a_request_that_was_lost_is_told_and_another_attempt_may_be_made(pending: list[int]) -> None:
    with pytest.raises(errors.Unavailable) as caught:
        run(Scenes([idle], answer=lambda _: AWAY))
    assert caught.value.transient


@pytest.mark.parametrize(
    "answer",
    [lambda _: application(), lambda _: application(operation=asked("other")), lambda run: application(operation=asked(run, dryRun=True))],
)
def test_bad_flow_an_answer_with_another_operation_than_the_one_asked_for(pending: list[int], answer: Callable[[str], Any]) -> None:
    """A misspelt field is ignored with a 200: only the answer says whether the infos were understood."""
    assert refused(Scenes([idle], answer=answer)).code == "argocd-ignored"


def test_good_flow_an_operation_that_began_between_two_requests_is_waited_for(pending: list[int]) -> None:
    answers: list[Any] = [None, application]
    scenes = Scenes([idle, lambda _: application(operation=asked("other")), idle, idle, done])
    scenes.answer = lambda run: None if answers.pop(0) is None else application(operation=asked(run))
    assert run(scenes)[0].versions == (2,) and scenes.syncs == 2


def test_bad_flow_an_operation_that_replaced_the_runs_own_proves_nothing(pending: list[int]) -> None:
    error = refused(Scenes([idle, at_work, lambda _: application(state(automated()))]))
    assert error.code == "argocd-replaced" and error.transient


def test_bad_flow_a_sync_that_does_not_end_goes_on(pending: list[int]) -> None:
    scenes = Scenes([idle, at_work])
    error = refused(scenes, deadline=0.2)
    assert error.code == "argocd-unfinished" and scenes.terminated == 0
    held = Scenes(
        [idle, lambda run: application(state(asked(run), "Running", message="Sync operation blocked by sync window"), asked(run))]
    )
    assert refused(held, deadline=0.2).code == "argocd-window"


def test_bad_flow_a_failure_outside_of_the_migration_is_argo_cds_own(pending: list[int]) -> None:
    error = refused(Scenes([idle, ended("Failed", "one or more objects failed to apply: ConfigMap x is invalid", [])]))
    assert isinstance(error, SyncFailed) and error.code == "argocd-failed" and "ConfigMap x is invalid" in error.message


def test_bad_flow_a_failed_hook_whose_job_is_gone(pending: list[int]) -> None:
    error = refused(Scenes([idle, ended("Failed", "x", [hook("Failed", message="Job has reached the specified backoff limit")])]))
    assert isinstance(error, JobFailed) and error.code == "job-failed" and "backoff limit" in error.message


def test_bad_flow_a_hook_that_succeeds_on_another_database(pending: list[int]) -> None:
    pending[:] = [1, 1]
    assert refused(Scenes([idle, done])).code == "argocd-not-migrated"


def test_bad_flow_a_stuck_hook_is_terminated_as_soon_as_that_is_possible(pending: list[int]) -> None:
    waits = job_objects.pod(waiting={"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x"'})
    scenes = Scenes(
        [idle, at_work, at_work, at_work, at_work, ended("Failed", "Operation terminated")], job_=job_objects.job(), pods_=[waits]
    )
    scenes.pods_ = [waits]
    looks = scenes.pods

    def pods(names: list[str]) -> list[dict[str, Any]]:
        return [] if scenes.terminated > 2 else looks(names)

    scenes.pods = pods  # type: ignore[method-assign]
    assert refused(scenes).code == "image-not-pulled"
    assert scenes.terminated == 3


def test_bad_flow_a_cancelled_run_terminates_the_operation_that_it_adopted(pending: list[int]) -> None:
    bundle = migration.prepare(None).plan.bundle  # type: ignore[arg-type]
    pending[:] = [1, 0]

    def other(_: str) -> Any:
        asked_for = asked("other")
        asked_for["info"].append({"name": verdicts.BUNDLE, "value": bundle})
        if scenes.terminated > 2:
            return application(state(asked("other"), "Failed", message="Operation terminated"))
        return application(state(asked_for, "Running", [hook("Running")]), asked_for)

    scenes = Scenes([other])
    threading.Timer(0.05, registry.cancel_all).start()
    with pytest.raises(errors.Interrupted):
        run(scenes)
    assert scenes.syncs == 0 and scenes.terminated == 3


def follows(*scenes: Callable[[str], Any]) -> Scenes:
    place = ArgoCD(server="https://argocd.example", application="auth-service-dev", sync=Sync.FOLLOW)
    return Scenes(list(scenes), settings=place)


def test_good_flow_an_automatic_sync_is_followed_by_its_revision(pending: list[int]) -> None:
    scenes = follows(idle, lambda _: application(state(automated(), "Running"), automated()), lambda _: application(state(automated())))
    outcome, told = run(scenes)
    assert outcome.versions == (2,) and scenes.syncs == 0 and scenes.terminated == 0
    assert any("is not synced automatically" in line for line in told)


def test_good_flow_a_self_heal_after_the_sync_that_migrated_hides_it_and_the_database_decides(pending: list[int]) -> None:
    heal = automated(resources=[{"kind": "Deployment", "name": "auth-service"}], autoHealAttemptsCount=1)
    outcome, told = run(follows(lambda _: application(state(heal))))
    assert outcome.versions == (2,)
    assert any("the last operation itself did not migrate" in line for line in told)


def test_bad_flow_a_revision_that_is_synced_already_does_not_bring_what_is_missing(pending: list[int]) -> None:
    pending[:] = [1, 1]
    error = refused(follows(lambda _: application(state(automated()))), deadline=0.2)
    assert error.code == "argocd-not-synced"
