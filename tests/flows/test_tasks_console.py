"""deploy, promote and approve against a real Prefect server; targets against the secrets server and a database."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from deployments.console import deploy, deployment_file, flow_runs
from flows import endings
from migrator import cli, errors
from migrator.address import addresses
from sandbox.stack.prefect_server import clean_environment
from sandbox.vault import secrets_server as sandbox
from tasks import approval, fleet
from tests.flows import prefect_api


@pytest.fixture(scope="module")
def installed(prefect_server: Any) -> Any:
    """A server with pools, limits and deployments."""
    assert cli.main(["deploy"]) == 0
    return prefect_server


def test_deploy_creates_pools_limits_and_deployments_and_may_be_repeated(installed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["deploy"]) == 0
    told = capsys.readouterr().err
    assert "work pool greylag-dev: exists" in told
    assert "concurrency limits: 0 created, 18 exist" in told
    pools = {item["name"] for item in installed.request("POST", "/work_pools/filter", {})}
    assert {"greylag-dev", "greylag-release", "greylag-prod", "greylag-promotion"} <= pools
    found = {item["name"] for item in installed.request("POST", "/deployments/filter", {})}
    assert found >= {item["name"] for item in deployment_file.read(deploy.FILE)["deployments"]}
    names = {item["name"] for item in installed.request("POST", "/v2/concurrency_limits/filter", {})}
    assert names >= {target.limit for target in fleet.load().targets()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"entrypoint": "flows/absent.py:flow"}, "can't be imported: ModuleNotFoundError"),
        ({"entrypoint": "flows/labels.py:run_name"}, "is not a flow"),
        ({"parameters": {"environment": "staging"}}, 'the environment "staging"'),
    ],
)
def test_bad_flow_a_deployment_that_prefect_would_let_pass(change: dict[str, Any], words: str) -> None:
    document = deployment_file.read(deploy.FILE)
    document["deployments"][0] |= change
    with pytest.raises(errors.UsageError) as caught:
        deployment_file.flows(document, fleet.load())
    assert caught.value.code == "bad-deployments"
    assert words in caught.value.message


def test_prefects_own_command_makes_the_same_deployments_of_the_file(prefect_server: Any) -> None:
    # processes of their own: this one may have read another fleet when it imported the flows
    variables = clean_environment() | prefect_server.environment()
    names = {item["name"] for item in deployment_file.read(deploy.FILE)["deployments"]}
    found = []
    for command in (["migrator.cli", "deploy"], ["prefect", "--no-prompt", "deploy", "--all"]):
        subprocess.run([sys.executable, "-m", *command], cwd=deploy.ROOT, env=variables, capture_output=True, check=True)
        found.append(described(prefect_server, names))
    assert found[0] == found[1]
    assert len(found[0]) == len(names)
    assert not [name for name, item in found[1].items() if item["pull_steps"] or item["path"]], "a worker of greylag's starts them"


def described(server: Any, names: set[str]) -> dict[str, Any]:
    """What deployments say, without what every update changes."""
    found = {}
    for item in server.request("POST", "/deployments/filter", {}):
        if item["name"] in names:
            for schedule in item["schedules"]:
                for moving in ("id", "created", "updated"):
                    schedule.pop(moving, None)
            found[item["name"]] = {key: value for key, value in item.items() if key not in ("created", "updated", "updated_by", "status")}
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"triggers": [{"match": {}}]}, "deploy-service-dev: triggers"),
        ({"build": [{"step": {}}]}, "deploy-service-dev: build"),
        ({"tags": ["{{ prefect.variables.stage }}"]}, "a template of a block or variable"),
        ({"schedules": [{"interval": 600}]}, "schedule interval"),
        ({"concurency_limit": 1}, "concurency_limit"),
    ],
)
def test_a_file_with_more_than_greylag_applies_is_left_to_prefects_command(change: dict[str, Any], words: str) -> None:
    document = deployment_file.read(deploy.FILE)
    assert deployment_file.beyond(document) == []
    document["deployments"][0] |= change
    assert any(words in found for found in deployment_file.beyond(document))


def test_an_approval_is_started_with_its_parameters_and_followed_to_its_end(
    installed: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_runs, "POLL_SECONDS", 0.1)
    digest = "a" * 64
    with worker(installed, "COMPLETED", "approved") as seen:
        code = cli.main(
            [
                "approve",
                "production",
                "-bundle",
                digest,
                "--plan",
                digest,
                "--reason",
                "CHG-1",
                "--approver",
                "ada",
                "--confirm",
                "deploy-prod",
            ]
        )
    told = capsys.readouterr().err
    assert code == 0, told
    assert seen[0]["parameters"] == {
        "environment": "prod",
        "bundle": digest,
        "plan": digest,
        "confirm": "deploy-prod",
        "approver": "ada",
        "reason": "CHG-1",
    }
    assert "a line of the run" in told and "approved" in told
    found = approval.read("prod", digest)
    assert [(item.approver, item.reason) for item in found] == [("ada", "CHG-1")]
    assert approval.read("dev") == []


def test_a_promotion_that_fails_ends_with_the_errors_exit_code(
    installed: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_runs, "POLL_SECONDS", 0.1)
    with worker(installed, "FAILED", "dev: a message that names [lock-held]", code="sql-rejected") as seen:
        code = cli.main(["promote", "--until", "release", "--service", "auth-service", "--backoff-limit", "0", "--json"])
    told = capsys.readouterr()
    assert code == 14, told.err
    assert seen[0]["parameters"] == {"until": "release", "services": ["auth-service"], "backoff_limit": 0}
    document = json.loads(told.out)
    assert (document["error"]["code"], document["error"]["exit_code"], document["exit_code"]) == ("sql-rejected", 14, 14)
    assert document["error"]["detail"] == document["run"]["message"] == "dev: a message that names [lock-held]"


@pytest.mark.parametrize(
    ("state", "code", "expected", "name"),
    [
        ("FAILED", "lock-budget", 20, "lock-budget"),
        ("FAILED", "", 1, "run-failed"),
        ("CRASHED", "", 21, "run-crashed"),
        ("CANCELLED", "", 23, "run-cancelled"),
    ],
)
def test_a_run_that_ends_otherwise_ends_with_its_cause_or_its_state(
    installed: Any, state: str, code: str, expected: int, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_runs, "POLL_SECONDS", 0.1)
    with worker(installed, state, "a message that names [sql-rejected]", code=code):
        assert cli.main(["deploy", "@dev/auth-service"]) == expected
    assert f"ended {state.lower()} [{name}]" in capsys.readouterr().err


def test_one_service_is_deployed_through_its_environments_deployment(
    installed: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_runs, "POLL_SECONDS", 0.1)
    with worker(installed, "COMPLETED", "") as seen:
        assert cli.main(["deploy", "@dev/audit-service"]) == 0, capsys.readouterr().err
        assert cli.main(["deploy", "@release"]) == 0, capsys.readouterr().err
    assert [item["work_pool_name"] for item in seen] == ["greylag-dev", "greylag-release"]
    assert seen[0]["parameters"] == {"environment": "dev", "service": "audit-service"}


def test_following_may_end_before_the_run(installed: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_runs, "POLL_SECONDS", 0.1)
    assert cli.main(["promote", "--timeout", "0.5"]) == 24
    assert "[run-unfinished]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["promote", "--until", "staging"], 2, "[unknown-environment]"),
        (["promote", "--service", "x"], 2, "[unknown-service]"),
        (["promote", "--bundle", "short"], 2, "[bad-parameters]"),
        (["approve", "dev"], 2, "[not-protected]"),
        (["approve", "prod"], 2, "[no-plan]"),
        (["approve", "prod", "--bundle", "a" * 64, "--plan", "b" * 64], 2, "an approval needs a reason"),
        (["approve", "prod", "--bundle", "a" * 64, "--plan", "b" * 64, "--reason", "r"], 2, "add --confirm deploy-prod"),
        (["deploy", "@*/auth-service"], 2, "spans dev, prod, release"),
        (["deploy", "@dev", "--bundle", "a" * 64], 2, "[bad-target]"),
    ],
)
def test_bad_flow_what_is_refused_before_anything_starts(
    installed: Any, words: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    prefect_api.forget(installed, "plan-prod")
    assert cli.main(words) == code
    assert told in capsys.readouterr().err


def test_bad_flow_no_server_answers(prefect_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}):
        assert cli.main(["promote"]) == 21
    assert "[prefect-unavailable]" in capsys.readouterr().err


def secret(postgres_url: str) -> dict[str, str | None]:
    """What the database's secret in Vault holds."""
    parsed = addresses.parse_postgres(postgres_url)
    words = dict(part.split("=", 1) for part in parsed.conninfo.split() if part.startswith(("host=", "port=")))
    place = {name: words[name].strip("'") for name in ("host", "port")}
    return {**place, "username": parsed.user, "password": parsed.password, "database": parsed.database}


