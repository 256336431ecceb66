"""Step 1: a database's credentials, as a value that is never persisted and whose password prints as stars.

The only package that imports hvac. `source.py` defines a source of credentials and reads a secret's data (pure), `sources.py` is the table of the kinds,
each of which has a file of its own (`kv.py`, `dynamic.py`, `mounted.py`). `vault.py` is Vault's client, `logins.py` holds the ways to log in,
`refusals.py` turns each of Vault's answers into an error (pure). `leases.py` takes short-lived logins, `terms.py` says when a token or a lease is
renewed (pure), and `lifetimes.py` keeps both alive for one run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator import errors
from tasks.credentials.lifetimes import LifetimeWatcher
from tasks.credentials.source import Credentials, Wanted
from tasks.settings import Settings, load

if TYPE_CHECKING:
    from tasks.credentials.vault import Clients

__all__ = ["Credentials", "LifetimeWatcher", "fetch", "shared_logins", "version"]


def fetch(target: Wanted, settings: Settings | None = None, watcher: LifetimeWatcher | None = None) -> Credentials:
    """Returns a target's credentials, and registers every secret value with the redaction filter.

    Args:
        watcher: the run's, which keeps short-lived credentials alive. Without one they are refused: they would end before they are used.

    Raises:
        NotFound: the secret never existed, was deleted or destroyed, or lacks a key (`secret-missing`, `secret-deleted`, `secret-destroyed`,
            `key-missing`); there is no such mount or role (`mount-missing`, `mount-kind`, `role-missing`).
        LoginFailed: Vault doesn't accept the login, or doesn't allow this path, or its certificate is not trusted.
        UsageError: an address, a file or a token that can't be used.
        Unavailable: sealed, unreachable, rate-limited, without a leader.
    """
    if watcher is not None:
        return watcher.current()
    if target.source.short_lived:
        raise errors.UsageError(
            f"{target.label}: its credentials are short-lived, and nothing here keeps them alive",
            code="credentials-dynamic",
            hint="start the flow (`prefect deployment run deploy-service/…`)",
        )
    with LifetimeWatcher(target, settings or load()) as alone:
        return alone.current()


def version(target: Wanted, settings: Settings) -> int:
    """Returns the version that the target's secret has in Vault now; 0 where its credentials have none. Raises as `fetch`."""
    if "kv" not in target.source.policies:
        return 0
    from tasks.credentials import vault

    return vault.read(target, settings)[1]


def shared_logins(settings: Settings) -> Clients:
    """Returns clients of Vault that many targets' watchers may share as their `reader`; a context manager, which logs in when it is first asked."""
    from tasks.credentials import vault

    return vault.Clients(settings)
