"""deploy_service on real servers: five tasks, retried as a Job's pods are; references in, nothing secret out."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from prefect import State

from migrator import errors
from sandbox import ports
from sandbox.stack.prefect_server import PrefectServer
from tasks import limits, migration, settings
from tests.flows import prefect_api
from tests.flows.stage import Stage

TASKS = ["fetch credentials", "encode URL", "run migration", "verify tables", "await Deployment health"]
BOTH = [20250101000000, 20250102000000]
GOOSE_LOCK = 4097083626


def deploy(service: str = "auth-service", environment: str = "dev", **given: Any) -> State[Any]:
    from flows.deploy_service import deploy_service

    state: State[Any] = deploy_service(service=service, environment=environment, **given, return_state=True)
    return state


def beside(pool: ThreadPoolExecutor, work: Callable[[], Any]) -> Future[Any]:
    """Work in another thread, with this one's Prefect settings."""
    return pool.submit(contextvars.copy_context().run, work)


def migration_attempts(server: PrefectServer, state: State[Any], count: int) -> int:
    """How often step 3 was tried, as Prefect counted it."""
    found = prefect_api.task_runs(server, str(state.state_details.flow_run_id), count)
    return next(int(run["run_count"]) for run in found if run["name"].startswith("run migration"))


@pytest.fixture
def on_failure(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[errors.GreylagError], Callable[[], object]], list[str]]:
    """Lets something happen right after an attempt of step 3 has failed with a real error; gives the list of attempts."""

    def watch(kind: type[errors.GreylagError], act: Callable[[], object]) -> list[str]:
        attempts: list[str] = []
        real = migration.run

        def run(*positional: Any, **named: Any) -> Any:
            try:
                outcome = real(*positional, **named)
            except errors.GreylagError as error:
                attempts.append(error.code)
                if isinstance(error, kind):
                    act()
                raise
            attempts.append("success")
            return outcome

        monkeypatch.setattr(migration, "run", run)
        return attempts

    return watch


def test_good_flow_a_service_is_brought_up_to_date_by_five_named_tasks(stage: Stage, prefect_server: PrefectServer) -> None:
    state = deploy()
    assert state.is_completed(), state.message
    runs = prefect_api.task_runs(prefect_server, str(state.state_details.flow_run_id), 5)
    assert [run["name"] for run in runs] == [f"{name} dev/auth-service" for name in TASKS]
    assert stage.versions("auth-service", "dev") == BOTH
    row = prefect_api.artifact(prefect_server, "result-auth-service-dev")[0]
    assert (row["outcome"], row["migrations"]) == ("migrated", 2)
    assert row["rollout"].startswith("skipped: no cluster configured")
    assert "CREATE INDEX CONCURRENTLY users_created_at" in prefect_api.artifact(prefect_server, "plan-auth-service-dev")
    run = prefect_api.flow_run(prefect_server, state)
    assert run["name"].startswith("deploy-service auth-service dev")
    assert {"service:auth-service", "environment:dev"} <= set(run["tags"])


def test_good_flow_a_second_run_says_that_nothing_was_to_be_done(stage: Stage, prefect_server: PrefectServer) -> None:
    assert deploy().is_completed()
    assert deploy().is_completed()
    assert prefect_api.artifact(prefect_server, "result-auth-service-dev")[0]["outcome"] == "nothing to do"
    assert "nothing to do" in prefect_api.artifact(prefect_server, "plan-auth-service-dev")
    assert stage.versions("auth-service", "dev") == BOTH


def test_good_flow_a_service_on_clickhouse(stage_with_clickhouse: Stage, prefect_server: PrefectServer) -> None:
    state = deploy("audit-service")
    assert state.is_completed(), state.message
    assert stage_with_clickhouse.versions("audit-service", "dev") == [20250101000000]


def test_good_flow_two_runs_on_one_database_at_once_both_succeed(stage: Stage, prefect_server: PrefectServer) -> None:
    with ThreadPoolExecutor(2) as pool:
        states = [future.result() for future in [beside(pool, deploy), beside(pool, deploy)]]
    assert [state.is_completed() for state in states] == [True, True], [state.message for state in states]
    outcomes = sorted(state.result()["migrations"] for state in states)
    assert outcomes == [0, 2]
    assert stage.versions("auth-service", "dev") == BOTH


