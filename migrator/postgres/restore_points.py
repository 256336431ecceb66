"""A named place in the write-ahead log, to which a backup can be recovered (`recovery_target_name`)."""

from __future__ import annotations

from migrator import errors
from migrator.engines import RestorePoint
from migrator.postgres import failures
from migrator.postgres.session import Session

_LONGEST_NAME = 63
"""PostgreSQL's MAXFNAMELEN less its end: longer names are refused."""

_WRONG_STATE = "55000"
"""object_not_in_prerequisite_state: wal_level is minimal, or the server is in recovery."""


def create(session: Session, name: str) -> RestorePoint:
    """Asks for the restore point; where that is not possible, says why. Raises only for failures that concern more than the restore point."""
    chosen = name.encode("utf-8")[:_LONGEST_NAME].decode("utf-8", "ignore")
    try:
        found = session.query("SELECT pg_catalog.pg_create_restore_point($1)", chosen)
    except failures.ServerFailure as failure:
        if failure.sqlstate == failures.INSUFFICIENT_PRIVILEGE:
            return RestorePoint(
                chosen, reason="the role may not: GRANT EXECUTE ON FUNCTION pg_catalog.pg_create_restore_point(text) TO it allows it"
            )
        if failure.sqlstate == _WRONG_STATE:
            return RestorePoint(chosen, reason=failure.message)
        if issubclass(failures.classify(failure)[0], errors.StatementRejected):  # a compatible server without the function
            return RestorePoint(chosen, reason=failure.message)
        raise failures.of_server(failure, "to create the restore point") from None
    return RestorePoint(chosen, position=found[0][0] or "")
