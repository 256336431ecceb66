"""The demo as a newcomer runs it, checked from outside: by its words, by SQL past greylag, by `greylag status`, and by what is left of it."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import hvac
import psycopg
import pytest
import requests

from migrator import errors
from sandbox import builds
from sandbox.stack import stack
from sandbox.stack import state as stack_state
from tasks import fleet
from tests import demonstration
from tests.demonstration import Demonstration, greylag, result_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # the fixtures run the whole demo, twice

ROOT = demonstration.ROOT
TARGETS = {target.label: target for target in fleet.load().targets()}


def newest(target: fleet.Target) -> int:
    return max(int(path.name.partition("_")[0]) for path in Path(target.directory).glob("*.sql"))


def version_by_sql(state: Path, target: fleet.Target) -> int:
    """The newest applied version, read with the service's own login."""
    addresses = stack_state.running(state)
    login = f"{target.service}-{target.environment}"
    password = stack_state.Passwords(state).password(login)
    question = "SELECT max(version_id) FROM goose_db_version WHERE is_applied"
    if target.engine == "postgres":
        with psycopg.connect(
            host="127.0.0.1", port=addresses.postgres_port, user=login, password=password, dbname=target.database
        ) as connection:
            row = connection.execute(question.replace("is_applied", "is_applied AND version_id > 0")).fetchone()
        return int(row[0]) if row else 0
    import clickhouse_connect

    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=addresses.clickhouse_http_port, username=login, password=password, database=target.database
    )
    try:
        return int(client.command(question))
    finally:
        client.close()


def test_the_first_run_promotes_six_services_through_three_environments(first_demo: Demonstration) -> None:
    rows = result_rows(first_demo)
    assert set(rows) == set(TARGETS)
    assert len(rows) == 18
    for label, row in rows.items():
        files = sorted(int(path.name.partition("_")[0]) for path in Path(TARGETS[label].directory).glob("*.sql"))
        assert row["outcome"] == "migrated", row
        assert row["versions"] == f"{files[0]} to {files[-1]}"
        assert int(row["migrations"]) == len(files)
        assert int(row["statements"]) >= len(files)
        assert float(row["seconds"]) > 0
        assert int(row["verified"].split(" ")[0]) > 0
        assert row["health gate"].startswith("skipped: no cluster configured")
    assert "read back by SQL: 18 of 18 databases are at their newest version" in first_demo.output
    assert "nothing was to be done" not in first_demo.output
    assert "secrets server: ready after" in first_demo.output, "our own: a newcomer has no OpenBao"
    approval = first_demo.wait_for(r"prod: approval given by starting approve-release/approve over the API \(run ([0-9a-f-]{36})\)")
    assert first_demo.output.index("deploy-environment release") < first_demo.output.index(approval.group(0))
    assert first_demo.output.index(approval.group(0)) < first_demo.output.index("deploy-environment prod")


def test_the_second_run_says_that_nothing_was_to_be_done(kept_demo: Demonstration) -> None:
    rows = result_rows(kept_demo)
    assert set(rows) == set(TARGETS)
    for label, row in rows.items():
        assert (row["outcome"], row["versions"]) == ("nothing to do", str(newest(TARGETS[label])))
        assert int(row["verified"].split(" ")[0]) > 0
    assert "nothing was to be done: every database already held this release" in kept_demo.output
    assert "approval given" not in kept_demo.output
    openbao = builds.binary(builds.OPENBAO) is not None
    assert ("OpenBao: ready after" if openbao else "secrets server: ready after") in kept_demo.output


def test_the_second_run_finds_the_first_ones_runs(kept_demo: Demonstration) -> None:
    filters = {"flows": {"name": {"any_": ["promote-release"]}}}
    url = f"{stack_state.running(kept_demo.state).prefect_api_url}/flow_runs/filter"
    assert len(requests.post(url, json=filters, timeout=30).json()) == 2


