"""The schemas of two environments at one bundle: what somebody did to dev by hand is told when release is entered."""

from __future__ import annotations

from typing import Any

from prefect import State

from migrator.cli import main
from sandbox.stack.prefect_server import PrefectServer
from tests.flows import prefect_api
from tests.flows.stage import Stage, become

SERVICE = "auth-service"


def deploy(environment: str) -> State[Any]:
    from flows.deploy_environment import deploy_environment

    state: State[Any] = deploy_environment(environment=environment, services=(SERVICE,), return_state=True)
    return state


def test_bad_flow_dev_was_changed_by_hand_and_the_promotion_to_release_says_so(
    stage: Stage, prefect_server: PrefectServer, monkeypatch: Any
) -> None:
    from flows.verify_environment import verify_environment

    stage.prepare("release")
    assert deploy("dev").is_completed()
    by_hand = "CREATE INDEX by_hand ON users (created_at, id); ALTER TABLE users ALTER created_at DROP DEFAULT"
    stage.sql(SERVICE, "dev", by_hand)
    altered = verify_environment(environment="dev", services=(SERVICE,), return_state=True)
    assert altered.is_failed() and "column public.users.created_at" in (altered.message or "")  # a recorded object: dev's own verification
    url = stage.postgres.superuser_url(stage.database(SERVICE, "dev"))
    files = str(stage.directory / "services" / SERVICE / "migrations")
    assert main(["-dir", files, "postgres", url, "baseline"]) == 0  # "it is right as it is": from here on dev's own verification is content
    stage.sql(SERVICE, "dev", "CREATE TABLE scratch (id int)")
    assert verify_environment(environment="dev", services=(SERVICE,), return_state=True).is_completed()

    become(monkeypatch, stage, "release")
    state = deploy("release")
    assert state.is_completed(), state.message
    told = [
        "column public.users.created_at: not the same in dev and release (made by version 20250101000000)",
        "index public.by_hand: in dev alone (no version made it)",
        "table public.scratch: in dev alone (no version made it)",
    ]
    assert f"{SERVICE}: differs from dev: {'; '.join(told)}" in (state.message or "")
    (row,) = prefect_api.artifact(prefect_server, f"result-{SERVICE}-release")
    assert row["outcome"] == "migrated" and row["schema"] == f"differs from dev: {'; '.join(told)}"
    assert [item["object"] for item in prefect_api.artifact(prefect_server, f"schema-difference-{SERVICE}-release")] == told
    event = prefect_api.events(prefect_server, "release.schema-differs", "greylag.release.release", 1)[-1]
    assert (event["payload"]["service"], event["payload"]["differences"]) == (SERVICE, told)

    path = stage.directory / "fleet.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("{suffix: _release}", "{suffix: _release, schema_differences: fail}"), encoding="utf-8")
    failed = deploy("release")
    assert failed.is_failed() and told[1] in (failed.message or "")
    assert prefect_api.cause(prefect_server, failed) == ("environments-differ", 16, f"release/{SERVICE}")

    stage.sql(SERVICE, "dev", "DROP INDEX by_hand; DROP TABLE scratch; ALTER TABLE users ALTER created_at SET DEFAULT now()")
    become(monkeypatch, stage, "dev")
    assert main(["-dir", files, "postgres", url, "baseline"]) == 0
    assert verify_environment(environment="dev", services=(SERVICE,), return_state=True).is_completed()
    become(monkeypatch, stage, "release")
    again = deploy("release")
    assert again.is_completed(), again.message
    (row,) = prefect_api.artifact(prefect_server, f"result-{SERVICE}-release")
    assert row["schema"].startswith("as in dev, ")
