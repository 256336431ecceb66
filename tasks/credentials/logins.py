"""The ways to log in to Vault. `choose` picks one from the settings; a `Login` gives the client a token each time it is asked.

Files are read again at every login, because a kubelet, an agent or a person renews them. Another way to log in is one more function and one more line
in `choose`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import hvac
from pydantic import SecretStr

from migrator import errors
from tasks import redaction
from tasks.credentials import secret_files, service_tokens
from tasks.credentials.secret_files import content
from tasks.settings import Settings


@dataclass(frozen=True, slots=True)
class Login:
    """A way to log in.

    Attributes:
        name: how messages call it.
        remedy: what to check when Vault refuses it.
        own_token: whether the token is made for this run alone and is to be revoked at its end.
        ambiguous: whether a bare "permission denied" may be a transient fault (vault.md §2: Kubernetes' API server is down).
    """

    name: str
    remedy: str
    _perform: Callable[[hvac.Client, Settings], Any]
    own_token: bool = True
    ambiguous: bool = False

    def perform(self, client: hvac.Client, settings: Settings) -> Mapping[str, Any]:
        """Gives the client a fresh token, and returns Vault's words about it (`lease_duration`, `renewable`); an empty mapping for a token that was configured.

        Raises UsageError (for a file or a setting) and whatever hvac raises.
        """
        client.token = ""  # a login with an expired token in its header would be refused for that token
        answer = self._perform(client, settings)
        redaction.register(client.token)
        return answer["auth"] if answer else {}


def choose(settings: Settings) -> Login:
    """Returns the way to log in that the settings ask for: Kubernetes, JWT or AppRole (one of them), else a token file, else a token.

    Raises UsageError (`vault-settings`) when they ask for none, or for two.
    """
    roles = {
        "GREYLAG_VAULT_KUBERNETES_ROLE": settings.vault_kubernetes_role,
        "GREYLAG_VAULT_JWT_ROLE": settings.vault_jwt_role,
        "GREYLAG_VAULT_ROLE_ID": settings.vault_role_id,
    }
    given = [name for name, value in roles.items() if value]
    if len(given) > 1:
        raise errors.UsageError(
            f"{' and '.join(given)} are both set: two ways to log in", code="vault-settings", hint="unset all but one of them"
        )
    if settings.vault_kubernetes_role:
        return Login("Kubernetes", _KUBERNETES, service_tokens.kubernetes, ambiguous=True)
    if settings.vault_jwt_role:
        return Login("JWT", _JWT, service_tokens.jwt)
    if settings.vault_role_id:
        return Login("AppRole", _APPROLE, _approle)
    if settings.vault_token_file is not None:
        return Login("token file", _TOKEN, _token_file, own_token=False)
    if settings.vault_token is not None:
        return Login("token", _TOKEN, _token, own_token=False)
    raise errors.UsageError(
        "no way to log in to Vault is configured",
        code="vault-settings",
        hint="set GREYLAG_VAULT_KUBERNETES_ROLE, GREYLAG_VAULT_JWT_ROLE, GREYLAG_VAULT_ROLE_ID or GREYLAG_VAULT_TOKEN_FILE"
        " (or VAULT_TOKEN on a developer's machine)",
    )


_KUBERNETES = "check GREYLAG_VAULT_KUBERNETES_ROLE and GREYLAG_VAULT_KUBERNETES_MOUNT, and which service accounts, namespaces and audience the role is bound to"
_JWT = "check GREYLAG_VAULT_JWT_ROLE, GREYLAG_VAULT_JWT_MOUNT and the token in GREYLAG_VAULT_JWT_FILE: who signed it, for which audience, until when"
_APPROLE = "check GREYLAG_VAULT_ROLE_ID, GREYLAG_VAULT_APPROLE_MOUNT and the secret id: used up, expired, or of another role"
_TOKEN = "check the token in GREYLAG_VAULT_TOKEN_FILE, GREYLAG_VAULT_TOKEN or VAULT_TOKEN"


def _approle(client: hvac.Client, settings: Settings) -> Any:
    return client.auth.approle.login(
        settings.vault_role_id, _secret_id(client, settings).get_secret_value(), mount_point=settings.vault_approle_mount
    )


def _secret_id(client: hvac.Client, settings: Settings) -> SecretStr:
    if settings.vault_wrapped_secret_id_file is not None:
        token = content(settings.vault_wrapped_secret_id_file, "GREYLAG_VAULT_WRAPPED_SECRET_ID_FILE")
        return secret_files.secret_id(client, token, settings.vault_approle_mount)
    if settings.vault_secret_id_file is None:
        raise errors.UsageError(
            "AppRole needs a secret id",
            code="vault-settings",
            hint="GREYLAG_VAULT_SECRET_ID_FILE names the file that holds it, GREYLAG_VAULT_WRAPPED_SECRET_ID_FILE one with a wrapping token",
        )
    return SecretStr(content(settings.vault_secret_id_file, "GREYLAG_VAULT_SECRET_ID_FILE"))


def _token_file(client: hvac.Client, settings: Settings) -> None:
    assert settings.vault_token_file is not None
    client.token = content(settings.vault_token_file, "GREYLAG_VAULT_TOKEN_FILE")


def _token(client: hvac.Client, settings: Settings) -> None:
    assert settings.vault_token is not None
    client.token = settings.vault_token.get_secret_value().strip()