def test_good_flow_a_lock_that_another_run_holds_is_waited_for_in_further_attempts(
    stage: Stage, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch, on_failure: Any
) -> None:
    monkeypatch.setenv("GREYLAG_LOCK_WAIT_SECONDS", "2")
    with psycopg.connect(stage.postgres.superuser_url(stage.database("auth-service", "dev")), autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [GOOSE_LOCK])
        attempts = on_failure(errors.LockUnavailable, lambda: other.execute("SELECT pg_advisory_unlock(%s)", [GOOSE_LOCK]))
        state = deploy()
    assert state.is_completed(), state.message
    assert attempts == ["lock-held", "success"]
    assert migration_attempts(prefect_server, state, 5) == 2
    assert stage.versions("auth-service", "dev") == BOTH


def test_good_flow_a_restarting_server_is_tried_again(stage: Stage, prefect_server: PrefectServer, on_failure: Any) -> None:
    attempts = on_failure(errors.Unavailable, lambda: stage.postgres.running or stage.postgres.start())
    stage.postgres.stop()
    state = deploy()
    assert state.is_completed(), state.message
    assert len(attempts) >= 2 and attempts[-1] == "success"
    assert stage.versions("auth-service", "dev") == BOTH


def test_bad_flow_attempts_end_with_the_backoff_limit(
    stage: Stage, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch, on_failure: Any
) -> None:
    monkeypatch.setenv("GREYLAG_LOCK_WAIT_SECONDS", "2")
    attempts = on_failure(errors.LockUnavailable, lambda: None)
    with psycopg.connect(stage.postgres.superuser_url(stage.database("auth-service", "dev")), autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [GOOSE_LOCK])
        state = deploy(backoff_limit=1)
    assert state.is_failed()
    assert attempts == ["lock-held"] * 2
    assert migration_attempts(prefect_server, state, 3) == 2
    assert stage.versions("auth-service", "dev") == []


def test_bad_flow_a_rejected_statement_makes_exactly_one_attempt_and_names_file_line_and_hint(
    stage: Stage, prefect_server: PrefectServer, on_failure: Any
) -> None:
    stage.write(
        "auth-service/migrations/20250103000000_broken.sql",
        """\
        -- +goose Up
        CREATE TABLE fine (id text);
        ALTER TABLE absent ADD COLUMN name text;
        -- +goose Down
        DROP TABLE fine;
        """,
    )
    attempts = on_failure(errors.StatementRejected, lambda: None)
    state = deploy()
    assert state.is_failed()
    assert len(attempts) == 1 and attempts[0] != "success"
    assert migration_attempts(prefect_server, state, 3) == 1
    message = prefect_api.flow_run(prefect_server, state)["state"]["message"]
    assert "20250103000000_broken.sql:3" in message
    assert 'relation "absent" does not exist' in message
    assert "ALTER TABLE absent" in message
    assert "hint: " in message
    assert stage.versions("auth-service", "dev") == BOTH
    assert stage.sql("auth-service", "dev", "SELECT to_regclass('fine') IS NULL") == ["t"]


def test_bad_flow_a_huge_statement_leaves_a_message_that_can_be_read(stage: Stage, prefect_server: PrefectServer) -> None:
    rows = ",\n".join(f"('{number}', now())" for number in range(40_000))
    path = stage.write("auth-service/migrations/20250103000000_seed.sql", "")
    path.write_text(f"-- +goose Up\nINSERT INTO absent VALUES\n{rows};\n-- +goose Down\nSELECT 1;\n", encoding="utf-8")
    state = deploy()
    assert state.is_failed()
    message = prefect_api.flow_run(prefect_server, state)["state"]["message"]
    assert len(message) < 20_000
    for part in (
        f"{path.relative_to(stage.directory)}:2",
        "INSERT INTO absent",
        "characters left out",
        'relation "absent" does not exist',
        "hint: ",
    ):
        assert part in message
    assert len(prefect_api.artifact(prefect_server, "plan-auth-service-dev")) < 300_000


def _bad_directory(stage: Stage) -> None:
    (stage.directory / "services/auth-service").rename(stage.directory / "services/elsewhere")


def _bad_name(stage: Stage) -> None:
    stage.write("auth-service/migrations/create_users.sql", "-- +goose Up\nSELECT 1;\n")


def _duplicate_version(stage: Stage) -> None:
    stage.write("auth-service/migrations/20250102000000_again.sql", "-- +goose Up\nSELECT 1;\n")


def _unknown_annotation(stage: Stage) -> None:
    stage.write("auth-service/migrations/20250103000000_odd.sql", "-- +goose Upwards\nSELECT 1;\n")


