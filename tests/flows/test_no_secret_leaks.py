"""Nothing that is stored or shown holds a secret: markers are planted, runs of every kind are made, then everything that Prefect keeps is read.

The markers: every database's password, every Vault token, values that ENVSUB fills in, the password as such a value.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from prefect import State
from prefect.client.orchestration import get_client

from sandbox import ports
from sandbox.databases.clickhouse import ClickHouseServer
from sandbox.stack.prefect_server import PrefectServer, clean_environment
from tasks import migration
from tasks.request import Request
from tests import leaks
from tests.flows import prefect_api
from tests.flows.stage import CLICKHOUSE_PASSWORD, ROOT, Stage, become

TENANT = "tenant-5f1e9a7c33d04b2e"
PROGRAM = Path(__file__).with_name("run_again.py")

GOOD = """\
    -- +goose Up
    -- +goose ENVSUB ON
    CREATE TABLE tenants (name text NOT NULL DEFAULT '${TENANT}', login text DEFAULT '${POSTGRES_PASSWORD}');
    -- +goose ENVSUB OFF
    -- +goose Down
    DROP TABLE tenants;
    """

REJECTED = """\
    -- +goose Up
    -- +goose ENVSUB ON
    SELECT '%s'::integer;
    -- +goose Down
    SELECT 1;
    """

IN_A_BLOCK = """\
    -- +goose Up
    -- +goose ENVSUB ON
    DO 'BEGIN RAISE EXCEPTION ''found %'', ''${TENANT} and ${POSTGRES_PASSWORD}'' USING DETAIL = ''${TENANT}'', HINT = ''${POSTGRES_PASSWORD}''; END';
    -- +goose Down
    SELECT 1;
    """  # not in dollar quotes: goose's ENVSUB makes one dollar of two

UNFINISHED = """\
    -- +goose Up
    -- +goose ENVSUB ON
    -- +goose StatementBegin
    SELECT '${TENANT}';
    """

ON_CLICKHOUSE = """\
    -- +goose Up
    -- +goose ENVSUB ON
    SELECT toUInt8('${TENANT}');
    -- +goose Down
    SELECT 1;
    """


@pytest.fixture
def stage(
    session_stage: Stage, prefect_server: PrefectServer, clickhouse_server: ClickHouseServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stage]:
    session_stage.clickhouse = clickhouse_server
    session_stage.fresh("dev", "prod", tenant=TENANT)
    become(monkeypatch, session_stage, "dev")
    yield session_stage
    session_stage.drop()
    session_stage.clickhouse = None


def deploy(service: str = "auth-service", environment: str = "dev", **given: Any) -> State[Any]:
    from flows.deploy_service import deploy_service

    state: State[Any] = deploy_service(service=service, environment=environment, backoff_limit=1, **given, return_state=True)
    return state


def markers(stage: Stage) -> dict[str, str]:
    """What must be found nowhere, by name. Of a password its plain part is enough: percent-encoding leaves it as it is."""
    found = {f"password of {place}": password.partition("%")[0] for place, password in stage.passwords.items() if "marker-" in password}
    found |= {"password on ClickHouse": CLICKHOUSE_PASSWORD, "password on ClickHouse, encoded": quote(CLICKHOUSE_PASSWORD, safe="")}
    for environment in ("dev", "release", "prod"):
        found[f"token of {environment}"] = (stage.directory / f"token-{environment}").read_text(encoding="utf-8").strip()
    return found | {"ENVSUB value": TENANT, "wrong password": "marker-wrong"}


def add_setting(stage: Stage, line: str, before: str) -> None:
    """Adds a line to fleet.yaml, before the one that begins as given."""
    path = stage.directory / "fleet.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace(before, f"    {line}\n{before}"), encoding="utf-8")


def good(stage: Stage) -> State[Any]:
    """A password without a quotation mark, because goose's ENVSUB escapes nothing; the others keep theirs."""
    add_setting(stage, "substitute_password: true", f'    env: {{TENANT: "{TENANT}"}}\n')
    password = "marker-plain-71d0c2f4%/:@#?&+"
    name = stage.database("auth-service", "dev")
    stage.postgres.create_role(name, password)
    stage.secret("auth-service", "dev", password=password)
    stage.passwords["auth-service", "dev, plain"] = password
    stage.write("auth-service/migrations/20250103000000_tenants.sql", GOOD)
    return deploy()


def rejected(text: str) -> Callable[[Stage], State[Any]]:
    def run(stage: Stage) -> State[Any]:
        path = stage.write("auth-service/migrations/20250104000000_rejected.sql", text)
        state = deploy()
        path.unlink()
        return state

    return run


def rejected_by_clickhouse(stage: Stage) -> State[Any]:
    text = (stage.directory / "fleet.yaml").read_text(encoding="utf-8")
    text = text.replace(
        "    parameters: {http_port:", f'    env: {{TENANT: "{TENANT}"}}\n    substitute_password: true\n    parameters: {{http_port:'
    )
    (stage.directory / "fleet.yaml").write_text(text, encoding="utf-8")
    stage.write("audit-service/migrations/20250104000000_rejected.sql", ON_CLICKHOUSE)
    return deploy("audit-service")


