"""The whole sequence with short-lived logins on a real OpenBao and a real PostgreSQL: whatever ends in mid-run, each version is applied once.

Where a migration must be under way while something happens, it waits for an advisory lock that the test holds.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flows.deploy_service import deploy_service
from flows.plan_environment import plan_environment
from flows.verify_environment import verify_environment
from sandbox.databases import postgres
from sandbox.databases.postgres import PostgresServer
from sandbox.stack.prefect_server import PrefectServer, clean_environment
from tests.flows import prefect_api
from tests.flows.dynamic_stage import DynamicStage, renew_early, staged, until
from tests.flows.stage import ROOT
from tests.flows.test_flow_retry import PROGRAM, created
from tests.flows.test_tasks_steps import kept

LOCK = 4711
SEEN = "CREATE TABLE seen (id bigint GENERATED ALWAYS AS IDENTITY, login text DEFAULT session_user);"
INSERT = "INSERT INTO seen DEFAULT VALUES;"
WAIT = f"SELECT pg_advisory_xact_lock({LOCK});\n{INSERT}"
NAP = f"SELECT pg_sleep(0.5);\n{INSERT}"


@pytest.fixture(scope="module")
def server_stage(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[DynamicStage]:
    with staged(tmp_path_factory.mktemp("dynamic"), postgres_server) as found:
        yield found


@pytest.fixture
def stage(server_stage: DynamicStage, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[DynamicStage]:
    """An empty database, long lives, and a worker in this process."""
    server_stage.clear()
    server_stage.lives()
    server_stage.become(monkeypatch)
    yield server_stage


@contextmanager
def under_way(stage: DynamicStage, happens: Callable[[], Any]) -> Iterator[None]:
    """While a migration waits for the test's lock, something happens; then the lock is given up."""
    problems: list[BaseException] = []
    url = stage.postgres.url(postgres.SUPERUSER, stage.postgres.superuser_password, stage.database)
    with psycopg.connect(url, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [LOCK])

        def act() -> None:
            try:
                until(lambda: waiting(stage), "a migration waits for the lock")
                happens()
            except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
                problems.append(error)
            finally:
                holder.execute("SELECT pg_advisory_unlock(%s)", [LOCK])

        thread = threading.Thread(target=act)
        thread.start()
        try:
            yield
        finally:
            thread.join()
    assert not problems, problems


