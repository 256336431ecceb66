"""The approval that a Job without a flow demands: real ssh-keygen signatures of the very document that a protected environment's worker makes."""

from __future__ import annotations

import base64
import json
import pwd
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from migrator import errors, signed_approvals
from migrator.planning import approvals
from migrator.signed_approvals import Accepted, Approvers, Asked
from tasks.approval import documents, ssh
from tasks.approval.documents import Envelope
from tests.unit.approval_stage import BUNDLE, IMAGE, Stage, contents

ASKED = Asked("auth", IMAGE, BUNDLE, "postgres:1/auth_db")
Sign = Callable[..., str]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage.made(tmp_path_factory.mktemp("approvals"))


@pytest.fixture
def sign(stage: Stage) -> Sign:
    """Signs the release's document as persons do; changes are of the document."""

    def made(*people: str, namespace: str = ssh.APPROVAL, **changes: object) -> str:
        now = datetime.now(UTC)
        times = {"made": documents.moment(now), "expires": documents.moment(now + timedelta(hours=1)), "id": "1" * 64}
        rules = stage.policy()
        return " ".join(item.packed() for item in stage.signed(stage.approval(rules, **(times | changes)), rules, people, namespace))

    return made


def accepted(stage: Stage, given: str, asked: Asked = ASKED, minimum: int = 1, plan: str = "") -> Accepted:
    return signed_approvals.accepted(given, Approvers(stage.place, minimum), asked, plan)


def refused(stage: Stage, given: str, asked: Asked = ASKED, minimum: int = 1, plan: str = "") -> errors.PlanRefused:
    with pytest.raises(errors.PlanRefused) as caught:
        accepted(stage, given, asked, minimum, plan)
    return caught.value


def test_good_flow_a_signature_of_exactly_this_is_accepted_with_its_plan(stage: Stage, sign: Sign) -> None:
    found = accepted(stage, sign("ada"))
    assert found.persons == ("ada@example.com",) and found.plan == contents().services[0].plan
    assert not approvals.may_go_on(found.approval, {}, [1])  # it may begin
    assert accepted(stage, sign("ada"), plan=found.plan).approval.identity


def test_the_identity_is_the_one_under_which_a_flow_notes_it(stage: Stage, sign: Sign) -> None:
    line = sign("ada")
    assert accepted(stage, line).approval.identity == documents.Approval.read(Envelope.unpacked(line).document).digest


def test_good_flow_two_persons_and_lines_that_were_folded(stage: Stage, sign: Sign) -> None:
    first, second = sign("ada", "grace").split()
    assert accepted(stage, f"{first},\n {second}\n", minimum=2).persons == ("ada@example.com", "grace@example.com")


def test_bad_flow_none_a_stranger_s_and_one_for_another_purpose_are_refused(stage: Stage, sign: Sign) -> None:
    assert refused(stage, " ").code == "approval-unsigned"
    assert refused(stage, sign("eve")).code == "approval-signature"
    assert refused(stage, sign("ada", namespace="git")).code == "approval-signature"
    assert refused(stage, sign("ada", "eve"), minimum=2).code == "approval-minimum"
    assert refused(stage, sign("ada", "ada"), minimum=2).code == "approval-minimum"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (Asked("auth", IMAGE.replace("1", "2"), BUNDLE, ASKED.database), "approval-other-run"),
        (Asked("auth", "", BUNDLE, ASKED.database), "approval-other-run"),
        (Asked("auth", IMAGE, "c" * 64, ASKED.database), "approval-other-run"),
        (Asked("billing", IMAGE, BUNDLE, ASKED.database), "approval-other-run"),
        (Asked("auth", IMAGE, BUNDLE, "postgres:2/auth_db"), "approval-other-database"),
    ],
)
def test_bad_flow_an_approval_of_something_else_is_refused(stage: Stage, sign: Sign, asked: Asked, code: str) -> None:
    assert refused(stage, sign("ada"), asked).code == code


def test_bad_flow_a_run_that_is_bound_to_another_plan_is_refused(stage: Stage, sign: Sign) -> None:
    assert refused(stage, sign("ada"), plan="d" * 64).code == "approval-other-run"