def test_every_database_is_at_its_newest_version_by_sql_and_by_greylag_status(kept_demo: Demonstration) -> None:
    told = {}
    for environment in fleet.load().environments:
        done = greylag(kept_demo.state, environment, "status", f"@{environment}/*", "-json")
        assert done.returncode == 0, done.stderr
        for document in json.loads(done.stdout)["targets"]:
            assert document["pending"] == []
            assert {item["state"] for item in document["migrations"]} == {"applied"}
            told[document["target"].removeprefix("@")] = document["current"]
    assert told == {label: newest(target) for label, target in TARGETS.items()}
    assert told == {label: version_by_sql(kept_demo.state, target) for label, target in TARGETS.items()}


def test_every_database_verifies_after_the_promotion(kept_demo: Demonstration) -> None:
    for environment in fleet.load().environments:
        done = greylag(kept_demo.state, environment, "verify", f"@{environment}/*")
        assert done.returncode == 0, done.stderr


def test_bad_flow_a_login_of_dev_reads_nothing_of_prod(kept_demo: Demonstration) -> None:
    done = greylag(kept_demo.state, "dev", "status", "@prod/auth-service")
    assert done.returncode == 12, done.stderr
    assert "greylag: hint: " in done.stderr


def test_bad_flow_a_login_of_dev_writes_and_lists_nothing(kept_demo: Demonstration) -> None:
    variables = stack.client_environment(kept_demo.state, stack_state.running(kept_demo.state), "dev")
    client = hvac.Client(url=variables["GREYLAG_VAULT_ADDRESS"])
    client.auth.approle.login(variables["GREYLAG_VAULT_ROLE_ID"], Path(variables["GREYLAG_VAULT_SECRET_ID_FILE"]).read_text().strip())
    path = TARGETS["dev/auth-service"].vault_path
    assert client.secrets.kv.v2.read_secret_version(path=path, raise_on_deleted_version=True)
    attempts: tuple[Callable[[], object], ...] = (
        lambda: client.secrets.kv.v2.create_or_update_secret(path=path, secret={}),
        lambda: client.secrets.kv.v2.list_secrets(path="apps"),
        lambda: client.sys.list_policies(),
    )
    for attempt in attempts:
        with pytest.raises(hvac.exceptions.Forbidden):
            attempt()


def test_no_password_is_in_what_the_demo_prints_writes_into_its_logs_or_leaves_for_others_to_read(first_demo: Demonstration) -> None:
    passwords = json.loads((first_demo.state / "passwords.json").read_text(encoding="utf-8"))
    files = [path for path in first_demo.state.rglob("*") if path.is_file() and "data" not in path.relative_to(first_demo.state).parts]
    shown = [path for path in files if path.suffix == ".log" or stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert len(passwords) >= 18 and any(path.suffix == ".log" for path in shown)
    texts = {"the output": first_demo.output, **{str(path): path.read_text(encoding="utf-8", errors="replace") for path in shown}}
    assert not [(name, login) for name, text in texts.items() for login, word in passwords.items() if word in text]


def test_nothing_is_left_of_a_demo_that_has_ended(first_demo: Demonstration) -> None:
    assert first_demo.left == {}


@pytest.mark.parametrize(
    "moment",
    ["Prefect server …", ": ready after", r"deploy-environment dev \S+: running"],
    ids=["before-anything-runs", "while-servers-start", "while-promoting"],
)
def test_ctrl_c_leaves_no_process_behind(moment: str, session_directory: Path, request: pytest.FixtureRequest) -> None:
    state = session_directory / f"demo-{request.node.callspec.id}"
    with demonstration.running(state) as demo:
        demo.wait_for(moment)
        assert demo.processes()
        assert demo.interrupt() == errors.ExitCode.INTERRUPTED, demo.output
        assert demo.left == {}
    assert "stopped by Ctrl-C: every server has ended, data are kept" in demo.output
    assert "Traceback" not in demo.output
    with pytest.raises(errors.Unavailable, match="no sandbox is running"):
        stack_state.running(state)
