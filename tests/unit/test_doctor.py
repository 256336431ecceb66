"""The doctor's chain and its table: pure, and the cluster's links against a double that says what a cluster would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.doctor import findings, surroundings, troubles
from deployments.doctor.findings import Finding, State
from migrator import errors
from tasks import fleet
from tasks.argocd import states
from tasks.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"


def test_the_page_holds_the_rows_of_the_table() -> None:
    assert troubles.page_rows() in PAGE.read_text(encoding="utf-8")


def test_the_table_has_the_recipes_eight_rows_and_no_code_twice() -> None:
    codes = [code for row in troubles.TROUBLES for code in row.causes]
    assert len(troubles.TROUBLES) == 8
    assert len(codes) == len(set(codes))


def refuse() -> Iterator[Finding]:
    raise errors.NotFound('database "auth" does not exist', code="unknown-database", hint="create it")


def test_the_walk_stops_behind_the_first_broken_link_and_says_which_row_it_is() -> None:
    chain = [
        ("one", lambda: [findings.sound("one", "seen")]),
        ("two", lambda: [findings.unknown("two", "not shown")]),
        ("three", refuse),
        ("four", lambda: [findings.sound("four", "seen")]),
    ]
    found = list(findings.walk(chain))
    assert [(item.link, item.state) for item in found] == [("one", State.SOUND), ("two", State.UNKNOWN), ("three", State.BROKEN)]
    assert found[-1].trouble is troubles.of("unknown-database")
    assert found[-1].document()["row"] == "`unknown database` (ClickHouse)"
    assert "cause" not in found[0].document()


class FakeCluster:
    """A cluster's answers, as given; None stands for an object that there is not, an error is raised."""

    def __init__(
        self, secret: Any = None, events: Any = (), jobs: Any = (), workload: Any = None, config_map: Any = None, pods: Any = ()
    ) -> None:
        given = {"secret": secret, "events": events, "jobs": jobs, "workload": workload, "config_map": config_map, "pods": pods}
        self.answers: dict[str, Any] = given

    def _said(self, what: str) -> Any:
        answer = self.answers[what]
        if isinstance(answer, errors.GreylagError):
            raise answer
        return answer

    def external_secret(self, namespace: str, name: str) -> Any:
        return self._said("secret")

    def events(self, namespace: str, uid: str) -> Any:
        return self._said("events")

    def jobs(self, namespace: str, selector: str = "") -> Any:
        return self._said("jobs")

    def pods(self, namespace: str, selector: str) -> Any:
        return self._said("pods")

    def config_map(self, namespace: str, name: str) -> Any:
        return self._said("config_map")

    def log(self, namespace: str, pod: str, *, container: str, lines: int) -> str:
        return ""

    def workload(self, kind: Any, namespace: str, name: str) -> Any:
        return self._said("workload")


def look(cluster: FakeCluster, link: str, monkeypatch: pytest.MonkeyPatch) -> Finding:
    monkeypatch.setattr("tasks.kubernetes.connect", lambda *_: cluster)
    target = fleet.load().target("auth-service", "dev")
    chain = surroundings.Surroundings(target, Settings(), Path("/nowhere")).chain()
    until = [name for name, _ in chain].index(link) + 1
    return list(findings.walk([item for item in chain[:until] if item[0] in ("cluster", link)]))[-1]


def external_secret(version: str, *conditions: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"uid": "u", "generation": 3}, "status": {"syncedResourceVersion": version, "conditions": list(conditions)}}


READY = {"type": "Ready", "status": "True"}
FAILED = {"type": "Ready", "status": "False", "message": "could not get secret data from provider"}
FORBIDDEN = errors.LoginFailed("reading: refused", code="kube-forbidden", hint="the role needs {externalsecrets: get}")


@pytest.mark.parametrize(
    ("cluster", "state", "words"),
    [
        (FakeCluster(external_secret("3-abc", READY)), State.SOUND, "synced from its present specification"),
        (FakeCluster(external_secret("2-abc", READY)), State.UNKNOWN, "synced before"),
        (FakeCluster(external_secret("", FAILED)), State.BROKEN, "could not get secret data"),
        (
            FakeCluster(external_secret("", FAILED), [{"type": "Warning", "message": "Secret does not exist"}]),
            State.BROKEN,
            "Secret does not exist",
        ),
        (FakeCluster(None), State.ABSENT, "there is no ExternalSecret"),
        (FakeCluster(FORBIDDEN), State.UNKNOWN, "the role needs {externalsecrets: get}"),
    ],
)
def test_an_external_secret_is_told_by_what_it_and_its_events_say(
    cluster: FakeCluster, state: State, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = look(cluster, "ExternalSecret", monkeypatch)
    assert (found.state, words in found.evidence) == (state, True), found


def test_a_job_that_may_not_be_listed_is_unknown_and_names_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(FakeCluster(jobs=FORBIDDEN), "migration Job", monkeypatch)
    assert found.state is State.UNKNOWN
    assert "the role needs" in found.evidence


def test_a_failed_job_breaks_the_chain_with_its_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    job = {
        "metadata": {"name": "auth-service-migrate", "uid": "j", "labels": {}, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}]},
    }
    found = look(FakeCluster(jobs=[job]), "migration Job", monkeypatch)
    assert (found.state, found.cause) == (State.BROKEN, "migration-job-failed")


def migration_job(*volumes: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {"name": "auth-service-migrate", "uid": "j", "labels": {}, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"template": {"spec": {"volumes": list(volumes)}}},
        "status": {"active": 1},
    }