def test_bad_flow_a_document_that_was_changed_after_it_was_signed_is_refused(stage: Stage, sign: Sign) -> None:
    envelope = Envelope.unpacked(sign("ada"))
    other = json.loads(envelope.document)
    other["services"][0]["bundle"] = "c" * 64
    changed = envelope.model_copy(update={"document": json.dumps(other, sort_keys=True, separators=(",", ":"))}).packed()
    assert refused(stage, changed, Asked("auth", IMAGE, "c" * 64, ASKED.database)).code == "approval-signature"


def _line(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "given",
    [
        "yes",
        "3f0c91ab",
        _line([]),
        _line({"document": 1, "signature": ""}),
        _line({"document": "{}", "signature": ""}),
        _line({"document": '{"greylag":"proof/1"}', "signature": ""}),
        _line({"document": '{ "greylag": "approval/1" }', "signature": ""}),
        "e" * 1_000_001,
    ],
)
def test_bad_flow_what_is_no_approval_is_refused(stage: Stage, given: str) -> None:
    assert refused(stage, given).code == "bad-document"


def test_bad_flow_signatures_of_different_documents_are_none_together(stage: Stage, sign: Sign) -> None:
    assert refused(stage, f"{sign('ada')} {sign('grace', id='2' * 64)}", minimum=2).code == "bad-document"


def test_bad_flow_a_key_that_is_revoked_or_two_persons_counts_for_nothing(stage: Stage, sign: Sign, tmp_path: Path) -> None:
    lines = (stage.place / "allowed_signers").read_text(encoding="utf-8")
    place = Stage(tmp_path)
    (tmp_path / "allowed_signers").write_text(f"{lines}eve@example.com {stage.public('grace')}\n# a remark\n", encoding="utf-8")
    (tmp_path / "revoked").write_text(stage.public("ada") + "\n", encoding="utf-8")
    assert refused(place, sign("ada")).code == "approval-revoked"
    assert "nobody can tell who signed" in refused(place, sign("grace")).message


def test_two_names_on_one_line_are_one_person(stage: Stage, sign: Sign, tmp_path: Path) -> None:
    text = f"ada@example.com,a.l@example.com {stage.public('ada')}\n"
    (tmp_path / "allowed_signers").write_text(text, encoding="utf-8")
    assert accepted(Stage(tmp_path), sign("ada")).persons == ("ada@example.com",)


def test_bad_flow_a_directory_without_allowed_signers_is_an_error_of_the_setting(sign: Sign, tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError) as caught:
        accepted(Stage(tmp_path), sign("ada"))
    assert caught.value.code == "bad-policy"


def test_bad_flow_a_uid_without_a_name_is_told_as_that(stage: Stage, sign: Sign, monkeypatch: pytest.MonkeyPatch) -> None:
    """ssh-keygen ends with "No user exists for uid 65532" in such an image, which is no word about the signature."""
    given = sign("ada")

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(errors.UsageError) as caught:
        accepted(stage, given)
    assert caught.value.code == "signing-failed"


def test_bad_flow_an_approval_that_has_ended_begins_nothing_and_what_was_begun_goes_on(stage: Stage, sign: Sign) -> None:
    ended = accepted(stage, sign("ada", made="2026-01-01T00:00:00Z", expires="2026-01-01T08:00:00Z")).approval
    with pytest.raises(errors.PlanRefused) as caught:
        approvals.may_go_on(ended, {}, [1])
    assert caught.value.code == "approval-expired" and "2026-01-01T08:00:00Z" in caught.value.message
    assert approvals.may_go_on(ended, {approvals.WHOLE: approvals.State.BEGUN}, [1])


def test_no_approval_is_good_for_longer_than_a_day(stage: Stage, sign: Sign) -> None:
    now = datetime.now(UTC)
    found = accepted(stage, sign("ada", expires=documents.moment(now + timedelta(days=30)))).approval
    assert found.until is not None and found.until <= time.time() + 24 * 3600
