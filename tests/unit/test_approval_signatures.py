"""Signed approvals: real ssh-keygen keys and a worker's ed25519 key; who may, how many, what for, until when, and what is refused besides."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from migrator import errors
from migrator.planning import canonical, plans
from tasks.approval import documents, policy, ssh, verifying, worker_keys
from tasks.approval.documents import Approval, Envelope, Promotion
from tasks.approval.verifying import Wanted
from tasks.fleet.rules_section import ApprovalRules
from tasks.settings import Settings
from tests.unit.approval_stage import BUNDLE, FLEET, IMAGE, NOW, Stage, contents

WANTED = Wanted("prod", FLEET, ("auth",), bundles={"auth": BUNDLE}, images={"auth": IMAGE}, mode="job")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage.made(tmp_path_factory.mktemp("keys"))


def refused(code: str, call: Callable[[], object]) -> errors.GreylagError:
    with pytest.raises(errors.GreylagError) as caught:
        call()
    assert caught.value.code == code, caught.value.describe()
    return caught.value


def accepted(envelopes: list[Envelope], rules: policy.Policy, wanted: Wanted = WANTED, **more: Any) -> verifying.Accepted:
    return verifying.accepted(envelopes, rules, wanted, Settings(), more.get("now", NOW))


def test_good_flow_one_person_of_one_approves(stage: Stage) -> None:
    rules = stage.policy()
    found = accepted(stage.signed(stage.approval(rules), rules, ["ada"]), rules)
    assert found.persons == ("ada",)
    assert str(found) == "ada (ssh)"


def test_good_flow_two_persons_of_two_approve(stage: Stage) -> None:
    rules = stage.policy(minimum=2)
    assert accepted(stage.signed(stage.approval(rules), rules, ["ada", "grace"]), rules).persons == ("ada", "grace")


def test_bad_flow_one_person_with_two_keys_counts_once(stage: Stage) -> None:
    rules = stage.policy(minimum=2)
    error = refused("approval-minimum", lambda: accepted(stage.signed(stage.approval(rules), rules, ["ada", "ada-laptop"]), rules))
    assert "ada approved: 1 of 2 persons" in error.message


def test_bad_flow_a_key_that_is_two_persons_is_nobodys(stage: Stage) -> None:
    signers = (stage.place / "allowed_signers").read_text(encoding="utf-8")
    (stage.place / "twice").write_text(f"{signers}grace@example.com {stage.public('ada')}\n", encoding="utf-8")
    rules = stage.policy(ssh={"allowed_signers": "twice"})
    error = refused("approval-signature", lambda: accepted(stage.signed(stage.approval(rules), rules, ["ada"]), rules))
    assert "ada and of grace" in error.message


def test_bad_flow_nobodys_key_is_refused(stage: Stage) -> None:
    rules = stage.policy()
    error = refused("approval-signature", lambda: accepted(stage.signed(stage.approval(rules), rules, ["eve"]), rules))
    assert "allowed_signers" in error.message


def test_bad_flow_a_signer_who_is_no_approver_is_refused(stage: Stage) -> None:
    rules = stage.policy(approvers={"ada": ["ada@example.com"]})
    refused("approval-signature", lambda: accepted(stage.signed(stage.approval(rules), rules, ["grace"]), rules))


def test_bad_flow_a_revoked_key_is_refused(stage: Stage) -> None:
    rules = stage.policy(ssh=stage.revoke("grace"))
    refused("approval-revoked", lambda: accepted(stage.signed(stage.approval(rules), rules, ["grace"]), rules))
    assert accepted(stage.signed(stage.approval(rules), rules, ["ada"]), rules).persons == ("ada",)


def test_bad_flow_a_revocation_list_that_is_missing_lets_nobody_in(stage: Stage) -> None:
    rules = stage.policy(ssh={"allowed_signers": "allowed_signers", "revoked": "gone"})
    refused("bad-policy", lambda: accepted(stage.signed(stage.approval(rules), rules, ["ada"]), rules))


def test_bad_flow_a_signature_for_another_namespace_is_none(stage: Stage) -> None:
    rules = stage.policy()
    refused("approval-signature", lambda: accepted(stage.signed(stage.approval(rules), rules, ["ada"], "git"), rules))


def test_bad_flow_unsigned_is_refused(stage: Stage) -> None:
    rules = stage.policy()
    [envelope] = stage.signed(stage.approval(rules), rules, ["ada"])
    refused("approval-unsigned", lambda: accepted([], rules))
    refused("approval-unsigned", lambda: accepted([envelope.model_copy(update={"signature": ""})], rules))


def test_bad_flow_a_document_that_no_worker_signed_is_refused(stage: Stage) -> None:
    rules = stage.policy()
    [envelope] = stage.signed(stage.approval(rules), rules, ["ada"])
    refused("signature-invalid", lambda: accepted([envelope.model_copy(update={"worker": None})], rules))
    own = policy.Signing(id="prod-1", file=stage.place / "other")
    forged = envelope.model_copy(update={"worker": worker_keys.sign(stage.approval(rules), own, Settings())})
    refused("signature-invalid", lambda: accepted([forged], rules))


def test_bad_flow_a_changed_document_is_refused(stage: Stage) -> None:
    rules = stage.policy()
    [envelope] = stage.signed(stage.approval(rules), rules, ["ada"])
    changed = Approval.read(envelope.document).model_copy(update={"promoter": "eve"})
    refused("signature-invalid", lambda: accepted([envelope.model_copy(update={"document": changed.canonical})], rules))


def test_bad_flow_signatures_of_different_documents_are_not_added_up(stage: Stage) -> None:
    rules = stage.policy(minimum=2)
    first = stage.signed(stage.approval(rules), rules, ["ada"])
    second = stage.signed(stage.approval(rules), rules, ["grace"])
    refused("bad-document", lambda: accepted([*first, *second], rules))


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted("prod", FLEET, ("auth",), images={"auth": f"registry.example/auth@sha256:{'2' * 64}"}), "image of auth"),
        (Wanted("prod", FLEET, ("auth",), mode="inline"), "mode: inline"),
        (Wanted("prod", FLEET, ("auth",), backoff_limit=9), "backoff_limit: 9"),
        (Wanted("prod", FLEET, ("auth",), active_deadline_seconds=1.0), "active_deadline_seconds"),
        (Wanted("prod", FLEET, ("auth", "audit")), "services: audit, auth"),
        (Wanted("prod", FLEET, ("audit",), part=True), "services: audit"),
        (Wanted("prod", FLEET, ("auth",), bundles={"auth": "c" * 64}), "bundle of auth"),
        (Wanted("prod", FLEET, ("auth",), accepted={"auth": ("00001_a.sql:cut-statement:meant",)}), "accepted hazards of auth: 00001_a"),
    ],
)
def test_bad_flow_what_a_run_gives_besides_is_refused(stage: Stage, wanted: Wanted, words: str) -> None:
    rules = stage.policy()
    error = refused("approval-other-run", lambda: accepted(stage.signed(stage.approval(rules), rules, ["ada"]), rules, wanted))
    assert words in error.message


@pytest.mark.parametrize("accepts", [(), ("00001_a.sql:cut-statement:another reason",), ("00002_b.sql:cut-statement:meant",)])
def test_bad_flow_hazards_that_are_accepted_are_part_of_what_was_signed(stage: Stage, accepts: tuple[str, ...]) -> None:
    rules, held = stage.policy(), "00001_a.sql:cut-statement:meant"
    part = stage.approval(rules).services[0].model_copy(update={"accepted": (held,)})
    given = stage.signed(stage.approval(rules, services=(part,)), rules, ["ada"])
    assert accepted(given, rules, Wanted("prod", FLEET, ("auth",), accepted={"auth": (held,)})).persons
    error = refused("approval-other-run", lambda: accepted(given, rules, Wanted("prod", FLEET, ("auth",), accepted={"auth": accepts})))
    assert "accepted hazards of auth" in error.message


@pytest.mark.parametrize("change", ["image", "mode", "hazards", "accepted"])
def test_bad_flow_a_signature_does_not_cover_another_image_mode_or_hazard(stage: Stage, change: str) -> None:
    """Each of them is in the text that people sign."""
    rules = stage.policy()
    (given,) = stage.signed(stage.approval(rules), rules, ["ada"])
    approval = stage.approval(rules).model_copy(update={"id": documents.Approval.read(given.document).id})
    changes: dict[str, Any] = {"mode": {"mode": "inline"}, "hazards": {"hazards": ("auth: cut-statement",)}}.get(change, {})
    if not changes:
        more = {"image": f"registry.example/auth@sha256:{'2' * 64}", "accepted": ("00001_a.sql:cut-statement:meant",)}
        changes = {"services": (approval.services[0].model_copy(update={change: more[change]}),)}
    assert rules.signing is not None
    other = approval.model_copy(update=changes)
    worker = worker_keys.sign(other, rules.signing, Settings())  # even where the worker itself has signed the other one
    envelope = Envelope(document=other.canonical, worker=worker, signature=given.signature)
    refused("approval-signature", lambda: accepted([envelope], rules, Wanted("prod", FLEET, ("auth",))))


def test_bad_flow_an_approval_under_another_policy_or_fleet_is_refused(stage: Stage) -> None:
    rules = stage.policy()
    given = stage.signed(stage.approval(rules), rules, ["ada"])
    refused("approval-other-policy", lambda: accepted(given, stage.policy(validity_hours=5)))
    refused("approval-other-policy", lambda: accepted(given, rules, Wanted("prod", "e" * 64, ("auth",))))


@pytest.mark.parametrize("hours", [7, 8, 25])
def test_bad_flow_an_approval_ends(stage: Stage, hours: float) -> None:
    rules = stage.policy()
    given = stage.signed(stage.approval(rules), rules, ["ada"])
    refused("approval-expired", lambda: accepted(given, rules, now=NOW + timedelta(hours=hours)))


def test_bad_flow_no_document_makes_an_approval_last_longer_than_a_day(stage: Stage) -> None:
    rules = stage.policy()
    endless = stage.approval(rules, expires="2036-01-01T00:00:00Z")
    given = stage.signed(endless, rules, ["ada"])
    assert accepted(given, rules, now=NOW + timedelta(hours=22)).persons
    refused("approval-expired", lambda: accepted(given, rules, now=NOW + timedelta(hours=23)))


def promoted(stage: Stage, name: str, bundle: str = BUNDLE) -> Envelope:
    document = Promotion(id=documents.nonce(), until="prod", made=documents.moment(NOW), bundle=bundle)
    return Envelope(document=document.canonical, signature=ssh.sign(document.signed, stage.place / name, ssh.PROMOTION))


def test_bad_flow_the_promoter_does_not_approve_by_any_of_their_keys(stage: Stage) -> None:
    rules = stage.policy(not_promoter=True)
    person, digest = verifying.promoter(promoted(stage, "ada"), rules, ["prod"], BUNDLE)
    assert person == "ada"
    approval = stage.approval(rules, promoter=person, promotion=digest)
    error = refused("approval-promoter", lambda: accepted(stage.signed(approval, rules, ["ada-laptop"]), rules))
    assert error.message.startswith("ada promoted this")
    assert accepted(stage.signed(approval, rules, ["ada", "grace"]), rules).persons == ("grace",)


def test_bad_flow_without_a_signed_promotion_nobody_can_tell_who_promoted(stage: Stage) -> None:
    rules = stage.policy(not_promoter=True)
    refused("approval-promoter", lambda: accepted(stage.signed(stage.approval(rules), rules, ["grace"]), rules))


def test_bad_flow_an_approvals_signature_is_no_promotion_and_a_promotion_is_for_its_bundle(stage: Stage) -> None:
    rules = stage.policy(not_promoter=True)
    refused("bad-document", lambda: verifying.promoter(promoted(stage, "ada", "c" * 64), rules, ["prod"], BUNDLE))
    refused("approval-signature", lambda: verifying.promoter(promoted(stage, "eve"), rules, ["prod"], BUNDLE))
    document = Promotion(id=documents.nonce(), until="prod", made=documents.moment(NOW), bundle=BUNDLE)
    wrong = Envelope(document=document.canonical, signature=ssh.sign(document.signed, stage.place / "ada", ssh.APPROVAL))
    refused("approval-signature", lambda: verifying.promoter(wrong, rules, ["prod"], BUNDLE))


def test_an_envelope_is_one_line_and_comes_back_whole(stage: Stage) -> None:
    rules = stage.policy()
    [envelope] = stage.signed(stage.approval(rules), rules, ["ada"])
    line = envelope.packed()
    assert "\n" not in line and line.startswith("ey")
    assert Envelope.unpacked(f" {line}\n") == envelope
    for broken in ("", "ey", line[:-8], "a b c", "é" * 8, "A" * 2_000_000):
        refused("bad-document", lambda text=broken: Envelope.unpacked(text))


def test_the_digest_is_computed_from_what_is_shown(stage: Stage) -> None:
    rules = stage.policy()
    approval, shown = stage.approval(rules), contents()
    documents.require_shown(approval, shown)
    step = shown.services[0].steps[0]
    other = step.model_copy(update={"text": step.text.replace("1", "2")})
    changed = shown.model_copy(update={"services": (shown.services[0].model_copy(update={"steps": (other,)}),)})
    refused("bad-document", lambda: documents.require_shown(approval, changed))
    resigned = stage.approval(rules, contents=changed.digest)  # a worker that shows other SQL than its plan's
    error = refused("bad-document", lambda: documents.require_shown(resigned, changed))
    assert "does not have the plan's digest" in error.message


@pytest.mark.parametrize("content", [b"SELECT 1;\r\n", b"SELECT 'caf\xe9';\n", "SELECT 'é';\n".encode(), b""])
def test_the_checksum_of_what_is_shown_is_the_files(content: bytes, tmp_path: Path) -> None:
    from migrator.planning import files

    (tmp_path / "00001_a.sql").write_bytes(b"-- +goose Up\n" + content)
    file = files.load(str(tmp_path)).by_version(1)
    assert file is not None
    step = documents.ContentsStep.of(1, file.name, "up", file.read())
    assert step.checksum == file.checksum()
    assert documents.ContentsStep.read(step.canonical) == step
    assert plans.digest_of([(1, file.name, "up", step.checksum)]) != plans.digest_of([])


def test_canonical_text_is_one_text() -> None:
    assert canonical.text({"b": [1, None, True], "a": "é\n"}) == '{"a":"\\u00e9\\n","b":[1,null,true]}'
    for other in ('{"b":1,"a":2}', '{"a": 1}', '{"a":1.5}', "[]", '{"a":1}\n', '{"a":1,"a":1}', "{" * 100_000, '{"a":"é"}'):
        refused("bad-document", lambda text=other: canonical.read(text))
    with pytest.raises(ValueError, match="float"):
        canonical.text({"a": 1.5})


def test_fleet_yaml_only_tightens(stage: Stage) -> None:
    strict = stage.policy(minimum=2, not_promoter=True, validity_hours=4)
    assert strict.tightened(ApprovalRules()).model_dump() == strict.model_dump()
    weaker = strict.tightened(ApprovalRules(minimum=1, not_promoter=False, validity_hours=24))
    assert (weaker.minimum, weaker.not_promoter, weaker.validity_hours) == (2, True, 4)
    tighter = stage.policy().tightened(ApprovalRules(minimum=2, not_promoter=True, validity_hours=1))
    assert (tighter.minimum, tighter.not_promoter, tighter.validity_hours) == (2, True, 1)
    assert tighter.digest == stage.policy().digest
    refused("bad-policy", lambda: policy.parse(b"environment: prod", Path("p")).tightened(ApprovalRules(minimum=2)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "mapping"),
        ("environment: prod\nverifer: ssh", "verifer"),
        ("environment: prod\nverifier: ssh", "needs `signing`"),
        ("environment: prod\nnot_promoter: true", "not_promoter"),
        ("environment: prod\nvalidity_hours: 25", "validity_hours"),
        ("environment: prod\nminimum: 0", "minimum"),
        ("environment: prod\noidc: [{issuer: 'https://i', claims: {a: b}, algorithms: [none]}]", "none is not accepted"),
        ("environment: prod\noidc: [{issuer: 'https://i', claims: {a: b}, algorithms: [HS256]}]", "HS256 is not accepted"),
        ("environment: prod\noidc: [{issuer: 'http://i', claims: {a: b}}]", "https://"),
        ("environment: prod\noidc: [{issuer: 'https://i', claims: {}}]", "claims"),
        ("a: [", "no YAML"),
    ],
)
def test_bad_flow_a_policy_that_can_t_be_meant_is_refused(text: str, words: str) -> None:
    error = refused("bad-policy", lambda: policy.parse(text.encode(), Path("/etc/greylag/policy.yaml")))
    assert words in error.message
    assert str(error.where) == "/etc/greylag/policy.yaml"


def test_bad_flow_two_approvers_with_one_name_are_refused(stage: Stage) -> None:
    same = {"ada": ["x@example.com"], "grace": ["x@example.com"]}
    assert "both ada and grace" in refused("bad-policy", lambda: stage.policy(approvers=same)).message


# --- workers' keys and the proof ----------------------------------------------------------------------------------------------------


def proven(stage: Stage, given: str, *, key: str = "release", name: str = "release-1", **changes: Any) -> tuple[documents.Proof, Envelope]:
    held = {"service": "auth", "database": "postgres:1/auth_db_release", "bundle": BUNDLE, "version": 1}
    proof = documents.proof_of("release", given, NOW, [held]).model_copy(update=changes)
    signature = worker_keys.sign(proof, policy.Signing(id=name, file=stage.place / key), Settings())
    return proof, Envelope(document=proof.canonical, worker=signature)


def checked(stage: Stage, found: tuple[documents.Proof, Envelope], given: str, rules: policy.Policy, minutes: float = 1) -> None:
    now = NOW + timedelta(minutes=minutes)
    verifying.require_proof(*found, "release", given, {"auth": BUNDLE}, rules, Settings(), asked=NOW, now=now)


def test_good_flow_the_previous_worker_proves_what_it_holds(stage: Stage) -> None:
    nonce = documents.nonce()
    checked(stage, proven(stage, nonce), nonce, stage.policy())


def test_bad_flow_a_proof_is_for_its_nonce_its_bundles_and_ten_minutes(stage: Stage) -> None:
    rules, nonce = stage.policy(), documents.nonce()
    refused("proof-refused", lambda: checked(stage, proven(stage, documents.nonce()), nonce, rules))
    refused("proof-refused", lambda: checked(stage, proven(stage, nonce, environment="dev"), nonce, rules))
    refused("proof-refused", lambda: checked(stage, proven(stage, nonce, services=()), nonce, rules))
    refused("proof-refused", lambda: checked(stage, proven(stage, nonce, verified="2026-01-02T11:00:00Z"), nonce, rules))
    refused("proof-expired", lambda: checked(stage, proven(stage, nonce), nonce, rules, minutes=11))
    checked(stage, proven(stage, nonce), nonce, rules, minutes=10)


def test_bad_flow_a_proof_with_another_key_is_none(stage: Stage) -> None:
    rules, nonce = stage.policy(), documents.nonce()
    refused("signature-invalid", lambda: checked(stage, proven(stage, nonce, key="other"), nonce, rules))
    refused("key-unknown", lambda: checked(stage, proven(stage, nonce, name="prod-1", key="worker"), nonce, rules))
    proof, envelope = proven(stage, nonce)
    refused("proof-refused", lambda: checked(stage, (proof, envelope.model_copy(update={"worker": None})), nonce, rules))
    for broken in ("", "no base64", "AAAA"):
        assert envelope.worker is not None
        damaged = envelope.model_copy(update={"worker": envelope.worker.model_copy(update={"signature": broken})})
        refused("signature-invalid", lambda item=damaged: checked(stage, (proof, item), nonce, rules))


def test_a_key_is_rotated_with_both_side_by_side_and_revoked_by_the_policy(stage: Stage) -> None:
    nonce = documents.nonce()
    own = {"id": "prod-1", "public": stage.public("worker")}
    old, new = ({"id": name, "public": stage.public(key)} for name, key in (("release-1", "release"), ("release-2", "other")))
    both = stage.policy(keys={"prod": [own], "release": [old, new]})
    checked(stage, proven(stage, nonce), nonce, both)
    checked(stage, proven(stage, nonce, key="other", name="release-2"), nonce, both)
    revoked = stage.policy(keys={"prod": [own], "release": [{**old, "revoked": True}, new]})
    refused("key-revoked", lambda: checked(stage, proven(stage, nonce), nonce, revoked))
    checked(stage, proven(stage, nonce, key="other", name="release-2"), nonce, revoked)


def test_bad_flow_a_key_file_that_others_may_read_does_not_sign(stage: Stage, tmp_path: Path) -> None:
    open_one = tmp_path / "key"
    open_one.write_bytes((stage.place / "release").read_bytes())
    open_one.chmod(0o644)
    document = documents.proof_of("release", documents.nonce(), NOW, [])
    error = refused("signing-failed", lambda: worker_keys.sign(document, policy.Signing(id="r", file=open_one), Settings()))
    assert "chmod 600" in error.message
    refused("signing-failed", lambda: worker_keys.sign(document, policy.Signing(id="r", file=tmp_path / "none"), Settings()))


def test_a_documents_kind_is_part_of_what_is_signed(stage: Stage) -> None:
    rules = stage.policy()
    approval = stage.approval(rules)
    refused("bad-document", lambda: documents.Proof.read(approval.canonical))
    data = json.loads(approval.canonical) | {"greylag": "approval/2"}
    refused("bad-document", lambda: Approval.read(canonical.text(data)))
    refused("bad-document", lambda: Approval.read(canonical.text(json.loads(approval.canonical) | {"more": 1})))
