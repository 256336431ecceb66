"""`verify`: are the files' checksums recorded, and is everything there that they leave behind? Reads only."""

from __future__ import annotations

from migrator import verification
from migrator.cli.session import Session


def run(session: Session) -> int:
    """Verifies. Raises VerificationFailed (16) with every problem."""
    migrations = session.load()
    with session.open() as database:
        found = verification.verify(database, migrations, session.invocation.env)
    session.document.update(found.document())
    for item in found.not_checked:
        session.own(f"not checked: {item}")
    found.raise_for_failure()
    session.own(f"verified: version {found.current}, {found.checked} object(s) checked, bundle {found.bundle[:12]}")
    return 0
