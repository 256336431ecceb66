"""The freshness of an ExternalSecret: what it says is pure, and the wait is over a script of what a cluster and Vault would say. The real API server is in
tests/cluster/test_external_secrets.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from pydantic import SecretStr

from migrator import errors, registry
from tasks import fleet, settings
from tasks.fleet.models import Target
from tasks.job import freshness
from tasks.request import Request

READY = {"type": "Ready", "status": "True"}
FAILED = {"type": "Ready", "status": "False", "message": "could not get secret data from provider"}
PATH = "apps/my-girok/dev/auth-service/postgres"


def target() -> Target:
    found = fleet.load().target("auth-service", "dev")
    return found.model_copy(update={"job": found.job.model_copy(update={"external_secret": found.job.secret})})


def external_secret(version: str, condition: Any = READY, *, generation: int = 3, key: str = PATH, **spec: Any) -> dict[str, Any]:
    data = [{"secretKey": "host", "remoteRef": {"key": key, "property": "host"}}]
    return {
        "metadata": {"name": target().job.secret, "uid": "u", "generation": generation},
        "spec": {"data": data, **spec},
        "status": {"syncedResourceVersion": version, "conditions": [condition]},
    }


def warning(message: str, number: int, moment: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    return {
        "metadata": {"uid": f"e{number}", "resourceVersion": str(number)},
        "type": "Warning",
        "message": message,
        "lastTimestamp": moment,
    }


@pytest.mark.parametrize(
    ("found", "fresh"),
    [
        (external_secret("3-new"), True),
        (external_secret("3-old"), False),  # Ready, and from before
        (external_secret("2-new"), False),  # another annotation was synced, with the specification before
        (external_secret("3-new", FAILED), False),
        (external_secret("", FAILED), False),
        (external_secret("3-"), False),
    ],
)
def test_fresh_is_another_hash_of_the_present_generation_and_ready(found: dict[str, Any], fresh: bool) -> None:
    assert freshness.is_fresh(found, "old") is fresh


def test_the_cause_is_the_newest_warnings_and_else_the_conditions() -> None:
    told = [warning("newer", 2, "2026-01-01T00:00:09Z"), warning("older", 1), {"type": "Normal", "message": "synced"}]
    assert freshness.cause(external_secret("", FAILED), told) == "newer"
    assert freshness.cause(external_secret("", FAILED), ()) == "could not get secret data from provider"
    assert freshness.cause({"spec": {}, "metadata": {}}, ()) == "External Secrets has not looked at it yet"


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (external_secret("3-a"), ""),
        (external_secret("3-a", key=f"secret/{PATH}"), ""),  # the store's own path is empty
        (external_secret("3-a", key="apps/my-girok/prod/auth-service/postgres"), "it reads apps/my-girok/prod"),
        (external_secret("3-a", dataFrom=[{"extract": {"key": PATH, "version": "4"}}]), "pinned to version 4"),
        (external_secret("3-a", dataFrom=[{"extract": {"key": PATH, "version": "7"}}, {"find": {"path": "x"}}]), ""),
    ],
)
def test_what_it_reads_is_compared_with_path_and_version(found: dict[str, Any], why: str) -> None:
    said = freshness.differing_reference(found, PATH, 7)
    assert (why in said) if why else said == ""


class Script:
    """Stands for a cluster: each answer of an ExternalSecret follows the one before, and the last stays. None stands for none."""

    def __init__(self, *found: Any, events: Sequence[Sequence[Any]] = ((),)) -> None:
        self.found, self.told, self.marks = list(found), list(events), list[str]()

    def external_secret(self, namespace: str, name: str) -> Any:
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]

    def events(self, namespace: str, uid: str) -> Any:
        return self.told.pop(0) if len(self.told) > 1 else self.told[0]

    def force_sync(self, namespace: str, name: str, mark: str) -> Any:
        self.marks.append(mark)
        return {}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(freshness, "GRACE_SECONDS", 0.05)


def ensure(script: Script, monkeypatch: pytest.MonkeyPatch, *versions: int, patience: float = 1.0, secret: str = "") -> list[str]:
    left: Iterator[int] = iter(versions or (7, 7))
    monkeypatch.setattr("tasks.credentials.version", lambda *_: next(left))
    chosen = settings.load().model_copy(update={"job_patience_seconds": patience})
    told: list[str] = []
    request = Request(target(), SecretStr("postgres://"), settings=chosen)
    freshness.ensure(request, lambda _, text: told.append(text), secret=secret or target().job.secret, api=script)
    return told


def test_it_is_asked_for_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(external_secret("3-old"), external_secret("3-old"), external_secret("3-new"))
    (told,) = ensure(script, monkeypatch)
    assert len(script.marks) == 1
    assert "synced anew (3-new), from version 7 of secret/" in told


def test_where_vaults_version_has_moved_meanwhile_it_is_synced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(external_secret("3-old"), external_secret("3-new"), external_secret("3-new"), external_secret("3-newer"))
    told = ensure(script, monkeypatch, 7, 8, 8)
    assert len(script.marks) == 2 and "from version 7 to 8" in told[0] and "from version 8" in told[1]


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        (Script(None), "external-secret-missing", "there is no ExternalSecret"),
        (Script(external_secret("3-old")), "secret-stale", "says Ready"),
        (Script(external_secret("3-old", target={"name": "another"})), "external-secret-other", "makes the Secret another"),
        (Script(external_secret("3-old"), external_secret("3-new", key="apps/x")), "external-secret-other", "it reads apps/x"),
        (
            Script(external_secret("3-old", FAILED), events=[[warning("old news", 1)], [warning("old news", 1), warning("denied", 2)]]),
            "external-secret-failed",
            "can't be synced: denied",
        ),
    ],
)
def test_what_keeps_it_from_being_fresh_is_named(script: Script, code: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.GreylagError) as caught:
        ensure(script, monkeypatch, patience=0.3)
    assert caught.value.code == code and words in caught.value.message


def test_a_failure_that_was_told_before_is_not_taken_for_one_of_this_synchronisation(monkeypatch: pytest.MonkeyPatch) -> None:
    old = [warning("old news", 1)]
    looks = [external_secret("3-old", FAILED)] * 20  # longer than the grace of a new failure
    ensure(Script(*looks, external_secret("3-new"), events=[old]), monkeypatch)


class Stopped(Script):
    """A run that is stopped while it waits: between two looks."""

    def external_secret(self, namespace: str, name: str) -> Any:
        if self.marks:
            registry.cancel_all()
        return super().external_secret(namespace, name)


def test_the_wait_ends_when_the_run_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.Interrupted):
        ensure(Stopped(external_secret("3-old")), monkeypatch, patience=60.0)


def test_where_fleet_yaml_names_none_nobody_is_asked() -> None:
    plain = fleet.load().target("auth-service", "dev")
    freshness.ensure(Request(plain, SecretStr("postgres://")), lambda *_: None, api=Script(None))
