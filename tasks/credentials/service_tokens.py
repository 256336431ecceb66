"""Logins with a signed token: a pod's projected service-account token (Kubernetes), a CI system's (JWT; vault.md §2, §4).

A kubelet renews a projected token in its file; so the file is read at each login, and read once more when Vault refuses the token.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hvac
from hvac import exceptions

from migrator import errors
from tasks.credentials.secret_files import content
from tasks.settings import Settings


def kubernetes(client: hvac.Client, settings: Settings) -> Any:
    """Logs in with the service account's token; Vault asks the cluster whose token it is (TokenReview)."""

    def log_in(token: str) -> Any:
        return client.auth.kubernetes.login(settings.vault_kubernetes_role, token, mount_point=settings.vault_kubernetes_mount)

    return _with_newest(settings.vault_kubernetes_token_file, "GREYLAG_VAULT_KUBERNETES_TOKEN_FILE", settings.vault_audience, log_in)


def jwt(client: hvac.Client, settings: Settings) -> Any:
    """Logs in with a token whose signature Vault verifies itself."""
    if settings.vault_jwt_file is None:
        raise errors.UsageError(
            "a JWT login needs a token", code="vault-settings", hint="GREYLAG_VAULT_JWT_FILE names the file that holds it"
        )

    def log_in(token: str) -> Any:
        return client.auth.jwt.jwt_login(role=settings.vault_jwt_role, jwt=token, path=settings.vault_jwt_mount)

    return _with_newest(settings.vault_jwt_file, "GREYLAG_VAULT_JWT_FILE", settings.vault_audience, log_in)


def _with_newest(path: Path, variable: str, audience: str, log_in: Callable[[str], Any]) -> Any:
    """Logs in with the file's token, and once more if the file holds another token after Vault has refused the first."""
    token = content(path, variable)
    require_audience(token, audience, variable)
    try:
        return log_in(token)
    except (exceptions.InvalidRequest, exceptions.Forbidden):
        newer = content(path, variable)
        if newer == token:
            raise
        require_audience(newer, audience, variable)
        return log_in(newer)


def require_audience(token: str, audience: str, variable: str) -> None:
    """Raises UsageError when a token isn't for an audience. A pod's default token is for the API server, and whoever receives it can use it there.

    Vault verifies the signature; only the claim is read here. An empty audience allows every token.
    """
    if not audience:
        return
    found = audiences(token)
    if found is None:
        raise errors.UsageError(f"the file of {variable} holds no signed token", code="vault-token", hint=f"correct {variable}")
    if audience not in found:
        raise errors.UsageError(
            f'the token in the file of {variable} is for {", ".join(found) or "nobody"}, not for "{audience}"; it was not sent',
            code="vault-audience",
            hint=f"project a token with `serviceAccountToken: {{audience: {audience}, path: token}}` and name its file, or correct GREYLAG_VAULT_AUDIENCE",
        )


def audiences(token: str) -> tuple[str, ...] | None:
    """Returns the `aud` claim of a JWT; None when the text is no JWT. Verifies nothing."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    found = claims.get("aud", ()) if isinstance(claims, dict) else ()
    return (found,) if isinstance(found, str) else tuple(str(item) for item in found if isinstance(item, str))
