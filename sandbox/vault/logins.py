"""Logins of workloads, set up on any server with Vault's API that has them: signed tokens (JWT) and Kubernetes service accounts."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from migrator import errors
from sandbox import certificates
from sandbox.vault.administration import Administration


class TokenIssuer:
    """Signs tokens as an OpenID Connect provider does: a CI system, or a cluster's API server for projected service-account tokens.

    Args:
        name: the `iss` claim.
    """

    def __init__(self, name: str = "https://issuer.sandbox") -> None:
        self.name = name
        self._key = certificates.new_key()

    @property
    def public_key(self) -> str:
        """Returns what a verifier needs (PEM)."""
        return certificates.public_pem(self._key)

    def token(self, subject: str, audience: str, *, seconds: float = 600, **claims: Any) -> str:
        """Signs a token (ES256).

        Args:
            subject, audience: its `sub` and `aud`.
            seconds: its life; negative for one that has expired.
            claims: more of them; they win.
        """
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, utils

        now = int(time.time())
        begin = now + min(0, int(seconds)) - 60
        body = {"iss": self.name, "sub": subject, "aud": audience, "iat": begin, "nbf": begin, "exp": now + int(seconds)} | claims
        signed = b".".join(_encoded(json.dumps(part).encode()) for part in ({"alg": "ES256", "typ": "JWT"}, body))
        r, s = utils.decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return b".".join((signed, _encoded(r.to_bytes(32) + s.to_bytes(32)))).decode()


def enable(server: Administration, kind: str, mount: str | None = None) -> str:
    """Enables a login method at `auth/<mount>`, unless it is. Returns the mount."""
    place = mount or kind
    with contextlib.suppress(errors.Unavailable):  # answers 400 where the method is enabled already
        server.request("POST", f"sys/auth/{place}", {"type": kind})
    return place


def trust_issuer(server: Administration, issuer: TokenIssuer, mount: str = "jwt") -> None:
    """Lets the server accept this issuer's tokens at `auth/<mount>`."""
    enable(server, "jwt", mount)
    server.request("POST", f"auth/{mount}/config", {"jwt_validation_pubkeys": [issuer.public_key], "bound_issuer": issuer.name})


def create_jwt_role(
    server: Administration,
    name: str,
    policy: str,
    *,
    audience: str,
    subject: str | None = None,
    mount: str = "jwt",
    **options: Any,
) -> None:
    """Makes a role that tokens log in as.

    Args:
        name: the role's.
        policy: what it may.
        audience: the `aud` that a token must be for.
        subject: the `sub` that it must have; None leaves it open.
        options: the role's (`token_ttl`, `token_max_ttl`, …).
    """
    body: dict[str, Any] = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": [audience], "token_policies": [policy]}
    if subject is not None:
        body["bound_subject"] = subject
    server.request("POST", f"auth/{mount}/role/{name}", body | options)


def trust_cluster(server: Administration, url: str, ca_file: Path, *, reviewer_token: str | None = None, mount: str = "kubernetes") -> None:
    """Lets the server ask a cluster's API server (TokenReview) whose service-account token it was given.

    Args:
        url, ca_file: the cluster's (`Cluster.url`, `Cluster.ca_file`).
        reviewer_token: of an account that may create TokenReviews; None lets each login's own token ask, which then needs
            `system:auth-delegator`.
    """
    enable(server, "kubernetes", mount)
    body: dict[str, Any] = {"kubernetes_host": url, "kubernetes_ca_cert": ca_file.read_text(encoding="utf-8"), "disable_local_ca_jwt": True}
    if reviewer_token is not None:
        body["token_reviewer_jwt"] = reviewer_token
    server.request("POST", f"auth/{mount}/config", body)


def create_kubernetes_role(
    server: Administration,
    name: str,
    policy: str,
    *,
    service_accounts: Sequence[str],
    namespaces: Sequence[str],
    audience: str | None = None,
    mount: str = "kubernetes",
    **options: Any,
) -> None:
    """Makes a role that service accounts log in as.

    Args:
        name: the role's.
        policy: what it may.
        service_accounts, namespaces: whose tokens are accepted.
        audience: the audience that they must be for; None asks for the API server's own.
        options: the role's (`token_ttl`, …).
    """
    body: dict[str, Any] = {
        "bound_service_account_names": list(service_accounts),
        "bound_service_account_namespaces": list(namespaces),
        "token_policies": [policy],
    }
    if audience is not None:
        body["audience"] = audience
    server.request("POST", f"auth/{mount}/role/{name}", body | options)


def _encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")
