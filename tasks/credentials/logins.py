"""The ways to log in to Vault. Each is a function that gives the client a token; `choose` picks one from the settings.

Another way (a projected service-account token, JWT) is one more function and one more line in `choose`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import hvac

from migrator import errors
from tasks import redaction
from tasks.settings import Settings


@dataclass(frozen=True, slots=True)
class Login:
    """A way to log in. `own_token` tells that the token was made for this run alone and is to be revoked at its end."""

    name: str
    perform: Callable[[hvac.Client, Settings], None]
    own_token: bool = False


def choose(settings: Settings) -> Login:
    """The way that the settings ask for: AppRole, a token file, a token.

    Raises UsageError (`vault-login`) when they ask for none.
    """
    if settings.vault_role_id:
        return Login("AppRole", _approle, own_token=True)
    if settings.vault_token_file is not None:
        return Login("token file", _token_file)
    if settings.vault_token is not None:
        return Login("token", _token)
    raise errors.UsageError(
        "no way to log in to Vault is configured",
        code="vault-login",
        hint="set GREYLAG_VAULT_TOKEN_FILE, or GREYLAG_VAULT_ROLE_ID and GREYLAG_VAULT_SECRET_ID_FILE (or VAULT_TOKEN on a developer's machine)",
    )


def _approle(client: hvac.Client, settings: Settings) -> None:
    if settings.vault_secret_id_file is None:
        raise errors.UsageError(
            "AppRole needs a secret id", code="vault-login", hint="GREYLAG_VAULT_SECRET_ID_FILE names the file that holds it"
        )
    secret_id = content(settings.vault_secret_id_file, "GREYLAG_VAULT_SECRET_ID_FILE")
    client.token = ""  # a login with an expired token in its header would be refused for that token
    client.auth.approle.login(settings.vault_role_id, secret_id, mount_point=settings.vault_approle_mount)
    redaction.register(client.token)


def _token_file(client: hvac.Client, settings: Settings) -> None:
    assert settings.vault_token_file is not None
    client.token = content(settings.vault_token_file, "GREYLAG_VAULT_TOKEN_FILE")


def _token(client: hvac.Client, settings: Settings) -> None:
    assert settings.vault_token is not None
    client.token = settings.vault_token.get_secret_value().strip()
    redaction.register(client.token)


def content(path: Path, variable: str) -> str:
    """A secret's text from its file, without the line break that editors and `echo` leave at its end; registered for redaction.

    Raises UsageError (`vault-token`) when the file can't be read, is empty or holds more than one word.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise errors.UsageError(f"{path} can't be read: {reason}", code="vault-token", hint=f"correct {variable}") from None
    redaction.register(text)
    if not text or len(text.split()) != 1:
        what = "is empty" if not text else "holds more than one word"
        raise errors.UsageError(f"{path} {what}", code="vault-token", hint=f"write the value alone into the file of {variable}")
    return text
