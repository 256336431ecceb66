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
from tasks.settings import Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"


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

    def __init__(self, secret: Any = None, events: Any = (), jobs: Any = (), workload: Any = None) -> None:
        self.answers = {"secret": secret, "events": events, "jobs": jobs, "workload": workload}

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
        return []

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


def test_values_that_switch_the_migration_off_are_the_recipes_first_row(tmp_path: Path) -> None:
    path = tmp_path / "deployments" / "chart" / "service" / "values" / "auth-service.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("migration: {enabled: false}\n")
    target = fleet.load().target("auth-service", "dev")
    chain = surroundings.Surroundings(target, Settings(), tmp_path).chain()
    (found,) = findings.walk(chain[:1])
    assert found.trouble is troubles.TROUBLES[0]
