"""`greylag approve -key` and `-print` as they are typed, for plans of every mode: real keys, a real policy; the Prefect server's answers are given."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.console import flow_runs
from flows import plan_documents
from flows.plan_documents import Waiting
from migrator import cli
from tasks.approval import documents, policy, verifying, worker_keys
from tasks.approval.documents import Contents, Envelope, Part
from tasks.settings import Settings
from tests.unit.approval_stage import BUNDLE, FLEET, IMAGE, Stage, contents

ACCEPTS = "00001_a.sql:cut-statement:meant"
PARTS: dict[str, dict[str, Any]] = {
    "inline": {},
    "job": {"image": IMAGE},
    "argocd": {"image": IMAGE, "accepted": (ACCEPTS,)},
}
"""What an approval says of its service in each mode."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage.made(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def rules(stage: Stage) -> policy.Policy:
    return stage.policy()


def plan(stage: Stage, rules: policy.Policy, mode: str = "job", key: str = "worker", **changes: Any) -> Waiting:
    """A plan as prod's worker published it an hour ago."""
    made = datetime.now(UTC) - timedelta(hours=1)
    part = Part(service="auth", database="postgres:1/auth_db", bundle=BUNDLE, plan=contents().services[0].plan, **PARTS[mode])
    times = {"made": documents.moment(made), "expires": documents.moment(made + timedelta(hours=8))}
    approval = stage.approval(rules, services=(part,), mode=mode, **{**times, **changes})
    assert rules.signing is not None
    signing = rules.signing.model_copy(update={"file": stage.place / key})
    return Waiting(approval, contents(), worker_keys.sign(approval, signing, Settings()), "run", made)


class GivenServer:
    """Stands for the Prefect server: it tells these plans, and keeps what is started."""

    def __init__(self, *plans: Waiting) -> None:
        self.plans = list(plans)
        self.started: list[dict[str, Any]] = []

    def start(self, client: Any, deployment: str, parameters: dict[str, Any], *, name: str) -> Any:
        self.started.append({"deployment": deployment, "name": name, **parameters})
        return SimpleNamespace(id="00000000-0000-0000-0000-000000000000", name=name)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Callable[..., GivenServer]:
    def serve(*plans: Waiting) -> GivenServer:
        server = GivenServer(*plans)

        @contextlib.contextmanager
        def connected() -> Iterator[Any]:
            yield SimpleNamespace(read_flow_runs=lambda **_: [], read_artifacts=lambda **_: [])

        monkeypatch.setattr(flow_runs, "connected", connected)
        monkeypatch.setattr(flow_runs, "start", server.start)
        monkeypatch.setattr(flow_runs, "tell_started", lambda run: None)
        monkeypatch.setattr(plan_documents, "read", lambda environment: server.plans if environment == "prod" else [])
        return server

    return serve


def words(found: Waiting, stage: Stage, *more: str) -> list[str]:
    manifest = found.approval.manifest
    return ["approve", "prod", "-policy", str(stage.place / "policy.yaml"), "-bundle", manifest.bundle, "-plan", manifest.plan, *more]