def waiting(stage: DynamicStage) -> bool:
    return stage.sql(f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {LOCK} AND NOT granted") == ["1"]


def deployed(stage: DynamicStage, **options: Any) -> Any:
    """A run of the flow, and the proof that nothing of its logins is left."""
    before = stage.tokens()
    state = deploy_service(service="auth-service", environment="dev", return_state=True, **options)
    assert until(lambda: not stage.logins(), "no login is left in PostgreSQL")
    assert until(lambda: stage.tokens() == before, "no token is left in Vault")
    return state


def used(stage: DynamicStage) -> list[str]:
    """The logins that migrations were executed by, in order."""
    return list(dict.fromkeys(stage.sql("SELECT login FROM seen ORDER BY id")))


def owners(stage: DynamicStage) -> list[str]:
    return stage.sql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")


def test_good_flow_from_an_empty_database_to_verified_tables_by_one_login_that_is_gone_at_the_end(
    stage: DynamicStage, prefect_server: PrefectServer
) -> None:
    stage.write(first=SEEN, second=INSERT, index_no_transaction="CREATE INDEX CONCURRENTLY seen_login ON seen (login);")
    state = deployed(stage)
    assert state.is_completed(), state.message
    assert stage.versions() == [1, 2, 3]
    assert len(used(stage)) == 1 and used(stage)[0].startswith("v-")
    assert owners(stage) == [stage.owner]
    again = deployed(stage)
    assert again.is_completed() and stage.versions() == [1, 2, 3]


def test_good_flow_planning_and_verifying_an_environment_leave_no_login_behind(stage: DynamicStage) -> None:
    stage.write(first=SEEN)
    before = stage.tokens()
    assert plan_environment(environment="dev", return_state=True).is_completed()
    assert deployed(stage).is_completed()
    assert verify_environment(environment="dev", return_state=True).is_completed()
    assert until(lambda: not stage.logins() and stage.tokens() == before, "no login, no token")


@pytest.mark.slow
def test_good_flow_a_run_that_is_longer_than_any_login_may_live(stage: DynamicStage) -> None:
    """The lease's maximum is met twice; each time the run goes on with a fresh login at a boundary, in the same attempt."""
    stage.lives(ttl="6s", maximum_ttl="6s")
    naps = {f"nap{number}": NAP for number in range(8)}
    stage.write(first=SEEN, **naps, naps_no_transaction="\n".join([NAP] * 8))
    state = deployed(stage, backoff_limit=0)
    assert state.is_completed(), state.message
    assert stage.versions() == list(range(1, 11))
    assert len(used(stage)) >= 2
    assert stage.sql("SELECT count(*) FROM seen") == ["16"], "each statement was executed once"
    assert owners(stage) == [stage.owner]


@pytest.mark.slow
def test_good_flow_a_long_migration_outlives_the_first_life_of_its_login(stage: DynamicStage, monkeypatch: pytest.MonkeyPatch) -> None:
    renew_early(monkeypatch)
    stage.lives(ttl="4s", maximum_ttl="1h")
    stage.become(monkeypatch, token_ttl="4s", token_max_ttl="1h")
    stage.write(first=SEEN, long=WAIT, last=INSERT)
    with under_way(stage, lambda: time.sleep(6)):  # the condition is the time itself
        state = deployed(stage, backoff_limit=0)
    assert state.is_completed(), state.message
    assert stage.versions() == [1, 2, 3]


def lease_revoked(stage: DynamicStage) -> None:
    stage.revoke_leases()


def token_revoked(stage: DynamicStage) -> None:
    """Every token but the root's."""
    for accessor in stage.vault.request("LIST", "auth/token/accessors")["data"]["keys"]:
        if "root" not in stage.vault.request("POST", "auth/token/lookup-accessor", {"accessor": accessor})["data"]["policies"]:
            stage.vault.request("POST", "auth/token/revoke-accessor", {"accessor": accessor})


@pytest.mark.parametrize("happens", [lease_revoked, token_revoked])
def test_good_flow_a_login_that_is_revoked_in_mid_run_costs_an_attempt_and_nothing_else(
    stage: DynamicStage, happens: Callable[[DynamicStage], None], caplog: pytest.LogCaptureFixture
) -> None:
    stage.write(first=SEEN, second=INSERT, waits=WAIT, last=INSERT)
    before = stage.tokens()

    def act() -> None:
        (login,) = stage.logins()
        happens(stage)
        until(lambda: login not in stage.logins(), "the login is gone")

    with caplog.at_level(logging.INFO), under_way(stage, act):
        state = deploy_service(service="auth-service", environment="dev", return_state=True)
    assert state.is_completed(), state.message
    assert stage.versions() == [1, 2, 3, 4]
    first, second = used(stage)
    assert first != second
    assert until(lambda: not stage.logins() and stage.tokens() == before, "no login, no token")
    assert owners(stage) == [stage.owner]


@pytest.mark.slow
def test_good_flow_a_token_that_expires_in_mid_run_costs_at_most_an_attempt(stage: DynamicStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its maximum is met while one transaction runs: the login goes with it, and a fresh one does the rest."""
    stage.become(monkeypatch, token_ttl="4s", token_explicit_max_ttl="4s")
    stage.write(first=SEEN, waits=WAIT, last=INSERT)

    def act() -> None:
        first = stage.logins()
        until(lambda: not set(first) & set(stage.logins()), "the first login is gone")

    with under_way(stage, act):
        state = deployed(stage)
    assert state.is_completed(), state.message
    assert stage.versions() == [1, 2, 3]


def test_good_flow_vault_is_sealed_and_restarted_in_mid_run_and_nothing_is_noticed(stage: DynamicStage) -> None:
    stage.write(first=SEEN, waits=WAIT, last=INSERT)

    def act() -> None:
        stage.vault.seal()
        stage.vault.restart(sealed=True)
        stage.vault.unseal()
        stage.vault.wait_until_healthy()

    with under_way(stage, act):
        state = deployed(stage)
    assert state.is_completed(), state.message
    assert stage.versions() == [1, 2, 3] and len(used(stage)) == 1


@pytest.mark.slow
def test_good_flow_vault_is_sealed_when_a_renewal_is_due_and_unsealed_in_time(stage: DynamicStage, monkeypatch: pytest.MonkeyPatch) -> None:
    renew_early(monkeypatch)
    stage.lives(ttl="8s", maximum_ttl="1h")
    stage.become(monkeypatch, token_ttl="8s", token_max_ttl="1h")
    stage.write(first=SEEN, waits=WAIT, last=INSERT)

    def act() -> None:
        stage.vault.seal()
        time.sleep(3)  # a quarter of the life and a little more: the renewal that is due meets a sealed Vault
        stage.vault.unseal()
        stage.vault.wait_until_healthy()
        time.sleep(6)

    with under_way(stage, act):
        state = deployed(stage, backoff_limit=0)
    assert state.is_completed(), state.message
    assert stage.versions() == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_bad_flow_a_worker_that_is_ended_in_mid_run(stage: DynamicStage, prefect_server: PrefectServer, end: signal.Signals) -> None:
    """Terminated, it gives its login back; killed, it can't, and the login ends with its lease. The next run has its own either way."""
    stage.write(first=SEEN, waits=WAIT, last=INSERT)
    before = stage.tokens()
    run_id = created(deploy_service, service="auth-service", environment="dev")
    variables = clean_environment() | prefect_server.environment() | stage.variables() | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(PROGRAM), run_id, "deploy_service"]
    worker = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def stop() -> None:
        os.kill(worker.pid, end)
        worker.wait()

    with under_way(stage, stop):
        output, _ = worker.communicate()
    assert "ENDED COMPLETED" not in output
    if end is signal.SIGTERM:
        assert until(lambda: not stage.logins() and stage.tokens() == before, "terminated: no login, no token")
    else:
        assert len(stage.logins()) == 1, "killed: nobody could give it back"
    prefect_api.free_limit(prefect_server, "greylag-auth-service-dev")
    assert deploy_service(service="auth-service", environment="dev", return_state=True).is_completed()
    assert stage.versions() == [1, 2, 3]
    stage.revoke_leases()


def test_bad_flow_a_sealed_vault_at_the_start_is_tried_again_and_named(stage: DynamicStage) -> None:
    stage.write(first=SEEN)
    stage.vault.seal()
    try:
        state = deploy_service(service="auth-service", environment="dev", backoff_limit=1, return_state=True)
    finally:
        stage.vault.unseal()
        stage.vault.wait_until_healthy()
    assert state.is_failed() and "vault-sealed" in state.message
    assert deployed(stage).is_completed()


def test_no_word_of_a_short_lived_login_is_stored(
    stage: DynamicStage, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passwords and tokens as Vault gave them out, looked for in everything that Prefect keeps."""
    from tasks import redaction

    told: list[str] = []
    real = redaction.register
    monkeypatch.setattr(redaction, "register", lambda *words: (told.extend(words), real(*words))[1])
    stage.write(first=SEEN, broken="SELECT nothing FROM nowhere;")
    state = deployed(stage)
    assert state.is_failed() and "sql-rejected" in state.message
    words = {word for word in told if len(word) > 8}
    assert len(words) >= 3, "a token, a password, a URL"
    time.sleep(3)  # logs travel in batches
    for name, content in [*kept(prefect_server.home), *kept(Path(prefect_server.directory))]:
        for word in words:
            assert word.encode() not in content, name
