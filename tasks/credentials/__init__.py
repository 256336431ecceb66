"""Step 1: a database's credentials, as an unpersisted value whose password prints as stars.

The only package that imports hvac. `source.py` says what a source is and reads a secret's data (pure), `sources.py` is the table of the kinds, each of
which has a file of its own (`kv.py`, `dynamic.py`, `mounted.py`). `vault.py` is Vault's client, `logins.py` holds the ways to log in, `refusals.py` what
each of Vault's answers means (pure); `leases.py` takes short-lived logins, `terms.py` says when what lives is renewed (pure), and `lifetimes.py` keeps it
alive for one run.
"""

from __future__ import annotations

from migrator import errors
from tasks.credentials.lifetimes import LifetimeWatcher
from tasks.credentials.source import Credentials, Wanted
from tasks.settings import Settings, load

__all__ = ["Credentials", "LifetimeWatcher", "fetch"]


def fetch(target: Wanted, settings: Settings | None = None, watcher: LifetimeWatcher | None = None) -> Credentials:
    """A target's credentials; every value that is secret is registered with the redaction filter.

    Args:
        watcher: the run's, which keeps short-lived credentials alive. Without one they can't be had: they would end before they are used.

    Raises:
        NotFound: the secret never existed, was deleted or destroyed, or lacks a key (`secret-missing`, `secret-deleted`, `secret-destroyed`,
            `key-missing`); there is no such mount or role (`mount-missing`, `mount-kind`, `role-missing`).
        LoginFailed: Vault knows the caller not, or not for this path, or its certificate is not trusted.
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