@pytest.mark.parametrize("mode", list(PARTS))
def test_what_is_printed_for_the_form_is_accepted_by_the_policy_for_that_mode_and_image_alone(
    stage: Stage, rules: policy.Policy, served: Callable[..., GivenServer], mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = plan(stage, rules, mode)
    server = served(found)
    assert cli.main(words(found, stage, "-key", str(stage.place / "ada"), "-print")) == 0
    (line,) = capsys.readouterr().out.split()
    assert server.started == [], "-print starts nothing"
    envelope = Envelope.unpacked(line)
    accepts = {"auth": PARTS[mode].get("accepted", ())}
    wanted = verifying.Wanted("prod", FLEET, ("auth",), accepted=accepts, mode=mode, images={"auth": PARTS[mode].get("image", "")})
    now = datetime.now(UTC)
    assert verifying.accepted([envelope], rules, wanted, Settings(), now).persons == ("ada",)
    other = {"inline": "job", "job": "argocd", "argocd": "inline"}[mode]
    for change in (
        {"mode": other},
        {"images": {"auth": f"registry.example/auth@sha256:{'2' * 64}"}},
        {"accepted": {"auth": ("00009_x.sql:x:y",)}},
    ):
        with pytest.raises(Exception, match="approved was") as caught:
            verifying.accepted([envelope], rules, replace(wanted, **change), Settings(), now)  # type: ignore[arg-type]
        assert caught.value.code == "approval-other-run"  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", list(PARTS))
def test_before_anything_is_signed_all_that_it_says_is_shown(
    stage: Stage, rules: policy.Policy, served: Callable[..., GivenServer], mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = plan(stage, rules, mode)
    server = served(found)
    assert cli.main(["approve", "prod", "-policy", str(stage.place / "policy.yaml")]) == 2
    told = capsys.readouterr()
    shown = told.out + told.err
    assert f"mode     {mode}; backoff_limit 3, deadline 900 s" in shown
    assert "postgres:1/auth_db" in shown and "SELECT 1;" in shown and found.approval.digest in shown
    assert (f"image {IMAGE}" in shown) is (mode != "inline")
    assert (f"accepts  {ACCEPTS}" in shown) is (mode == "argocd")
    assert f"-bundle {found.approval.manifest.bundle} -plan {found.approval.manifest.plan}" in shown
    assert server.started == []


def test_with_a_key_the_approval_is_started_with_the_signature_and_the_sql_is_shown(
    stage: Stage, rules: policy.Policy, served: Callable[..., GivenServer], capsys: pytest.CaptureFixture[str]
) -> None:
    found = plan(stage, rules)
    server = served(found)
    more = ["-key", str(stage.place / "grace"), "-reason", "CHG-1", "-approver", "grace", "-confirm", "deploy-prod", "-no-wait"]
    assert cli.main(words(found, stage, *more)) == 0
    told = capsys.readouterr()
    assert "SELECT 1;" in told.out + told.err
    (started,) = server.started
    assert (started["deployment"], started["approver"], started["reason"]) == ("approve-release/approve", "grace", "CHG-1")
    envelope = Envelope.unpacked(started["signature"])
    assert envelope.document == found.approval.canonical and envelope.worker == found.signature
    wanted = verifying.Wanted("prod", FLEET)
    assert verifying.accepted([envelope], rules, wanted, Settings(), datetime.now(UTC)).persons == ("grace",)


def test_printed_as_json_it_is_a_field(
    stage: Stage, rules: policy.Policy, served: Callable[..., GivenServer], capsys: pytest.CaptureFixture[str]
) -> None:
    found = plan(stage, rules)
    served(found)
    assert cli.main(words(found, stage, "-key", str(stage.place / "ada"), "-print", "-json")) == 0
    line = json.loads(capsys.readouterr().out)["signature"]
    assert Envelope.unpacked(line).document == found.approval.canonical


def test_the_policy_may_be_named_by_the_environment(
    stage: Stage,
    rules: policy.Policy,
    served: Callable[..., GivenServer],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = plan(stage, rules)
    served(found)
    monkeypatch.setenv("GREYLAG_POLICY", str(stage.place / "policy.yaml"))
    given = [
        word
        for word in words(found, stage, "-key", str(stage.place / "ada"), "-print")
        if word not in ("-policy", str(stage.place / "policy.yaml"))
    ]
    assert cli.main(given) == 0
    assert Envelope.unpacked(capsys.readouterr().out.strip()).worker == found.signature


def changed(found: Waiting) -> Contents:
    step = found.contents.services[0].steps[0].model_copy(update={"text": "-- +goose Up\nSELECT 'harmless';\n"})
    return found.contents.model_copy(update={"services": (found.contents.services[0].model_copy(update={"steps": (step,)}),)})


@pytest.mark.parametrize(
    ("false", "code"),
    [
        (lambda found, stage, rules: replace(found, contents=changed(found)), "bad-document"),
        (lambda found, stage, rules: plan(stage, rules, contents=changed(found).digest), "bad-document"),
        (lambda found, stage, rules: plan(stage, rules, key="eve"), "signature-invalid"),
        (lambda found, stage, rules: replace(found, signature=found.signature.model_copy(update={"key": "dev-1"})), "key-unknown"),
        (lambda found, stage, rules: plan(stage, rules, expires="2026-01-01T00:00:00Z"), "approval-expired"),
    ],
    ids=["other SQL", "other SQL whose digest is signed", "another key", "an unknown key", "ended"],
)
def test_bad_flow_a_document_that_is_not_what_prods_worker_signed_is_neither_shown_nor_signed(
    stage: Stage,
    rules: policy.Policy,
    served: Callable[..., GivenServer],
    capsys: pytest.CaptureFixture[str],
    false: Callable[[Waiting, Stage, policy.Policy], Waiting],
    code: str,
) -> None:
    found = plan(stage, rules)
    forged = false(found, stage, rules)
    if forged.contents != found.contents or forged.approval.contents != found.approval.contents:
        forged = replace(forged, contents=changed(found))
    server = served(forged)
    for given in (
        words(found, stage, "-key", str(stage.place / "ada"), "-print"),
        ["approve", "prod", "-policy", str(stage.place / "policy.yaml")],
    ):
        assert cli.main(given) == 11
        told = capsys.readouterr()
        assert f"[{code}]" in told.err
        assert "harmless" not in told.out + told.err and "eyJ" not in told.out
    assert server.started == []


def test_a_false_page_beside_the_true_one_is_passed_over(
    stage: Stage, rules: policy.Policy, served: Callable[..., GivenServer], capsys: pytest.CaptureFixture[str]
) -> None:
    found = plan(stage, rules)
    served(replace(found, contents=changed(found)), found)
    assert cli.main(["approve", "prod", "-policy", str(stage.place / "policy.yaml")]) == 2
    told = capsys.readouterr()
    assert "SELECT 1;" in told.out + told.err and "harmless" not in told.out + told.err


@pytest.mark.parametrize(
    ("left_out", "code", "told"),
    [(("-key",), 2, "who signs?"), (("-policy",), 2, "No policy says so")],
)
def test_bad_flow_what_is_missing_is_asked_for(
    stage: Stage,
    rules: policy.Policy,
    served: Callable[..., GivenServer],
    capsys: pytest.CaptureFixture[str],
    left_out: tuple[str, ...],
    code: int,
    told: str,
) -> None:
    found = plan(stage, rules)
    server = served(found)
    given = words(found, stage, "-key", str(stage.place / "ada"), "-print")
    for flag in left_out:
        place = given.index(flag)
        del given[place : place + 2]
    assert cli.main(given) == code
    assert told in capsys.readouterr().err
    assert server.started == []


def test_bad_flow_digests_that_no_plan_has_are_not_signed(
    stage: Stage, rules: policy.Policy, served: Callable[..., GivenServer], capsys: pytest.CaptureFixture[str]
) -> None:
    found = plan(stage, rules)
    served(found)
    given = words(found, stage, "-key", str(stage.place / "ada"), "-print")
    given[given.index("-plan") + 1] = "0" * 64
    assert cli.main(given) == 11
    assert "[approval-unknown-plan]" in capsys.readouterr().err


def test_bad_flow_a_key_that_is_none_signs_nothing(
    stage: Stage, rules: policy.Policy, served: Callable[..., GivenServer], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = plan(stage, rules)
    served(found)
    assert cli.main(words(found, stage, "-key", str(tmp_path / "nothing"), "-print")) == 2
    assert "[signing-failed]" in capsys.readouterr().err
