"""A Job from its creation to its end, over what an API server may do to those who look: the cluster here is a script of scenes. Real Jobs are
followed in tests/cluster.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from migrator import errors, targets
from migrator.planning import files, history, planner
from tasks import migration
from tasks.job import following as job_following
from tasks.job import running
from tasks.job.following import Ended, Following, StuckJob
from tests.unit.job_objects import Json, ended, event, job, outcome, pod, target

LABEL = "dev/auth-service"
AWAY = errors.Unavailable("the API server can't be reached", code="kube-unreachable")
FORBIDDEN = errors.LoginFailed("jobs.batch is forbidden", code="kube-forbidden")
COMPLETE = (("Complete", "CompletionsReached"),)
RUNNING = pod(phase="Running", running={"startedAt": "x"})


class Scenes:
    """Stands for an API server: (Job, pods) one after the other, the last one stays; a fault is raised. Logs are `name: line`."""

    def __init__(self, *scenes: Any, events: list[Json] | None = None) -> None:
        self.scenes = list(scenes)
        self.asked: list[str] = []
        self._pods: list[Json] = []
        self._events = events or []

    def job(self, namespace: str, name: str) -> Json | None:
        self.asked.append(f"job {namespace}/{name}")
        scene = self.scenes.pop(0) if len(self.scenes) > 1 else self.scenes[0]
        if isinstance(scene, Exception):
            raise scene
        found, self._pods = scene
        return found

    def pods(self, namespace: str, selector: str) -> list[Json]:
        self.asked.append(f"pods {selector}")
        return self._pods

    def events(self, namespace: str, uid: str) -> list[Json]:
        self.asked.append(f"events {uid}")
        return [item for item in self._events if item["involvedObject"]["uid"] == uid]

    def log_lines(self, namespace: str, pod: str, *, container: str, since_seconds: int | None = None) -> Iterator[tuple[str, str]]:
        yield "2026-01-01T00:00:01Z", f"log of {pod}"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks a hundred times as often."""
    monkeypatch.setattr(job_following, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(job_following, "EVENTS_SECONDS", 0.0)


def follow(api: Scenes, patience: float = 60.0, cancelled: threading.Event | None = None, **spec: Any) -> tuple[Ended, list[str]]:
    told: list[str] = []
    asked = job()
    asked["spec"].update(spec)
    following = Following(api, asked, LABEL, patience, lambda level, text: told.append(text), cancelled or threading.Event())
    return following.until_finished(), told


def test_good_flow_a_job_is_followed_to_its_end_and_its_log_is_told() -> None:
    done = ended(0, outcome(0))
    api = Scenes((job(), []), (job(), [pod()]), (job(), [RUNNING]), (job(conditions=COMPLETE), [done]))
    found, told = follow(api)
    assert found == Ended(job(conditions=COMPLETE), [done])
    assert told == ["log of p-1"]


def test_the_pods_are_read_after_the_job_so_that_its_end_has_theirs() -> None:
    api = Scenes((job(conditions=COMPLETE), [ended(0, outcome(0))]))
    follow(api)
    name = job()["metadata"]["name"]
    assert api.asked[:2] == [f"job dev-my-girok/{name}", f"pods batch.kubernetes.io/job-name={name}"]


def test_a_pod_of_somebody_else_under_the_jobs_label_is_not_its_own() -> None:
    found, told = follow(Scenes((job(conditions=COMPLETE), [ended(14, name="other", owner="another"), ended(0, name="own")])))
    assert [item["metadata"]["name"] for item in found.pods] == ["own"]
    assert told == ["log of own"]


def test_events_are_asked_for_only_while_no_pod_runs() -> None:
    api = Scenes((job(), [RUNNING]), (job(conditions=COMPLETE), [ended(0)]))
    follow(api)
    assert [item for item in api.asked[:3] if item.startswith("events")] == []


def test_a_failed_attempt_is_told_once_with_its_words() -> None:
    failed = ended(21, outcome(21, error={"code": "unavailable", "message": "no server"}), name="a")
    _, told = follow(Scenes((job(), [failed]), (job(), [failed]), (job(conditions=COMPLETE), [failed, ended(0, name="b")])))
    assert [text for text in told if "ended with" in text] == ["dev/auth-service: a ended with exit code 21: no server"]


def test_an_api_server_that_is_restarted_is_survived_though_it_refuses_at_first() -> None:
    """A 403 of what was just allowed is an authorizer that has not read its Roles; the same holds for rollouts."""
    found, _ = follow(Scenes((job(), [RUNNING]), AWAY, AWAY, FORBIDDEN, FORBIDDEN, (job(conditions=COMPLETE), [ended(0)])))
    assert len(found.pods) == 1


def test_bad_flow_a_permission_that_is_missing_is_told_at_once() -> None:
    api = Scenes(FORBIDDEN)
    with pytest.raises(errors.LoginFailed):
        follow(api)
    assert len(api.asked) == 1


def test_bad_flow_an_api_server_that_stays_away_is_what_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_following, "OUTAGE_SECONDS", 0.1)
    with pytest.raises(errors.Unavailable) as caught:
        follow(Scenes((job(), [RUNNING]), AWAY))
    assert caught.value.code == "kube-unreachable"


