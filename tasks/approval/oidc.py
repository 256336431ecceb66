"""Tokens of an identity provider (OpenID Connect): a CI's workflow, or a person, was allowed into an environment.

A token of a workflow proves that the provider let this workflow of this repository into this environment, by rules that the provider keeps (reviewers
of an environment, for example); it doesn't prove who they were, and is shown as what it is. The token's audience names the approval it is for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from migrator import errors
from tasks.approval.documents import Approval, instant
from tasks.approval.policy import Issuer, Policy

SKEW_SECONDS = 30.0
"""Seconds by which two servers' clocks may differ."""

_TIMEOUT = 10.0

_LONGEST_TOKEN = 20_000

_SHOWN = ("repository", "repository_id", "environment", "job_workflow_ref", "actor", "run_id", "sub")
"""Claims that tell people what the token is, in this order, where it has them."""


@dataclass(frozen=True)
class Identity:
    """What a token proves: who is behind it (`person`), in words for people (`shown`), and the sha256 of the token."""

    person: str
    shown: str
    token: str


def audience(issuer: Issuer, approval: Approval) -> str:
    """Returns the audience that a token for this approval has."""
    return f"{issuer.audience}:{approval.digest}"


def fingerprint(token: str) -> str:
    """Returns the sha256 of a token, by which a receipt names it."""
    return hashlib.sha256(token.strip().encode()).hexdigest()


def verify(token: str, approval: Approval, policy: Policy, now: datetime) -> Identity:
    """Returns what a token proves about an approval, now.

    Raises PlanRefused: `approval-signature` (not one of an issuer of the policy, an algorithm that isn't accepted, another audience or claim),
    `approval-expired` (the token has ended). Unavailable: `issuer-unreachable`.
    """
    import jwt

    token = token.strip()
    if len(token) > _LONGEST_TOKEN:
        raise _refused("it is longer than any token")
    try:
        head = jwt.get_unverified_header(token)
        named = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except jwt.PyJWTError:
        raise _refused("it is no token") from None
    issuer = next((item for item in policy.oidc if item.issuer == named), None)
    if issuer is None:
        raise _refused(f"its issuer {named!r} is none of the policy's")
    if head.get("alg") not in issuer.algorithms:
        raise _refused(f"it is signed with {head.get('alg')!r}, and the policy accepts {', '.join(issuer.algorithms)}")
    key = _key(issuer, head)
    try:
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key,
            algorithms=list(issuer.algorithms),
            audience=audience(issuer, approval),
            issuer=issuer.issuer,
            leeway=SKEW_SECONDS,
            options={"require": ["exp", "iat", "iss", "aud", "sub"], "strict_aud": True},
        )
    except jwt.ExpiredSignatureError:
        raise errors.PlanRefused(
            "the token has ended before it was received",
            code="approval-expired",
            hint="a token lives for minutes: let the workflow take a fresh one right before it approves",
        ) from None
    except jwt.InvalidAudienceError:
        raise _refused(f"it is not for this approval: the audience has to be {audience(issuer, approval)}") from None
    except jwt.PyJWTError as error:
        raise _refused(f"{type(error).__name__}: {error}") from None
    for name, expected in issuer.claims.items():
        if str(claims.get(name)) != expected:
            raise _refused(f"its {name} is {claims.get(name)!r}, and the policy asks for {expected!r}")
    if claims["iat"] + SKEW_SECONDS < instant(approval.made).timestamp():
        raise _refused("it is older than the plan")
    who = str(claims.get(issuer.person) or "")
    if not who:
        raise _refused(f"it has no {issuer.person}, which would say who is behind it")
    if policy.approvers:
        who = policy.person(who)
        if not who:
            raise _refused(f"{claims[issuer.person]} may not approve for {policy.environment}")
    facts = ", ".join(f"{name} {claims[name]}" for name in _SHOWN if claims.get(name))
    return Identity(who, f"{issuer.issuer}: {facts}", fingerprint(token))


def _key(issuer: Issuer, head: Mapping[str, Any]) -> Any:
    """Returns the issuer's public key that a token's head names."""
    import jwt

    try:
        keys = jwt.PyJWKSet.from_dict(_keys(issuer)).keys
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        raise _unreachable(issuer, "its keys can't be read") from None
    fitting = [item for item in keys if item.public_key_use in (None, "sig") and (item.key_id == head.get("kid"))]
    if len(fitting) != 1 or fitting[0].key_type == "oct":
        raise _refused(f"{issuer.issuer} has no public key {head.get('kid')!r}")
    return fitting[0]


def _keys(issuer: Issuer) -> Any:
    if issuer.jwks and "://" not in issuer.jwks:
        try:
            return json.loads(Path(issuer.jwks).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise _unreachable(issuer, f"{issuer.jwks} can't be read") from None
    return _fetched(issuer, issuer.jwks or _configured(issuer))


def _configured(issuer: Issuer) -> str:
    found = _fetched(issuer, f"{issuer.issuer.rstrip('/')}/.well-known/openid-configuration")
    if found.get("issuer") != issuer.issuer or not isinstance(found.get("jwks_uri"), str):
        raise _unreachable(issuer, "its configuration is not its own")
    return str(found["jwks_uri"])


def _fetched(issuer: Issuer, address: str) -> Any:
    import httpx

    try:
        answer = httpx.get(address, timeout=_TIMEOUT, follow_redirects=False)
        answer.raise_for_status()
        found = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise _unreachable(issuer, f"{address}: {type(error).__name__}") from None
    if not isinstance(found, dict):
        raise _unreachable(issuer, f"{address} answers no object")
    return found


def _refused(reason: str) -> errors.PlanRefused:
    return errors.PlanRefused(
        f"the token is not accepted: {reason}", code="approval-signature", hint="`oidc` of the worker's policy says which tokens approve"
    )


def _unreachable(issuer: Issuer, reason: str) -> errors.Unavailable:
    return errors.Unavailable(
        f"the identity provider {issuer.issuer} can't be asked for its keys: {reason}",
        code="issuer-unreachable",
        hint="the worker needs a way to it, or `jwks` of the policy names a file with its public keys",
    )
