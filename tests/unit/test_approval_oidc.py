"""Approvals by an identity provider's token: pinned issuer, claims, audience and algorithm; a real issuer over HTTP, whose keys are fetched."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from migrator import errors
from tasks.approval import documents, oidc, policy, verifying, worker_keys
from tasks.approval.documents import Approval, Envelope
from tasks.settings import Settings
from tests.unit.approval_stage import FLEET, Stage
from tests.unit.oidc_issuer import Issuer, running


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage.made(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running() as found:
        yield found


CLAIMS = {
    "repository_id": "4711",
    "environment": "prod",
    "job_workflow_ref": "acme/shop/.github/workflows/release.yml@refs/heads/main",
}


def rules_of(stage: Stage, issuer: Issuer, **changes: Any) -> policy.Policy:
    section = {"issuer": issuer.address, "claims": CLAIMS, "person": "sub"}
    return stage.policy(verifier="oidc", approvers={}, oidc=[{**section, **changes}])


def planned(stage: Stage, rules: policy.Policy) -> Approval:
    now = datetime.now(UTC)
    return stage.approval(rules, made=documents.moment(now - timedelta(minutes=1)), expires=documents.moment(now + timedelta(hours=8)))


def accepted(stage: Stage, rules: policy.Policy, approval: Approval, *tokens: str, **more: Any) -> verifying.Accepted:
    assert rules.signing is not None
    worker = worker_keys.sign(approval, rules.signing, Settings())
    envelopes = [Envelope(document=approval.canonical, worker=worker, signature=token) for token in tokens]
    return verifying.accepted(envelopes, rules, verifying.Wanted("prod", FLEET), Settings(), more.pop("now", datetime.now(UTC)), **more)


def refused(code: str, stage: Stage, rules: policy.Policy, approval: Approval, *tokens: str) -> str:
    with pytest.raises(errors.GreylagError) as caught:
        accepted(stage, rules, approval, *tokens)
    assert caught.value.code == code, caught.value.describe()
    return caught.value.message


def test_good_flow_a_workflow_that_was_let_in_approves_and_is_shown_as_one(stage: Stage, issuer: Issuer) -> None:
    rules = rules_of(stage, issuer)
    approval = planned(stage, rules)
    found = accepted(stage, rules, approval, issuer.token(oidc.audience(rules.oidc[0], approval)))
    assert found.persons == ("repo:acme/shop:environment:prod",)
    assert "job_workflow_ref acme/shop/.github/workflows/release.yml@refs/heads/main" in str(found)
    assert issuer.asked[-2:] == ["/.well-known/openid-configuration", "/keys"]


def test_good_flow_the_keys_may_lie_in_a_file(stage: Stage, issuer: Issuer) -> None:
    (stage.place / "jwks.json").write_text(json.dumps(issuer.keys()), encoding="utf-8")
    rules, before = rules_of(stage, issuer, jwks="jwks.json"), len(issuer.asked)
    approval = planned(stage, rules)
    assert accepted(stage, rules, approval, issuer.token(oidc.audience(rules.oidc[0], approval))).persons
    assert len(issuer.asked) == before


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("repository_id", "4712"),
        ("environment", "release"),
        ("job_workflow_ref", "acme/shop/.github/workflows/release.yml@refs/heads/evil"),
        ("environment", None),
        ("iss", "https://token.example"),
        ("aud", "greylag-approval"),
        ("sub", ""),
        ("iat", 1),
    ],
)
def test_bad_flow_a_token_with_another_claim_is_refused(stage: Stage, issuer: Issuer, claim: str, value: object) -> None:
    rules = rules_of(stage, issuer)
    approval = planned(stage, rules)
    refused("approval-signature", stage, rules, approval, issuer.token(oidc.audience(rules.oidc[0], approval), **{claim: value}))


def test_bad_flow_a_token_of_several_audiences_is_refused(stage: Stage, issuer: Issuer) -> None:
    rules = rules_of(stage, issuer)
    approval = planned(stage, rules)
    audience = oidc.audience(rules.oidc[0], approval)
    refused("approval-signature", stage, rules, approval, issuer.token(audience, aud=[audience, "sts.example"]))


def test_bad_flow_a_token_for_another_approval_is_refused(stage: Stage, issuer: Issuer) -> None:
    rules = rules_of(stage, issuer)
    token = issuer.token(oidc.audience(rules.oidc[0], planned(stage, rules)))
    assert "audience" in refused("approval-signature", stage, rules, planned(stage, rules), token)


def test_bad_flow_algorithms_without_a_public_key_are_refused(stage: Stage, issuer: Issuer) -> None:
    rules = rules_of(stage, issuer)
    approval = planned(stage, rules)
    audience = oidc.audience(rules.oidc[0], approval)
    assert "'none'" in refused("approval-signature", stage, rules, approval, issuer.token(audience, algorithm="none", key=""))
    public = base64.b64encode(issuer.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
    assert "'HS256'" in refused("approval-signature", stage, rules, approval, issuer.token(audience, algorithm="HS256", key=public))


def test_bad_flow_a_token_with_another_key_or_no_token_is_refused(stage: Stage, issuer: Issuer) -> None:
    rules = rules_of(stage, issuer)
    approval = planned(stage, rules)
    audience = oidc.audience(rules.oidc[0], approval)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    refused("approval-signature", stage, rules, approval, issuer.token(audience, key=other))
    refused("approval-signature", stage, rules, approval, "no.token.this", "x", "." * 100_000)
    own, issuer.kid = issuer.kid, "key-2"
    foreign = issuer.token(audience)
    issuer.kid = own
    assert "key-2" in refused("approval-signature", stage, rules, approval, foreign)


def test_a_token_is_checked_on_receipt_and_the_receipt_outlives_it(stage: Stage, issuer: Issuer) -> None:
    rules = rules_of(stage, issuer)
    approval = planned(stage, rules)
    token = issuer.token(oidc.audience(rules.oidc[0], approval))
    identity = oidc.verify(token, approval, rules, datetime.now(UTC))
    old = issuer.token(oidc.audience(rules.oidc[0], approval), exp=int(time.time()) - 60)
    refused("approval-expired", stage, rules, approval, old)

    def received(_: Approval, fingerprint: str) -> oidc.Identity | None:
        return identity if fingerprint == oidc.fingerprint(old) else None

    assert accepted(stage, rules, approval, old, received=received).persons == (identity.person,)


def test_bad_flow_one_workflow_is_one_of_two(stage: Stage, issuer: Issuer) -> None:
    rules = stage.policy(verifier="oidc", approvers={}, minimum=2, oidc=[{"issuer": issuer.address, "claims": CLAIMS}])
    approval = planned(stage, rules)
    audience = oidc.audience(rules.oidc[0], approval)
    refused("approval-minimum", stage, rules, approval, issuer.token(audience), issuer.token(audience, jti="2"))


def test_an_issuer_that_does_not_answer_is_no_refusal(stage: Stage, issuer: Issuer) -> None:
    rules = rules_of(stage, issuer, jwks="http://127.0.0.1:1/keys")
    approval = planned(stage, rules)
    with pytest.raises(errors.Unavailable) as caught:
        accepted(stage, rules, approval, issuer.token(oidc.audience(rules.oidc[0], approval)))
    assert caught.value.code == "issuer-unreachable"