def changed_secret(**changes: Any) -> Callable[[Stage], State[Any]]:
    def run(stage: Stage) -> State[Any]:
        kept = stage.secret("personal-service", "dev")
        stage.secret("personal-service", "dev", **changes)
        state = deploy("personal-service")
        stage.secret("personal-service", "dev", **kept)
        return state

    return run


def unreachable(stage: Stage) -> State[Any]:
    return changed_secret(port=ports.free_port())(stage)


def denied(stage: Stage) -> State[Any]:
    return deploy("personal-service", "release")


def unapproved(stage: Stage) -> State[Any]:
    stage.admit("dev", to="prod")
    state = deploy("personal-service", "prod")
    stage.admit("dev", to="dev")
    return state


def locked(stage: Stage) -> State[Any]:
    with psycopg.connect(stage.postgres.superuser_url(stage.database("personal-service", "dev")), autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(4097083626)")
        os.environ["GREYLAG_LOCK_WAIT_SECONDS"] = "2"
        state = deploy("personal-service")
        os.environ["GREYLAG_LOCK_WAIT_SECONDS"] = "20"
    return state


def unexpected(stage: Stage) -> State[Any]:
    """An error that no part expects, with the URL in its text and another error behind it, as a driver's could be."""
    real = migration.run

    def run(request: Request, _: Any) -> None:
        url = request.url
        try:
            raise RuntimeError(f"could not connect to {url.get_secret_value()}")
        except RuntimeError as error:
            raise KeyError(f"{url.get_secret_value()} was not in the pool") from error

    migration.run = run  # type: ignore[assignment]
    try:
        return deploy("personal-service")
    finally:
        migration.run = real


def as_a_process_that_tells_everything(stage: Stage) -> State[Any]:
    """The same failing environment in a process of its own with every logger on DEBUG, as a curious operator sets it."""
    from flows.deploy_environment import deploy_environment

    stage.write("auth-service/migrations/20250105000000_rejected.sql", REJECTED % "${TENANT}")
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(deploy_environment, parameters={"environment": "dev"})
    variables = clean_environment() | prefect_environment() | stage.variables("dev") | {"PYTHONPATH": str(ROOT)}
    variables |= {
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "migrator,hvac,urllib3",
    }
    done = subprocess.run(
        [sys.executable, PROGRAM, str(run.id), "deploy_environment"],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    print(done.stdout, done.stderr)
    with get_client(sync_client=True) as client:
        ended = client.read_flow_run(run.id)
    assert ended.state is not None
    return ended.state


def prefect_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("PREFECT_")}


KINDS: dict[str, Callable[[Stage], State[Any]]] = {
    "good": good,
    "rejected, tenant": rejected(REJECTED % "${TENANT}"),
    "rejected, password": rejected(REJECTED % "${POSTGRES_PASSWORD}"),
    "rejected, in a block": rejected(IN_A_BLOCK),
    "unfinished statement": rejected(UNFINISHED),
    "rejected by ClickHouse": rejected_by_clickhouse,
    "wrong password": changed_secret(password="marker-wrong"),
    "unreachable": unreachable,
    "wrong database": changed_secret(database="elsewhere"),
    "missing key": changed_secret(host=None),
    "bad port": changed_secret(port=70000),
    "denied": denied,
    "unapproved": unapproved,
    "locked": locked,
    "unexpected": unexpected,
    "debug": as_a_process_that_tells_everything,
}


def test_good_flow_nothing_that_is_stored_or_shown_holds_a_marker(
    stage: Stage, prefect_server: PrefectServer, capfd: pytest.CaptureFixture[str]
) -> None:
    states: dict[str, State[Any]] = {}
    shown: list[tuple[str, bytes]] = []
    for kind, run in KINDS.items():
        states[kind] = run(stage)
        output = capfd.readouterr()
        shown.append((f"output of {kind}", (output.out + output.err).encode("utf-8", "surrogateescape")))
        shown.append((f"message of {kind}", (states[kind].message or "").encode()))
    assert {kind: state.is_completed() for kind, state in states.items()} == {kind: kind == "good" for kind in KINDS}
    assert stage.sql("auth-service", "dev", "SELECT column_default FROM information_schema.columns WHERE column_name = 'name'")[
        0
    ].startswith(f"'{TENANT}'")

    # the last run's last line is in the database once everything before it is
    last = str(states["debug"].state_details.flow_run_id)
    wanted = {"logs": {"flow_run_id": {"any_": [last]}}, "limit": 200}

    def finished(found: list[dict[str, Any]]) -> bool:
        return any("Finished in state Failed" in item["message"] and item["task_run_id"] is None for item in found)

    assert finished(prefect_api.eventually(lambda: prefect_server.request("POST", "/logs/filter", wanted), finished))
    assert leaks.found(markers(stage), [*shown, *leaks.stored(prefect_server)]) == []


def test_good_the_scan_finds_a_marker_in_every_spelling(stage: Stage, tmp_path: Path) -> None:
    password = stage.passwords["auth-service", "dev"]
    for text in (password, quote(password, safe=""), *(base64.b64encode(b"x" * shift + password.encode()).decode() for shift in range(3))):
        assert leaks.found(markers(stage), [("here", f"before {text} after".encode())]), text
    assert leaks.found(markers(stage), [("here", b"nothing of it")]) == []
