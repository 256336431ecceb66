"""`up-by-one`: the next pending migration; ends with 1 when none is left, as in goose."""

from __future__ import annotations

from migrator.cli import migrating
from migrator.cli.session import Session
from migrator.targets import Verb


def run(session: Session) -> int:
    """Runs the verb; returns the exit code."""
    return migrating.run(session, Verb.UP_BY_ONE)
