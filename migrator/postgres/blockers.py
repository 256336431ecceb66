"""Who was in the way of a statement that did not get its lock: found right after, from the locks that others hold."""

from __future__ import annotations

from dataclasses import dataclass

from migrator.postgres import failures
from migrator.postgres.reading.lock_classes import LockClass
from migrator.postgres.session import Session

_WRITING_MODES = "'RowExclusiveLock','ShareUpdateExclusiveLock','ShareLock','ShareRowExclusiveLock','ExclusiveLock','AccessExclusiveLock'"
_ALL_MODES = f"'AccessShareLock','RowShareLock',{_WRITING_MODES}"

_QUERY = """SELECT l.pid, a.application_name, a.usename, a.state, a.usesysid IS NULL AND l.mode = 'ShareUpdateExclusiveLock',
  pg_catalog.round(extract(epoch FROM pg_catalog.clock_timestamp() - coalesce(a.xact_start, a.query_start))::numeric, 1),
  n.nspname, c.relname, c.relkind
FROM pg_catalog.pg_locks AS l
JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND l.mode IN ({modes}) AND n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema')
ORDER BY pg_catalog.strpos(pg_catalog.lower($1), pg_catalog.lower(c.relname)) = 0, a.xact_start NULLS LAST
LIMIT 1"""
"""Of all who hold a conflicting lock, one on a table that the statement names comes first, then the oldest transaction. The words of the
statement are compared on the server as plain text, so that names in any quoting are found."""


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session that held what a statement waited for. `relation` is quoted, with its schema; "" when nothing was to be seen."""

    text: str
    relation: str = ""
    is_autovacuum: bool = False


UNSEEN = Blocker("a transaction that has just ended")


def find(session: Session, statement: str, lock: LockClass) -> Blocker:
    """Names the most likely blocker of a statement that has just failed; never raises for what can't be seen."""
    modes = _ALL_MODES if lock is LockClass.EVERYONE else _WRITING_MODES
    try:
        rows = session.query(_QUERY.format(modes=modes), statement.replace("\0", ""))
    except failures.ServerFailure:
        return UNSEEN
    if not rows:
        return UNSEEN
    pid, application, user, state, unowned, age, schema, name, kind = (item or "" for item in rows[0])
    relation = _quoted(schema, name)
    if not pid:
        return Blocker(f"a prepared transaction that holds {schema}.{name} (see pg_prepared_xacts)", relation)
    # whose backend it is, only superusers are told; but of all sessions without a user only an autovacuum worker holds this lock
    is_autovacuum = unowned == "t"
    who = "autovacuum worker" if is_autovacuum else application or "no application_name"
    since = f", its transaction {age} s old" if age else ""
    text = f"pid {pid} ({who}{f', user {user}' if user else ''}, {state or 'state not visible'}{since}) on {schema}.{name}"
    return Blocker(text, relation if kind in "rp" else "", is_autovacuum)


def _quoted(schema: str, name: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in (schema, name))