def _unreachable_host(stage: Stage) -> None:
    stage.secret("auth-service", "dev", port=ports.free_port())


def _wrong_password(stage: Stage) -> None:
    stage.secret("auth-service", "dev", password="marker-wrong")


def _unknown_database(stage: Stage) -> None:
    stage.postgres.drop_database(stage.database("auth-service", "dev"))


def _another_environments_database(stage: Stage) -> None:
    stage.secret("auth-service", "dev", database=stage.database("auth-service", "release"))


def _missing_path(stage: Stage) -> None:
    stage.vault.request("DELETE", f"secret/metadata/{stage.secret_path('auth-service', 'dev')}")


def _missing_key(stage: Stage) -> None:
    stage.secret("auth-service", "dev", host=None)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (_bad_directory, "missing-directory"),
        (_bad_name, "bad-file-name"),
        (_duplicate_version, "duplicate-version"),
        (_unknown_annotation, "bad-annotation"),
        (_unreachable_host, "unavailable"),
        (_wrong_password, "login-failed"),
        (_unknown_database, "unknown-database"),
        (_another_environments_database, "wrong-database"),
        (_missing_path, "secret-missing"),
        (_missing_key, "key-missing"),
    ],
)
def test_bad_flow_bad_input_is_one_clear_error_with_code_and_hint(
    stage: Stage, prefect_server: PrefectServer, damage: Callable[[Stage], None], code: str
) -> None:
    damage(stage)
    state = deploy(backoff_limit=0)
    if damage is _bad_directory:
        (stage.directory / "services/elsewhere").rename(stage.directory / "services/auth-service")
    assert state.is_failed()
    message = prefect_api.flow_run(prefect_server, state)["state"]["message"]
    assert f"[{code}]" in message
    assert "hint: " in message
    assert "marker-" not in message
    assert prefect_api.cause(prefect_server, state) == (code, errors.CODES[code].exit_code, "dev/auth-service")
    if damage is not _unknown_database:
        assert stage.versions("auth-service", "dev") == []


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"service": "auth"}, "unknown-service"),
        ({"environment": "stage"}, "unknown-environment"),
        ({"bundle": "latest"}, "should match pattern"),
        ({"backoff_limit": -1}, "greater than or equal to 0"),
        ({"mode": "by hand"}, "mode"),
    ],
)
def test_bad_flow_a_parameter_that_makes_no_sense_is_refused_before_anything_runs(
    stage: Stage, prefect_server: PrefectServer, given: dict[str, Any], code: str
) -> None:
    state = deploy(**given)
    assert state.is_failed()
    assert code in (state.message or "")
    assert stage.versions("auth-service", "dev") == []


def test_bad_flow_a_worker_can_not_read_another_environments_secret(stage: Stage, prefect_server: PrefectServer) -> None:
    stage.prepare("release")
    state = deploy(environment="release")
    assert state.is_failed()
    assert "permission denied" in (state.message or "")
    assert stage.versions("auth-service", "release") == []


def test_bad_flow_the_files_must_be_the_given_bundle(stage: Stage, prefect_server: PrefectServer) -> None:
    state = deploy(bundle="0" * 64)
    assert state.is_failed()
    assert "[bundle-changed]" in (state.message or "")
    assert stage.versions("auth-service", "dev") == []


def test_bad_flow_a_sync_without_argo_cd_in_the_fleet_is_refused(
    stage: Stage, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREYLAG_MODE", "argocd")
    state = deploy()
    assert state.is_failed()
    assert "[no-argocd]" in (state.message or "")
    assert stage.versions("auth-service", "dev") == []


def test_good_flow_the_limit_of_the_database_exists_after_the_first_run(stage: Stage, prefect_server: PrefectServer) -> None:
    assert deploy().is_completed()
    limit = prefect_server.request("GET", "/v2/concurrency_limits/greylag-auth-service-dev")
    assert (limit["limit"], limit["active_slots"]) == (1, 0)


def test_good_flow_a_migration_waits_for_the_limit_of_its_database(stage: Stage, prefect_server: PrefectServer) -> None:
    from tasks import fleet

    target = fleet.load().target("auth-service", "dev")
    ended = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with limits.held(target, settings.load()):
            future = beside(pool, lambda: (deploy(), ended.set()))
            assert not ended.wait(4)
            assert stage.versions("auth-service", "dev") == []
        state, _ = future.result()
    assert state.is_completed(), state.message
    assert stage.versions("auth-service", "dev") == BOTH