@pytest.mark.parametrize("now", [None, job(uid="another")], ids=["gone", "recreated"])
def test_bad_flow_a_job_that_is_deleted_is_told(now: Json | None) -> None:
    with pytest.raises(errors.NotFound) as caught:
        follow(Scenes((job(), [RUNNING]), (now, [])))
    assert caught.value.code == "job-deleted"


def test_bad_flow_a_job_that_nobody_ends_is_told_after_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_following, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(job_following, "SLACK_SECONDS", 0.2)
    with pytest.raises(errors.NotYet) as caught:
        follow(Scenes((job(), [RUNNING])), activeDeadlineSeconds=0)
    assert caught.value.code == "job-unfinished"


def test_bad_flow_a_run_that_is_cancelled_ends_between_two_looks() -> None:
    cancelled = threading.Event()
    threading.Timer(0.1, cancelled.set).start()
    with pytest.raises(errors.Interrupted):
        follow(Scenes((job(), [RUNNING])), cancelled=cancelled)


@pytest.mark.parametrize("reason", ["ImageInspectError", "RegistryUnavailable", "RunContainerError", "SignatureValidationFailed"])
def test_bad_flow_a_pod_that_does_not_start_ends_the_patience(reason: str) -> None:
    with pytest.raises(StuckJob) as caught:
        follow(Scenes((job(), [pod(waiting={"reason": reason, "message": "m"})])), patience=0.1)
    assert caught.value.found.reason == f"{reason}: m"


def test_a_trouble_that_ends_is_forgotten() -> None:
    pulling = pod(waiting={"reason": "ErrImagePull", "message": "m"})
    _, told = follow(Scenes(*[(job(), [pulling])] * 2, (job(), [RUNNING]), (job(conditions=COMPLETE), [ended(0)])), patience=30.0)
    assert [text for text in told if "does not get on" in text] == [
        f"dev/auth-service: Job dev-my-girok/{job()['metadata']['name']} does not get on: ErrImagePull: m"
    ]


def test_a_pod_that_waited_and_is_gone_holds_nothing_up() -> None:
    """Neither what it waited for nor a refusal that is older than it."""
    waited = pod(waiting={"reason": "ErrImagePull", "message": "m"}, created="2026-01-01T00:02:00Z")
    refused = [event("FailedCreate", "quota", "job-1", at="2026-01-01T00:01:00Z")]
    scenes = [(job(), [waited]), *[(job(), [])] * 20, (job(conditions=COMPLETE), [ended(0, name="p-2")])]
    found, _ = follow(Scenes(*scenes, events=refused), patience=0.1)
    assert len(found.pods) == 2


# --- what all pods together have done


def concluded(tmp_path: Path, pods: list[Json], left: list[int]) -> Any:
    """The outcome of a Job with these pods that was to apply versions 1 and 2; `left` is what the database still needs afterwards."""
    for version in (1, 2):
        (tmp_path / f"0000{version}_x.sql").write_text(f"-- +goose Up\nSELECT {version};\n", encoding="utf-8")
    chosen = target(directory=str(tmp_path))
    asked: list[str] = []

    def prepared(pending: list[int]) -> migration.Prepared:
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        rows = tuple(history.Row(version, True, moment, str(version)) for version in (2, 1, 0) if version not in pending)
        known = history.History(targets.Engine.POSTGRES, exists=True, rows=rows)
        plan = planner.plan(files.load(tmp_path), known, targets.Target(targets.Verb.UP), engine=targets.Engine.POSTGRES)
        return migration.Prepared(plan, known)

    def again() -> migration.Prepared:
        asked.append("again")
        return prepared(left)

    found = running._outcome(chosen, Ended(job(conditions=COMPLETE), pods), prepared([1, 2]), again)
    return found.versions, found.current, len(asked)


def test_an_outcome_that_every_pod_left_needs_no_database(tmp_path: Path) -> None:
    first = ended(21, outcome(21, applied=[[1, 1, 0.1]], current=1), name="a")
    last = ended(0, outcome(0, applied=[[2, 1, 0.1]], current=2), name="b", created="2026-01-01T00:00:20Z")
    assert concluded(tmp_path, [first, last], left=[]) == ((1, 2), 2, 0)


@pytest.mark.parametrize(
    "gone", [pod("a", phase="Unknown", running={"startedAt": "x"}), ended(137, "", reason="OOMKilled", name="a")], ids=["unseen", "killed"]
)
def test_what_a_pod_did_whose_end_nobody_saw_is_asked_of_the_database(tmp_path: Path, gone: Json) -> None:
    last = ended(0, outcome(0, applied=[[2, 1, 0.1]], current=2), name="b", created="2026-01-01T00:00:20Z")
    assert concluded(tmp_path, [gone, last], left=[]) == ((1, 2), 2, 1)
