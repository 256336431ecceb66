"""Between two files the session is what it was when the run began (docs/concepts/session.md).

A file may leave something in its session: settings, a role, temporary tables, prepared statements, cursors, channels that it listens to, numbers that a
sequence has set aside for it. The next file would then mean another thing in one run with it than in a run of its own. So before a file begins,
what files before it may have left is taken away, in the same round trip, and only where they may have left anything (`readings`):

    BEGIN  SET SESSION AUTHORIZATION DEFAULT  RESET ROLE  RESET ALL  …  the run's own role and settings  COMMIT      `opening`
    BEGIN  the file's statements …

It is a transaction of its own: the file's may begin with SET TRANSACTION, which nothing may precede, and its rollback takes nothing of this back. DISCARD
ALL isn't used, because it gives up every advisory lock, the migration lock among them.

What no command takes back stays until the run ends: a library that was loaded, advisory locks of the session, the seed of random(), and that a parameter of the
file's own (`SET app.name`) is empty afterwards instead of unknown.
"""

from __future__ import annotations

from migrator.planning import plans
from migrator.postgres import failures
from migrator.postgres.pipelines import Message
from migrator.postgres.reading import readings
from migrator.postgres.session import Session

_BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
"""Said in full: a file may have changed the defaults."""

_DEALLOCATE = Message(
    b"DO $$DECLARE n text; BEGIN FOR n IN SELECT p.name FROM pg_catalog.pg_prepared_statements AS p WHERE p.from_sql LOOP"
    b" EXECUTE pg_catalog.format('DEALLOCATE %I', n); END LOOP; END$$"
)
"""Leaves greylag's own, which come from the protocol: to prepare the one that records a file again costs as much as a small file."""

_DEALLOCATE_ALL = Message(b"DEALLOCATE ALL", forgets=True)

_TAKEN_AWAY = (
    Message(_BEGIN),
    Message(b"SET SESSION AUTHORIZATION DEFAULT"),
    Message(b"RESET ROLE"),
    Message(b"RESET ALL"),
    Message(b"SET LOCAL synchronous_commit = off"),  # dropped temporary tables are worth no wait for the disk
    Message(b"CLOSE ALL"),
    Message(b"UNLISTEN *"),
    Message(b"DISCARD TEMP"),
    Message(b"DISCARD SEQUENCES"),
)


def opening(session: Session, step: plans.Step, *, watched: bool) -> list[Message]:
    """Returns what is sent before a step's first message, and notes whether the step may leave something in its turn. `watched`: event triggers run code
    at any statement."""
    found = messages(session)
    session.changed = readings.of(step).leaves or watched
    return found


def messages(session: Session) -> list[Message]:
    """Returns what makes the session what it was at the run's start; nothing where no file may have changed it."""
    if not session.changed:
        return []
    session.changed = session.timeouts_touched = False
    deallocate = _DEALLOCATE if session.runs_blocks else _DEALLOCATE_ALL
    return [*_TAKEN_AWAY, deallocate, *(Message(text.encode()) for text in session.settings), Message(b"COMMIT")]


def restore(session: Session) -> None:
    """Makes the session at once what it was at the run's start. Raises what the connection raises."""
    wanted = messages(session)
    if wanted:
        try:
            session.batch(wanted)
        except failures.ServerFailure as failure:
            session.rollback()
            raise failures.of_server(failure, "to restore the session") from None
