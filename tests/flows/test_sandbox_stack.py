"""The whole stack: every service's login works in every environment, no worker can read another's secrets, nothing is left running."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hvac
import psycopg
import pytest

from migrator import errors
from sandbox.stack import stack
from sandbox.stack import state as stack_state
from tasks import credentials, settings
from tasks.fleet.models import Engine, Target

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    with stack.Stack(tmp_path_factory.mktemp("stack"), workers=False) as started:
        yield started


def targets(running: stack.Stack, engine: Engine) -> list[Target]:
    return [target for target in running.fleet.targets() if target.engine == engine]


def as_worker_of(environment: str, running: stack.Stack, monkeypatch: pytest.MonkeyPatch) -> settings.Settings:
    for name, value in running.environment(environment).items():
        monkeypatch.setenv(name, value)
    return settings.load()


def test_every_environments_worker_finds_working_logins(running: stack.Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for environment in running.fleet.environments:
        options = as_worker_of(environment, running, monkeypatch)
        for target in targets(running, Engine.POSTGRES):
            if target.environment == environment:
                found = credentials.fetch(target, options)
                with psycopg.connect(
                    host=found.host,
                    port=found.port,
                    user=found.username,
                    password=found.password.get_secret_value(),
                    dbname=found.database,
                ) as connection:
                    row = connection.execute("SELECT current_database(), current_user").fetchone()
                assert row == (target.database, f"{target.service}-{environment}")


def test_every_clickhouse_login_may_change_its_own_database_only(running: stack.Stack) -> None:
    import clickhouse_connect

    for target in targets(running, Engine.CLICKHOUSE):
        secret = running.vault.read_secret(target.vault_path)
        assert secret is not None
        client = clickhouse_connect.get_client(
            host=secret["host"],
            port=secret["http_port"],
            username=secret["username"],
            password=secret["password"],
            database=secret["database"],
        )
        assert secret["database"] == target.database
        client.command("CREATE TABLE proof (a Int32) ENGINE = MergeTree ORDER BY a")
        client.command("DROP TABLE proof SYNC")
        other = next(each.database for each in targets(running, Engine.CLICKHOUSE) if each.database != target.database)
        with pytest.raises(clickhouse_connect.driver.exceptions.DatabaseError, match="Not enough privileges"):
            client.command(f"CREATE TABLE {other}.proof (a Int32) ENGINE = MergeTree ORDER BY a")
        client.close()


def test_bad_flow_a_worker_can_not_read_another_environments_secret(running: stack.Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    options = as_worker_of("dev", running, monkeypatch)
    with pytest.raises(errors.LoginFailed):
        credentials.fetch(running.fleet.target("auth-service", "prod"), options)


def test_the_vault_role_may_read_and_nothing_else(running: stack.Stack) -> None:
    variables = running.environment("dev")
    client = hvac.Client(url=variables["GREYLAG_VAULT_ADDRESS"])
    secret_id = Path(variables["GREYLAG_VAULT_SECRET_ID_FILE"]).read_text().strip()
    client.auth.approle.login(variables["GREYLAG_VAULT_ROLE_ID"], secret_id)
    path = running.fleet.target("auth-service", "dev").vault_path
    assert client.secrets.kv.v2.read_secret_version(path=path, raise_on_deleted_version=True)
    attempts: tuple[Callable[[], object], ...] = (
        lambda: client.secrets.kv.v2.create_or_update_secret(path=path, secret={}),
        lambda: client.secrets.kv.v2.list_secrets(path="apps"),
        lambda: client.sys.list_policies(),
    )
    for attempt in attempts:
        with pytest.raises(hvac.exceptions.Forbidden):
            attempt()


def test_no_secret_lies_in_a_file_that_others_may_read(running: stack.Stack) -> None:
    words = json.loads((running.directory / "passwords.json").read_text(encoding="utf-8")).values()
    assert len(words) == len(running.fleet.targets()) + 1
    seen = 0
    for path in running.directory.rglob("*"):
        if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077 and "data" not in path.parts:
            text = path.read_text(encoding="utf-8", errors="replace")
            assert not any(word in text for word in words), path
            seen += 1
    assert seen > 0


def test_bad_flow_a_directory_holds_one_stack(running: stack.Stack) -> None:
    with pytest.raises(errors.Unavailable, match="a sandbox is already running"):
        stack.Stack(running.directory).start()
    assert stack_state.running(running.directory) == running.addresses()


def test_bad_flow_an_unknown_environment_is_named(running: stack.Stack) -> None:
    with pytest.raises(errors.UsageError, match="no environment 'staging'"):
        running.environment("staging")


def test_a_second_start_finds_the_same_data_passwords_and_ports(tmp_path: Path) -> None:
    states: list[tuple[str, stack.State]] = []
    with stack.Stack(tmp_path, workers=False, progress=lambda name, state, _: states.append((name, state))) as first:
        target = first.fleet.target("auth-service", "prod")
        url, addresses = first.url(target), first.addresses()
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS a")
        secret = first.vault.read_secret(target.vault_path)
    assert {("PostgreSQL", stack.State.READY), ("ClickHouse", stack.State.READY), ("Prefect server", stack.State.READY)} <= set(states)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    with stack.Stack(tmp_path, workers=False) as second:
        assert (second.url(target), second.addresses()) == (url, addresses)
        assert second.vault.read_secret(target.vault_path) == secret
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT a FROM kept").fetchone() == (1,)


def processes_of(directory: Path) -> list[str]:
    """Command lines of living processes that mention the directory, or hold it as their PREFECT_HOME."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:
                continue
            if command and str(directory).encode() in command + environment:
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_running(number: signal.Signals, tmp_path: Path) -> None:
    started = subprocess.Popen(
        [sys.executable, "-m", "sandbox.stack.stack", "--directory", str(tmp_path)],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=os.environ | {"VAULT_TOKEN": "of the developer's shell"},
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "{\n", started.communicate()[1]
    environments = [line for line in processes_of(tmp_path) if "worker start" in line]
    assert len(environments) == 4
    started.send_signal(number)
    started.wait(60)
    deadline = time.monotonic() + 45
    while processes_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_of(tmp_path) == []


def test_bad_flow_a_component_that_does_not_start_stops_the_others(tmp_path: Path) -> None:
    (tmp_path / "clickhouse").mkdir()
    (tmp_path / "clickhouse" / "data").write_text("a file where the server wants a directory")
    with pytest.raises(errors.Unavailable, match="ClickHouse ended"):
        stack.Stack(tmp_path, workers=False).start()
    assert processes_of(tmp_path) == []
    with pytest.raises(errors.Unavailable, match="no sandbox is running"):
        stack_state.running(tmp_path)
