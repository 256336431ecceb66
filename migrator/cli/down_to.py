"""`down-to`: rolls back until the given version is the current one."""

from __future__ import annotations

from migrator.cli import migrating
from migrator.cli.session import Session
from migrator.targets import Verb


def run(session: Session) -> int:
    """Runs the verb; returns the exit code."""
    return migrating.run(session, Verb.DOWN_TO)
