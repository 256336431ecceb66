"""Step 1: a database's credentials from Vault (KV version 2), as an unpersisted value whose password prints as stars.

The only package that imports hvac. `secret.py` reads a secret's data (pure), `refusals.py` says what each of Vault's answers means (pure),
`logins.py` holds the ways to log in, `vault.py` is the client.
"""

from __future__ import annotations

from tasks import redaction
from tasks.credentials.secret import Credentials
from tasks.fleet_models import Target
from tasks.settings import Settings, load

__all__ = ["Credentials", "fetch"]


def fetch(target: Target, settings: Settings | None = None) -> Credentials:
    """Reads a target's credentials; every value that is secret is registered with the redaction filter.

    Raises:
        NotFound: the secret never existed, was deleted or destroyed, or lacks a key (`secret-missing`, `secret-deleted`, `secret-destroyed`,
            `key-missing`).
        LoginFailed: Vault knows the caller not, or not for this path, or its certificate is not trusted.
        UsageError: an address, a file or a token that can't be used.
        Unavailable: sealed, unreachable, rate-limited, without a leader.
    """
    from tasks.credentials import vault

    found = vault.read(target, settings or load())
    redaction.register(found.password.get_secret_value())
    return found