def test_a_verb_works_on_a_target_of_the_fleet(
    secrets_server: sandbox.SecretsServer,
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    parsed = addresses.parse_postgres(postgres_url)
    assert parsed.password
    (tmp_path / "fleet.yaml").write_text(
        "environments: {prod: {protected: true, parameters: {postgres: {sslmode: disable}}}}\n"
        f"services: {{shop: {{engine: postgres, database: {parsed.database}, migrations: sql, env: {{REGION: eu}}}}}}\n",
        encoding="utf-8",
    )
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "1_a.sql").write_text(
        "-- +goose ENVSUB ON\n-- +goose Up\nCREATE TABLE ${REGION}_${POSTGRES_DATABASE} (id int);\n-- +goose Down\nSELECT 1;\n",
        encoding="utf-8",
    )
    secrets_server.write_secret("prod/shop/postgres", secret(postgres_url))
    monkeypatch.setenv("GREYLAG_FLEET", str(tmp_path / "fleet.yaml"))
    monkeypatch.setenv("VAULT_ADDR", secrets_server.url)
    monkeypatch.setenv("VAULT_TOKEN", secrets_server.root_token)
    assert cli.main(["up", "@prod/shop"]) == 0, capsys.readouterr().err
    assert cli.main(["verify", "@prod"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert cli.main(["verify", "@prod/shop", "-json"]) == 0
    told = capsys.readouterr()
    assert "no cluster is configured" in told.err and "Applied At" in told.err
    document = json.loads(told.out)
    assert document["verified"] is True and document["job"] is None
    assert [item["state"] for item in document["status"]["migrations"]] == ["applied"]
    assert cli.main(["down", "@prod/shop"]) == 11
    told = capsys.readouterr()
    assert "[protected-environment]" in told.err
    assert parsed.password not in told.err + told.out


def test_several_targets_are_one_line_each_and_go_on_past_an_environment_that_vault_refuses(
    secrets_server: sandbox.SecretsServer,
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "fleet.yaml").write_text(
        "environments: {dev: {parameters: {postgres: {sslmode: disable}}}, prod: {suffix: _prod}, lost: {suffix: _lost}}\n"
        f"services: {{shop: {{engine: postgres, database: {secret(postgres_url)['database']}, migrations: sql}}}}\n",
        encoding="utf-8",
    )
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "1_a.sql").write_text("-- +goose Up\nCREATE TABLE a (id int);\n", encoding="utf-8")
    for environment in ("dev", "prod"):
        secrets_server.write_secret(f"{environment}/shop/postgres", secret(postgres_url))
    secrets_server.create_policy("not-prod", {"secret/data/dev/*": ["read"], "secret/data/lost/*": ["read"]})
    monkeypatch.setenv("GREYLAG_FLEET", str(tmp_path / "fleet.yaml"))
    monkeypatch.setenv("VAULT_ADDR", secrets_server.url)
    monkeypatch.setenv("VAULT_TOKEN", secrets_server.create_token("not-prod"))
    assert cli.main(["up", "@dev/shop"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert cli.main(["verify", "@*/*"]) == 12
    told = capsys.readouterr()
    lines = [line.split() for line in told.out.splitlines()]
    assert [line[0] for line in lines] == ["@dev/shop", "@prod/shop", "@lost/shop"]
    assert lines[0][1:4] == ["version", "1", "verified,"]
    assert [line[-1] for line in lines[1:]] == ["[vault-forbidden]", "[secret-missing]"]
    assert "1 of 3 verified" in told.err and "hint [vault-forbidden]" in told.err
    assert cli.main(["status", "@*/*", "-json"]) == 12
    document = json.loads(capsys.readouterr().out)
    assert [item.get("current") for item in document["targets"]] == [1, None, None]
    assert document["exit_code"] == 12
    assert cli.main(["status", "@dev", "-v"]) == 0
    assert "Applied At" in capsys.readouterr().err


class worker:  # noqa: N801 - reads as a statement
    """Stands for a worker: ends every scheduled run with a state, after one line of log and, where there is one, the cause."""

    def __init__(self, server: Any, state: str, message: str, code: str = "") -> None:
        self.server, self.state, self.message, self.code = server, state, message, code
        self.seen: list[dict[str, Any]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> list[dict[str, Any]]:
        for run in self._scheduled():
            self._end(run, "CANCELLED", "of an earlier test")
        self.seen.clear()
        self._thread.start()
        return self.seen

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(30)

    def _scheduled(self) -> list[dict[str, Any]]:
        wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "sort": "EXPECTED_START_TIME_ASC"}
        return list(self.server.request("POST", "/flow_runs/filter", wanted))

    def _work(self) -> None:
        while not self._done.is_set():
            for run in self._scheduled():
                line = {
                    "name": "x",
                    "level": 20,
                    "message": "a line of the run",
                    "timestamp": "2026-01-01T00:00:00Z",
                    "flow_run_id": run["id"],
                }
                self.server.request("POST", "/logs/", [line])
                if self.code:
                    cause = {endings.CODE: self.code, endings.EXIT_CODE: int(errors.CODES[self.code].exit_code), endings.ATTEMPT: 0}
                    self.server.request("PATCH", f"/flow_runs/{run['id']}/labels", cause)
                self._end(run, self.state, self.message)
            time.sleep(0.1)

    def _end(self, run: dict[str, Any], state: str, message: str) -> None:
        self.seen.append(run)
        self.server.request("POST", f"/flow_runs/{run['id']}/set_state", {"state": {"type": state, "message": message}, "force": True})
