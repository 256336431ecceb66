"""Files that hold one secret: a token, a secret id, or a wrapping token that holds a secret id (response wrapping).

A wrapping token gives the secret id once. Whoever reads the file after this process gets nothing; and if somebody else used it first, this process
notices, because it gets nothing. The secret id stays in this process's memory: a run of several services logs in several times.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path

import hvac
from hvac import exceptions
from pydantic import SecretStr

from migrator import errors
from tasks import redaction

_VARIABLE = "GREYLAG_VAULT_WRAPPED_SECRET_ID_FILE"
_GONE = "wrapping token is not valid or does not exist"


_guard = threading.Lock()
_unwrapped: dict[str, SecretStr] = {}
"""Wrapping token -> secret id, kept for as long as the file holds the same token."""


def content(path: Path, variable: str) -> str:
    """Returns a secret's text from its file, without the line break that editors and `echo` leave at its end; registers it for redaction.

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


def secret_id(client: hvac.Client, token: str, mount: str) -> SecretStr:
    """Returns the secret id that a wrapping token holds; a token is unwrapped once in the life of this process.

    Takes the arguments of `unwrap`, and raises as it does.
    """
    with _guard:
        if token not in _unwrapped:
            _unwrapped.clear()
            _unwrapped[token] = unwrap(client, token, mount)
        return _unwrapped[token]


def unwrap(client: hvac.Client, token: str, mount: str) -> SecretStr:
    """Unwraps a wrapping token, which uses it up.

    The token is looked up before it is used: one that was not made by a role's `secret-id` endpoint may be an attacker's, put there in place of the
    real one.

    Args:
        mount: where AppRole is mounted.

    Raises:
        LoginFailed: `vault-wrapping-used` (used already, or expired), `vault-wrapping-foreign`. Whatever hvac raises passes through.
    """
    try:
        made_by = str(client.adapter.post("/v1/sys/wrapping/lookup", json={"token": token})["data"]["creation_path"])
        if not re.fullmatch(rf"auth/{re.escape(mount.strip('/'))}/role/[^/]+/secret-id", made_by):
            raise errors.LoginFailed(
                f'the wrapping token of {_VARIABLE} was made by "{made_by}", not by an AppRole\'s secret-id endpoint',
                code="vault-wrapping-foreign",
                hint="find out who wrote that file; then have a new one delivered",
            )
        client.token = token  # no login has happened yet, and a wrapping token may unwrap itself
        found = SecretStr(client.sys.unwrap()["data"]["secret_id"])
    except exceptions.InvalidRequest as error:
        if _GONE not in str(error):
            raise
        raise errors.LoginFailed(
            f"the wrapping token of {_VARIABLE} was used already, or has expired",
            code="vault-wrapping-used",
            hint="if no earlier run of yours used it, somebody else did: destroy that secret id. Then deliver a new one:"
            f" `vault write -wrap-ttl=5m -f auth/{mount}/role/ROLE/secret-id`",
        ) from None
    finally:
        client.token = ""
    redaction.register(found.get_secret_value())
    return found
