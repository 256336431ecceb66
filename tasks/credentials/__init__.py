"""Step 1: a database's credentials, as an unpersisted value whose password prints as stars.

The only package that imports hvac. `secret.py` reads a secret's data (pure), `terms.py` says when what lives is renewed (pure), `refusals.py` what
each of Vault's answers means (pure). `logins.py` holds the ways to log in, `vault.py` is the client, `dynamic.py` takes short-lived logins,
`mounted.py` reads what Kubernetes brings. `session.py` holds all of it for one run.
"""

from __future__ import annotations

from migrator import errors
from tasks.credentials.secret import Credentials
from tasks.credentials.session import Session
from tasks.fleet.models import Target
from tasks.settings import Settings, load
from tasks.sources import SourceKind

__all__ = ["Credentials", "Session", "fetch"]


def fetch(target: Target, settings: Settings | None = None, session: Session | None = None) -> Credentials:
    """A target's credentials; every value that is secret is registered with the redaction filter.

    Args:
        session: the run's, which keeps short-lived credentials alive. Without one they can't be had: they would end before they are used.

    Raises:
        NotFound: the secret never existed, was deleted or destroyed, or lacks a key (`secret-missing`, `secret-deleted`, `secret-destroyed`,
            `key-missing`); there is no such mount or role (`mount-missing`, `mount-kind`, `role-missing`).
        LoginFailed: Vault knows the caller not, or not for this path, or its certificate is not trusted.
        UsageError: an address, a file or a token that can't be used.
        Unavailable: sealed, unreachable, rate-limited, without a leader.
    """
    if session is not None:
        return session.current()
    if target.source.kind is SourceKind.DYNAMIC:
        raise errors.UsageError(
            f"{target.label}: its credentials are short-lived, and nothing here keeps them alive",
            code="credentials-dynamic",
            hint="start the flow (`prefect deployment run deploy-service/…`)",
        )
    with Session(target, settings or load()) as alone:
        return alone.current()
