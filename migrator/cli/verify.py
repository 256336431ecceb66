"""`verify`: are the files' checksums recorded, and is everything as the versions made it? Reads only.

For `@environment/service` it is the recipe's whole verification section: the migration Job and its logs, the workload, the status, the tables.
"""

from __future__ import annotations

from migrator import verification
from migrator.cli import status
from migrator.cli.session import Session


def run(session: Session) -> int:
    """Verifies.

    Raises VerificationFailed (16) with every problem. Where the database is as it should be, what was wrong around it is raised instead.
    """
    migrations = session.load()
    problem = None
    if session.invocation.observe is not None:
        around = session.invocation.observe()
        session.document.update(around.document)
        for line in around.lines:
            session.own(line)
        problem = around.problem
    with session.open() as database:
        if session.invocation.label:
            session.document["status"] = status.show(session, database.read_history(), migrations)
        found = verification.verify(database, migrations, session.invocation.env, strict=session.values.boolean("strict"))
    session.document.update(found.document())
    for line in found.remarks():
        session.own(line)
    found.raise_for_failure()
    session.own(f"verified: version {found.current}, {found.checked} object(s) checked, bundle {found.bundle[:12]}")
    if problem is not None:
        raise problem
    return 0