FILES = {"name": "files", "configMap": {"name": "auth-service-migrations"}}
FIRST = next(path for path in sorted((ROOT / "services" / "auth-service" / "migrations").glob("*.sql")))


@pytest.mark.parametrize(
    ("cluster", "state", "words"),
    [
        (FakeCluster(), State.ABSENT, "there is no migration Job"),
        (FakeCluster(jobs=[migration_job()]), State.ABSENT, "mounts none"),
        (FakeCluster(jobs=[migration_job(FILES)]), State.BROKEN, "there is no ConfigMap"),
        (FakeCluster(jobs=[migration_job(FILES)], config_map=FORBIDDEN), State.UNKNOWN, "the role needs"),
        (
            FakeCluster(jobs=[migration_job(FILES)], config_map={"data": {FIRST.name: FIRST.read_text(), "x.txt": "x"}}),
            State.SOUND,
            "holds 1 file(s) as this checkout has them, not yet",
        ),
        (FakeCluster(jobs=[migration_job(FILES)], config_map={"data": {FIRST.name: "-- other"}}), State.BROKEN, "holds another text of"),
    ],
)
def test_the_config_map_of_the_job_is_compared_with_the_checkout(
    cluster: FakeCluster, state: State, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = look(cluster, "ConfigMap", monkeypatch)
    assert (found.state, words in found.evidence) == (state, True), found


def test_a_job_that_gets_no_pod_is_told_by_its_event_and_one_at_work_is_not_called_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    event = {
        "metadata": {},
        "involvedObject": {"uid": "j"},
        "reason": "FailedCreate",
        "message": "no account",
        "lastTimestamp": "2026-01-02",
    }
    stuck = look(FakeCluster(jobs=[migration_job()], events=[event]), "migration Job", monkeypatch)
    assert (stuck.state, stuck.cause) == (State.BROKEN, "pod-not-created") and "no account" in stuck.evidence
    working = look(FakeCluster(jobs=[migration_job()]), "migration Job", monkeypatch)
    assert working.state is State.UNKNOWN and "at work" in working.evidence


def deployment(**status: Any) -> dict[str, Any]:
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "auth-service"}}, "template": {"spec": {}}}
    return {"metadata": {"name": "auth-service", "uid": "d", "generation": 1}, "spec": spec, "status": {"observedGeneration": 1, **status}}


def waiting_pod(reason: str, phase: str = "Pending") -> dict[str, Any]:
    status = {"phase": phase, "containerStatuses": [{"name": "service", "state": {"waiting": {"reason": reason, "message": "why"}}}]}
    return {"metadata": {"name": "p", "uid": "p"}, "status": status}


REFUSED = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}
LATE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}


@pytest.mark.parametrize(
    ("cluster", "state", "cause"),
    [
        (FakeCluster(workload=deployment(updatedReplicas=1, replicas=1, availableReplicas=1)), State.SOUND, ""),
        (FakeCluster(workload=deployment(updatedReplicas=1, replicas=1)), State.UNKNOWN, ""),
        (FakeCluster(workload=deployment(), pods=[waiting_pod("ImagePullBackOff")]), State.BROKEN, "image-not-pulled"),
        (FakeCluster(workload=deployment(), pods=[waiting_pod("CrashLoopBackOff", "Running")]), State.BROKEN, "crash-loop"),
        (FakeCluster(workload=deployment(conditions=[REFUSED])), State.BROKEN, "pod-not-created"),
        (FakeCluster(workload=deployment(conditions=[LATE])), State.BROKEN, "rollout-failed"),
    ],
)
def test_a_workload_that_is_not_ready_is_told_by_its_pods(
    cluster: FakeCluster, state: State, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = look(cluster, "workload", monkeypatch)
    assert (found.state, found.cause) == (state, cause), found


def application(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "spec": {}, "status": {"sync": {"status": "Synced"}, "health": {"status": "Healthy"}, **status}}


OUT_OF_SYNC = {"status": "OutOfSync"}


@pytest.mark.parametrize(
    ("found", "state", "cause", "row"),
    [
        (application(), State.SOUND, "", None),
        (application(health={"status": "Degraded"}), State.BROKEN, "application-degraded", None),
        (application(operationState={"phase": "Failed", "message": "m"}), State.BROKEN, "argocd-failed", None),
        (application(operationState={"phase": "Running", "message": "m"}), State.UNKNOWN, "", None),
        (
            application(sync=OUT_OF_SYNC, resources=[{"kind": "ConfigMap", "name": "c", "status": "OutOfSync"}]),
            State.BROKEN,
            "application-out-of-sync",
            None,
        ),
        (
            application(sync=OUT_OF_SYNC, resources=[{"kind": "Job", "name": "j", "status": "OutOfSync", "health": {"status": "Missing"}}]),
            State.BROKEN,
            "application-job-gone",
            troubles.TROUBLES[4],
        ),
    ],
)
def test_an_application_is_the_recipes_row_only_where_a_job_is_gone(found: dict[str, Any], state: State, cause: str, row: Any) -> None:
    said = surroundings.standing_of(states.application(found))
    assert (said.state, said.cause, said.trouble) == (state, cause, row), said


def test_values_that_switch_the_migration_off_are_the_recipes_first_row(tmp_path: Path) -> None:
    path = tmp_path / "deployments" / "chart" / "service" / "values" / "auth-service.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("migration: {enabled: false}\n")
    target = fleet.load().target("auth-service", "dev")
    chain = surroundings.Surroundings(target, Settings(), tmp_path).chain()
    (found,) = findings.walk(chain[:1])
    assert found.trouble is troubles.TROUBLES[0]
