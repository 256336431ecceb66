"""A protected environment whose worker has a policy: signed by people with real keys, proven by release's own worker under a nonce, used up in the database."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect import State
from ruamel.yaml import YAML

from flows import plan_documents
from sandbox.databases.postgres import PostgresServer
from sandbox.stack.prefect_server import PrefectServer, PrefectWorker, clean_environment, create_work_pool
from tasks.approval import documents, ssh
from tasks.approval.documents import Envelope, Promotion
from tests.flows import prefect_api
from tests.flows.stage import ROOT, Stage, become
from tests.unit.approval_stage import Stage as Keys

BOTH = [20250101000000, 20250102000000]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys.made(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def release_worker(session_stage: Stage, prefect_server: PrefectServer, keys: Keys) -> Iterator[PrefectWorker]:
    """release's own worker, with a key of its own: it is asked for proof."""
    session_stage.fresh("dev")
    for pool in ("greylag-dev", "greylag-release", "greylag-prod", "greylag-promotion"):
        create_work_pool(prefect_server, pool)
    variables = clean_environment() | prefect_server.environment() | {"GREYLAG_FLEET": str(session_stage.directory / "fleet.yaml")}
    done = subprocess.run(
        [sys.executable, "-m", "migrator.cli", "deploy"], cwd=ROOT, env=variables, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    policy = keys.place / "release.yaml"
    with policy.open("w", encoding="utf-8") as file:
        YAML().dump({"environment": "release", "protected": False, "signing": {"id": "release-1", "file": "release"}}, file)
    held = session_stage.variables("release") | {"GREYLAG_POLICY": str(policy)}
    worker = PrefectWorker(prefect_server, "greylag-release", environment=held, serving="release")
    worker.start()
    try:
        session_stage.drop()
        yield worker
    finally:
        worker.stop()


@dataclasses.dataclass
class Prod:
    """prod, whose worker this process is, with a policy; release holds the files."""

    stage: Stage
    keys: Keys
    monkeypatch: pytest.MonkeyPatch

    def rules(self, **changes: Any) -> None:
        self.keys.policy(images=["registry.example/{service}"], **changes)
        become(self.monkeypatch, self.stage, "prod")
        self.monkeypatch.setenv("GREYLAG_POLICY", str(self.keys.place / "policy.yaml"))

    def plan(self, **given: Any) -> State[Any]:
        from flows.plan_environment import plan_environment

        state: State[Any] = plan_environment(environment="prod", return_state=True, **given)
        return state

    def waiting(self, **given: Any) -> plan_documents.Waiting:
        state = self.plan(**given)
        assert state.is_completed(), state.message
        return plan_documents.read("prod")[0]

    def approve(self, found: plan_documents.Waiting, key: str = "ada", namespace: str = ssh.APPROVAL) -> str:
        """Approves as `greylag approve` does; the run's id."""
        from flows.approve_release import approve_release

        signature = ssh.sign(found.approval.signed, self.keys.place / key, namespace)
        line = Envelope(document=found.approval.canonical, worker=found.signature, signature=signature).packed()
        manifest = found.approval.manifest
        given = {"environment": "prod", "bundle": manifest.bundle, "plan": manifest.plan, "confirm": "deploy-prod"}
        state: State[Any] = approve_release(**given, approver=key, reason="CHG-1", signature=line, return_state=True)
        assert state.is_completed(), state.message
        return str(state.state_details.flow_run_id)

    def deploy(self, approval: str, **given: Any) -> State[Any]:
        from flows.deploy_environment import deploy_environment

        state: State[Any] = deploy_environment(environment="prod", approval=approval, return_state=True, **given)
        return state

    def refused(self, code: str, approval: str, **given: Any) -> str:
        state = self.deploy(approval, **given)
        assert state.is_failed()
        assert f"[{code}]" in (state.message or ""), state.message
        assert self.stage.versions("auth-service", "prod") == []
        return state.message or ""


@pytest.fixture
def prod(whole_stage: Stage, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Prod:
    made = Prod(whole_stage, keys, monkeypatch)
    made.rules()
    return made


def hold_in_release(prod: Prod) -> None:
    from flows.deploy_environment import deploy_environment

    with prod.monkeypatch.context() as patch:
        become(patch, prod.stage, "release")
        assert deploy_environment(environment="release", return_state=True).is_completed()


def states(prod: Prod) -> list[str]:
    return prod.stage.sql("auth-service", "prod", "SELECT state FROM greylag_approval WHERE version = 0")


def test_good_flow_signed_proven_applied_once_and_used_up(prod: Prod, release_worker: PrefectWorker) -> None:
    hold_in_release(prod)
    prod.stage.sql("auth-service", "release", "CREATE INDEX by_hand ON users (created_at, id)")
    found = prod.waiting()
    run = prod.approve(found)
    state = prod.deploy(run)
    assert state.is_completed(), state.message
    assert prod.stage.versions("auth-service", "prod") == BOTH
    # told after release's own deployment, so it is what its worker has signed for this nonce
    assert "auth-service: differs from release: index public.by_hand: in release alone" in (state.message or "")
    assert states(prod) == ["used"]
    assert "claim" not in (state.message or "")
    # replayed, after the history rows have gone
    prod.stage.sql("personal-service", "prod", "DELETE FROM goose_db_version WHERE version_id > 0; DROP TABLE profiles")
    again = prod.deploy(run)
    assert again.is_failed()
    assert "[approval-used]" in (again.message or "")
    assert prod.stage.versions("personal-service", "prod") == []


def test_bad_flow_release_that_does_not_hold_it_proves_nothing(prod: Prod, release_worker: PrefectWorker) -> None:
    message = prod.deploy(prod.approve(prod.waiting())).message or ""
    assert "release" in message
    assert prod.stage.versions("auth-service", "prod") == []


def test_bad_flow_release_with_a_key_that_is_revoked_proves_nothing(prod: Prod, release_worker: PrefectWorker, keys: Keys) -> None:
    hold_in_release(prod)
    own = {"id": "prod-1", "public": keys.public("worker")}
    prod.rules(keys={"prod": [own], "release": [{"id": "release-1", "public": keys.public("release"), "revoked": True}]})
    prod.refused("key-revoked", prod.approve(prod.waiting()))


def test_bad_flow_wrong_revoked_and_other_purpose_keys(prod: Prod, keys: Keys) -> None:
    prod.refused("approval-signature", prod.approve(prod.waiting(), "eve"))
    prod.refused("approval-signature", prod.approve(prod.waiting(), "ada", "git"))
    prod.rules(ssh=keys.revoke("grace"))
    prod.refused("approval-revoked", prod.approve(prod.waiting(), "grace"))


def test_bad_flow_a_claim_is_no_signature(prod: Prod) -> None:
    from flows.approve_release import approve_release

    manifest = prod.waiting().approval.manifest
    given = {"environment": "prod", "bundle": manifest.bundle, "plan": manifest.plan, "confirm": "deploy-prod"}
    state = approve_release(**given, approver="Ada", reason="CHG-1", return_state=True)
    prod.refused("approval-unsigned", str(state.state_details.flow_run_id))


def test_bad_flow_what_the_run_gives_besides_is_refused(prod: Prod) -> None:
    run = prod.approve(prod.waiting(mode="inline"))
    prod.refused("approval-other-run", run, image="evil.example/x:1")
    prod.refused("approval-other-run", run, mode="job")
    prod.refused("approval-other-run", run, mode="inline", backoff_limit=9)
    prod.refused("approval-other-run", run, mode="inline", services=("auth-service",))


def test_bad_flow_an_image_from_elsewhere_is_not_even_planned(prod: Prod) -> None:
    for image in ("evil.example/x:1", f"evil.example/x@sha256:{'1' * 64}"):
        state = prod.plan(image=image)
        assert state.is_failed()
        assert "[image-refused]" in (state.message or "")


def test_bad_flow_two_persons_are_needed_and_one_with_two_keys_is_one(prod: Prod, release_worker: PrefectWorker) -> None:
    hold_in_release(prod)
    prod.rules(minimum=2)
    found = prod.waiting()
    prod.approve(found, "ada")
    prod.refused("approval-minimum", prod.approve(found, "ada-laptop"))
    state = prod.deploy(prod.approve(found, "grace"))
    assert state.is_completed(), state.message


def test_bad_flow_the_promoter_does_not_approve(prod: Prod, keys: Keys) -> None:
    prod.rules(not_promoter=True)
    prod.refused("approval-promoter", prod.approve(prod.waiting()))
    bundle = prod.waiting().approval.manifest.bundle
    document = Promotion(id=documents.nonce(), until="prod", made=documents.moment(datetime.now(UTC)), bundle=bundle)
    line = Envelope(document=document.canonical, signature=ssh.sign(document.signed, keys.place / "ada", ssh.PROMOTION)).packed()
    found = prod.waiting(promotion=line)
    assert found.approval.promoter == "ada"
    assert "ada promoted this" in prod.refused("approval-promoter", prod.approve(found, "ada-laptop"))


def test_bad_flow_a_merge_that_weakens_fleet_yaml_opens_nothing(prod: Prod) -> None:
    run = prod.approve(prod.waiting())
    path: Path = prod.stage.directory / "fleet.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("protected: true", "protected: false"), encoding="utf-8")
    prod.refused("approval-other-policy", run)
    state = prod.deploy("")
    assert state.is_failed()
    assert "approval-missing" in (state.message or "")
    assert prod.stage.versions("auth-service", "prod") == []


def test_bad_flow_a_database_that_is_another_one(prod: Prod, release_worker: PrefectWorker, postgres_server: PostgresServer) -> None:
    hold_in_release(prod)
    run = prod.approve(prod.waiting())
    name = prod.stage.database("auth-service", "prod")
    postgres_server.execute(f'ALTER DATABASE "{name}" RENAME TO "{name}_old"')
    postgres_server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{name}_old" OWNER "{_owner(postgres_server, name)}"')
    try:
        state = prod.deploy(run)
        assert state.is_failed()
        assert "[approval-other-database]" in (state.message or ""), state.message
        assert prod.stage.versions("auth-service", "prod") == []
    finally:
        postgres_server.execute(f'DROP DATABASE "{name}_old"')


def _owner(server: PostgresServer, name: str) -> str:
    return str(server.execute(f"SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = '{name}_old'")).strip()


def test_without_a_policy_every_run_says_that_approvals_are_claims(prod: Prod) -> None:
    prod.monkeypatch.delenv("GREYLAG_POLICY")
    state = prod.plan()
    assert "GREYLAG_POLICY names none" in (state.message or "")
    assert not [item for item in plan_documents.read("prod") if item.run_id == str(state.state_details.flow_run_id)]


def test_the_documents_row_is_what_the_page_says(prod: Prod, prefect_server: PrefectServer) -> None:
    found = prod.waiting()
    row = prefect_api.artifact(prefect_server, "plan-document-prod")[0]
    assert json.loads(row["document"])["services"][0]["database"].startswith("postgres:")
    documents.require_shown(found.approval, found.contents)
    assert "CREATE TABLE users" in found.contents.services[0].steps[0].text
