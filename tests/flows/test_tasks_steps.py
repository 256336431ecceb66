"""The steps as Prefect tasks: a Job's attempts, refusals that are not retried, and nothing secret in what Prefect keeps."""

from __future__ import annotations

import base64
import importlib
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from migrator import errors
from migrator.address import addresses
from sandbox.vault.secrets_server import SecretsServer
from tasks import backoff, fleet
from tasks.fleet.models import Target
from tests.flows.fake_proxy import SEALED, FakeProxy, Fault

pytestmark = pytest.mark.usefixtures("prefect_server")

FAST = 0.01
"""Seconds: the first delay in these tests."""


@pytest.fixture
def target(secrets_server: SecretsServer, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """A service with two migrations on a fresh database, its secret in a fresh secrets server."""
    (tmp_path / "20250101000000_create_users.sql").write_text("-- +goose Up\nCREATE TABLE users (id bigint);\n", encoding="utf-8")
    (tmp_path / "20250102000000_add_email.sql").write_text("-- +goose Up\nALTER TABLE users ADD email text;\n", encoding="utf-8")
    parsed = addresses.parse_postgres(postgres_url)
    words = dict(part.split("=", 1) for part in parsed.conninfo.split() if part.startswith(("host=", "port=")))
    found = fleet.load().target("auth-service", "dev")
    monkeypatch.setenv("GREYLAG_VAULT_ADDRESS", secrets_server.url)
    monkeypatch.setenv("GREYLAG_VAULT_TOKEN", secrets_server.root_token)
    monkeypatch.setenv("GREYLAG_LOCK_WAIT_SECONDS", "2")
    target = found.model_copy(
        update={
            "base": parsed.database,
            "suffix": "",
            "directory": str(tmp_path),
            "parameters": {"sslmode": "disable"},
            "service": f"auth-{parsed.database}",
        }
    )
    secrets_server.write_secret(
        target.vault_path,
        {
            "host": words["host"].strip("'"),
            "port": words["port"].strip("'"),
            "username": parsed.user,
            "password": parsed.password,
            "database": parsed.database,
        },
    )
    yield target


@pytest.fixture
def steps() -> Any:
    from tasks import steps as module  # imports Prefect

    return module


def in_flow(body: Callable[[], Any]) -> Any:
    """Runs a body as a flow and returns its final state."""
    from prefect import flow

    return flow(name="test-steps", persist_result=False)(body)(return_state=True)


def task_runs(state: Any) -> list[Any]:
    """The flow's task runs, from the server."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        deadline = time.monotonic() + 30
        while True:  # the client reports task runs as events, which the server records a moment later
            found = client.read_task_runs(flow_run_filter=wanted)
            if (found and all(item.state and item.state.is_final() for item in found)) or time.monotonic() > deadline:
                return found
            time.sleep(0.2)


def attempts_of(limit: int, error: Exception, base: float = FAST, deadline: float = 900.0) -> int:
    """How often a step runs that always fails."""
    from tasks import nodes

    count = 0

    @nodes.node("always fails")
    def fail(target: Any) -> None:
        nonlocal count
        count += 1
        raise error

    step = fail.with_options(**backoff.policy(limit, base, deadline))
    assert in_flow(lambda: step(SimpleNamespace(label="dev/none"))).is_failed()
    return count


def test_backoff_limit_3_makes_four_attempts_of_a_transient_error() -> None:
    assert attempts_of(3, errors.Unavailable("down")) == 4


def test_a_permanent_error_is_attempted_once(caplog: pytest.LogCaptureFixture) -> None:
    assert attempts_of(3, errors.StatementRejected("no such column", hint="mend it")) == 1
    assert "sql-rejected is permanent" in caplog.text
    assert "hint: mend it" in caplog.text


def test_a_programming_error_is_attempted_once_and_an_unknown_one_four_times() -> None:
    assert attempts_of(3, TypeError("x")) == 1
    assert attempts_of(3, OSError("x")) == 4


def test_active_deadline_seconds_ends_the_attempts(caplog: pytest.LogCaptureFixture) -> None:
    assert attempts_of(3, errors.Unavailable("down"), base=1.0, deadline=0.5) == 1
    assert "DeadlineExceeded" in caplog.text


def test_every_step_has_a_jobs_policy_and_keeps_no_result(steps: Any) -> None:
    from prefect.cache_policies import NO_CACHE

    five = (steps.fetch_credentials, steps.encode_url, steps.run_migration, steps.verify_tables, steps.await_health)
    for step in five:
        assert step.retries == 3
        assert step.retry_delay_seconds == [10.0, 20.0, 40.0]
        assert step.cache_policy == NO_CACHE and step.persist_result is False
        assert not step.log_prints


TOY = '''
from migrator import errors
from tasks import nodes


@nodes.node("count letters")
def count_letters(target):
    """Counts the letters of a service's name; the password of one that has none is told."""
    if target.label == "dev/none":
        raise errors.UsageError("nothing in postgres://ada:s3cretWord@db/app", hint="write a name")
    return len(target.label)
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Another file beside the steps, and nothing else."""
    import tasks

    directory = tmp_path / "more"
    directory.mkdir()
    (directory / "toy.py").write_text(TOY, encoding="utf-8")
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(directory)])
    yield importlib.import_module("tasks.toy")
    sys.modules.pop("tasks.toy", None)


def test_a_new_step_is_one_file_and_its_place_in_a_flow(toy: Any, steps: Any, caplog: pytest.LogCaptureFixture) -> None:
    state = in_flow(lambda: toy.count_letters(SimpleNamespace(label="dev/shop")))
    assert (state.result(), [item.name for item in task_runs(state)]) == (8, ["count letters dev/shop"])
    for option in ("retries", "retry_delay_seconds", "cache_policy", "persist_result", "log_prints"):
        assert getattr(toy.count_letters, option) == getattr(steps.encode_url, option), option
    failed = in_flow(lambda: toy.count_letters(SimpleNamespace(label="dev/none")))
    assert [item.run_count for item in task_runs(failed)] == [1], "it can't pass, so it was tried once"
    assert "hint: write a name" in caplog.text
    assert "s3cretWord" not in f"{failed.message}{caplog.text}" and "***" in failed.message


def test_the_sequence_as_five_tasks(steps: Any, target: Target) -> None:
    def sequence() -> Any:
        found = steps.fetch_credentials(target)
        url = steps.encode_url(found, target)
        before = steps.observe(target)
        migrated = steps.run_migration(target, url, found)
        verified = steps.verify_tables(target, url, migrated.bundle)
        health = steps.await_health(target, "", before)
        return migrated, verified, health

    state = in_flow(sequence)
    assert state.is_completed(), state.message
    migrated, verified, health = state.result()
    assert (migrated.versions, verified.current, health.state) == ((20250101000000, 20250102000000), 20250102000000, "skipped")
    names = {item.name for item in task_runs(state)}
    assert names == {
        f"{name} {target.label}" for name in ("fetch credentials", "encode URL", "run migration", "verify tables", "await health")
    }


def test_a_failure_that_passes_is_outlived(
    steps: Any, target: Target, secrets_server: SecretsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = steps.fetch_credentials.with_options(**backoff.policy(3, FAST))
    with FakeProxy(secrets_server.url) as proxy:
        proxy.faults += [SEALED, Fault(0)]
        monkeypatch.setenv("GREYLAG_VAULT_ADDRESS", proxy.url)
        state = in_flow(lambda: fetch(target).version)
    assert state.is_completed()
    assert [item.run_count for item in task_runs(state)] == [3]


def test_a_limit_is_created_once_and_one_that_somebody_set_is_kept(target: Target) -> None:
    from prefect.client.orchestration import get_client

    from tasks import limits

    assert limits.create([target]) == [target.limit]
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(target.limit, 7)
        assert limits.create([target]) == []
        assert client.read_global_concurrency_limit_by_name(target.limit).limit == 7


def test_bad_flow_a_living_run_holds_the_limit(target: Target) -> None:
    from tasks import limits
    from tasks.settings import Settings

    holding, asked = threading.Event(), threading.Event()

    def hold() -> None:
        with limits.held(target, Settings()):
            holding.set()
            asked.wait(60)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(copy_context().run, lambda: in_flow(hold))
        assert holding.wait(60)
        try:
            with pytest.raises(errors.LockUnavailable) as caught, limits.held(target, Settings(lock_wait_seconds=8)):
                pass
        finally:
            asked.set()
        first.result()
    assert (caught.value.code, caught.value.transient) == ("limit-held", True)
    assert "holds greylag-auth-" in caught.value.message


def test_good_flow_a_slot_of_a_run_that_has_ended_stops_nobody(target: Target, prefect_server: Any) -> None:
    """What a restarted server leaves behind: the slot stays taken, its lease is gone, and the run that took it is dead."""
    from prefect.events import emit_event

    from tasks import limits
    from tasks.settings import Settings

    def take() -> None:
        """Prefect's own event, and a slot without a lease: in a process that ends in order, Prefect gives leases back."""
        limit = prefect_server.request("GET", f"/v2/concurrency_limits/{target.limit}")["id"]
        emit_event("prefect.concurrency-limit.acquired", resource={"prefect.resource.id": f"prefect.concurrency-limit.{limit}"})
        prefect_server.request("POST", "/v2/concurrency_limits/increment", {"names": [target.limit], "slots": 1})

    limits.create([target])
    ended = in_flow(take)
    told: list[str] = []
    with limits.held(target, Settings(lock_wait_seconds=60), tell=lambda _level, text: told.append(text)):
        assert len(told) == 1
    assert f"({ended.state_details.flow_run_id}), which has ended; the database's own lock decides" in told[0]


def test_the_sandboxs_server_keeps_leases_over_a_restart(target: Target, prefect_server: Any) -> None:
    from tasks import limits
    from tasks.settings import Settings

    with limits.held(target, Settings()):
        assert list((prefect_server.home / "concurrency_leases").glob("*-*.json"))


def test_bad_flow_a_person_has_halted_the_database(target: Target, prefect_server: Any) -> None:
    from tasks import limits
    from tasks.settings import Settings

    limits.create([target])
    prefect_server.request("PATCH", f"/v2/concurrency_limits/{target.limit}", {"limit": 0})
    with pytest.raises(errors.PlanRefused) as caught, limits.held(target, Settings()):
        pass
    assert (caught.value.code, caught.value.transient) == ("database-halted", False)


def test_bad_flow_a_limit_that_does_not_exist_is_not_ignored(target: Target) -> None:
    from tasks import limits
    from tasks.settings import Settings

    absent = target.model_copy(update={"service": "never-created"})
    with pytest.raises(errors.UsageError) as caught, limits.held(absent, Settings(create_limits=False)):
        pass
    assert caught.value.code == "limit-missing"


def test_nothing_that_prefect_keeps_holds_the_password(
    steps: Any, target: Target, prefect_server: Any, postgres_url: str, tmp_path: Path
) -> None:
    password = addresses.parse_postgres(postgres_url).password
    assert password
    (tmp_path / "20250103000000_broken.sql").write_text("-- +goose Up\nSELECT * FROM nowhere;\n", encoding="utf-8")

    def sequence() -> None:
        found = steps.fetch_credentials(target)
        url = steps.encode_url(found, target)
        leak = steps.verify_tables.with_options(**backoff.policy(0))
        with pytest.raises(errors.GreylagError):  # a wrong port: the driver's own message
            leak(target, SecretStr(url.get_secret_value().replace("127.0.0.1", "127.0.0.1.invalid")))
        steps.run_migration(target, url, found)

    state = in_flow(sequence)
    assert state.is_failed()
    assert "sql-rejected" in state.message and "20250103000000_broken.sql" in state.message
    assert task_runs(state)
    time.sleep(3)  # logs travel in batches
    spellings = {password, quote(password, safe=""), repr(password)[1:-1], base64.b64encode(password.encode()).decode().rstrip("=")}
    searched = [*kept(prefect_server.home), *kept(Path(prefect_server.directory))]
    assert any(b"fetch credentials" in content for _, content in searched)
    for name, content in searched:
        for spelling in spellings:
            assert spelling.encode() not in content, name


def kept(directory: Path) -> list[tuple[str, bytes]]:
    """Every file below a directory; of SQLite databases, everything that is in any table."""
    found = []
    for path in directory.rglob("*"):
        if not path.is_file() or path.name.endswith(("-wal", "-shm")):
            continue
        if path.read_bytes()[:15] == b"SQLite format 3":
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
                found.append((str(path), "\n".join(connection.iterdump()).encode("utf-8", "surrogatepass")))
        else:
            found.append((str(path), path.read_bytes()))
    return found
