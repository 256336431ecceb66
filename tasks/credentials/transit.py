"""Vault's transit engine: signs and verifies with an ed25519 key that never leaves it. A worker's policy allows `update` on exactly its own path."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import TypeVar

import hvac

from migrator import errors
from tasks.credentials import logins
from tasks.credentials.refusals import Asked
from tasks.credentials.vault import Vault
from tasks.settings import Settings

_Answer = TypeVar("_Answer")

_SIGNATURE = re.compile(r"vault:(?P<version>v\d+):(?P<value>.+)")
"""How Vault writes a signature: its mark, the key's version, the signature in base64."""


def sign(content: bytes, key: str, mount: str, settings: Settings) -> tuple[str, str]:
    """Returns the version of the key (`v1`) and the signature in base64. Raises as `credentials.fetch`, UsageError (`signing-failed`)."""

    def call(client: hvac.Client) -> str:
        given = base64.b64encode(content).decode("ascii")
        answer = client.secrets.transit.sign_data(name=key, hash_input=given, mount_point=mount)
        return str(answer["data"]["signature"])

    answer = _SIGNATURE.fullmatch(_asked(call, f"{mount}/sign/{key}", settings))
    if answer is None:
        raise errors.UsageError(
            f"Vault's answer to {mount}/sign/{key} is no signature", code="signing-failed", hint="the key's type has to be ed25519"
        )
    return answer["version"], answer["value"]


def verify(content: bytes, version: str, signature: str, key: str, mount: str, settings: Settings) -> bool:
    """Tells whether a version of the key (`v1`) made the signature. Raises as `credentials.fetch`."""

    def call(client: hvac.Client) -> bool:
        given = base64.b64encode(content).decode("ascii")
        answer = client.secrets.transit.verify_signed_data(
            name=key, hash_input=given, signature=f"vault:{version}:{signature}", mount_point=mount
        )
        return answer["data"]["valid"] is True

    return _asked(call, f"{mount}/verify/{key}", settings)


def _asked(call: Callable[[hvac.Client], _Answer], path: str, settings: Settings) -> _Answer:
    with Vault(settings, logins.choose(settings)) as vault:
        return vault.ask(call, Asked(f"asking Vault for {path}", settings, path=path, capability="update"))
