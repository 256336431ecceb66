"""What a transaction notes about itself before it commits: its ids, and what it removed (facts.md §1).

The rows of the catalogue that a transaction wrote carry its id (`xmin`), for as long as nobody writes them again. So the ids are enough to describe
later what it made. What it removed has no row any more, but keeps its lock until COMMIT.
"""

from __future__ import annotations

from collections.abc import Sequence

from migrator.planning.schema_facts import COMMENTS_REMOVED

_GONE = f"""coalesce(pg_catalog.array_remove(pg_catalog.array_agg(CASE k.locktype WHEN 'object' THEN k.classid || ':' || k.objid ELSE '1259:' || k.relation END)
  FILTER (WHERE k.mode = 'AccessExclusiveLock' AND (k.locktype = 'object'
    OR k.locktype = 'relation' AND NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = k.relation)))
  || CASE WHEN pg_catalog.pg_stat_get_xact_tuples_deleted(2609) > 0 THEN '{COMMENTS_REMOVED}' END, NULL), '{{}}')"""

_OF_BACKEND = "k.pid = pg_catalog.pg_backend_pid() AND k.locktype IN ('transactionid', 'object', 'relation')"

SHALLOW = f"""(SELECT coalesce(pg_catalog.array_agg(k.transactionid) FILTER (WHERE k.locktype = 'transactionid' AND k.mode = 'ExclusiveLock'), '{{}}') AS xids,
  {_GONE} AS gone FROM pg_catalog.pg_locks AS k WHERE {_OF_BACKEND})"""
"""A row of `xids` and `gone`, of a transaction that opened no subtransaction. (One that has written nothing has no id.)"""

OWN_ID = "(SELECT ARRAY[pg_catalog.pg_current_xact_id()::xid] AS xids, '{}'::text[] AS gone)"
"""The same row for a transaction that has removed nothing: its id alone. It is also that of one which has written nothing yet, whose id only separates
what came before it from what comes after."""

_OF_LOCKED = {
    "pg_attribute": "attrelid",
    "pg_attrdef": "adrelid",
    "pg_constraint": "conrelid",
    "pg_index": "indrelid",
    "pg_trigger": "tgrelid",
    "pg_rewrite": "ev_class",
    "pg_policy": "polrelid",
    "pg_inherits": "inhrelid",
    "pg_sequence": "seqrelid",
}
"""Catalogues that grow with the tables: read of the relations only that the transaction has locked against others' changes."""

_WHOLE = (
    "pg_class",
    "pg_proc",
    "pg_type",
    "pg_enum",
    "pg_namespace",
    "pg_extension",
    "pg_description",
    "pg_statistic_ext",
    "pg_collation",
    "pg_cast",
    "pg_operator",
    "pg_default_acl",
    "pg_publication",
    "pg_event_trigger",
    "pg_opclass",
    "pg_opfamily",
    "pg_conversion",
    "pg_ts_config",
    "pg_ts_dict",
    "pg_foreign_server",
    "pg_foreign_data_wrapper",
    "pg_language",
)

_OWN = """pg_catalog.age(x.xmin) <= 0
  AND pg_catalog.pg_xact_status((pg_catalog.pg_current_xact_id()::text::bigint - pg_catalog.age(x.xmin))::text::xid8) = 'in progress'"""
"""The condition that a visible row was written by this very transaction or a subtransaction of it: of work in progress only one's own is visible.
(`age` counts back from the transaction's own id, which makes it a cheap first filter.)"""

_LOCKED = """(SELECT k.relation FROM pg_catalog.pg_locks AS k WHERE k.pid = pg_catalog.pg_backend_pid() AND k.locktype = 'relation' AND k.relation >= 16384
  AND k.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))"""

_ROWS = " UNION ALL ".join(
    [f"SELECT x.xmin FROM pg_catalog.{name} AS x WHERE x.{column} IN {_LOCKED} AND {_OWN}" for name, column in _OF_LOCKED.items()]
    + [f"SELECT x.xmin FROM pg_catalog.{name} AS x WHERE {_OWN}" for name in _WHOLE]
    + ["SELECT pg_catalog.pg_current_xact_id()::xid"]
)

DEEP = f"""(SELECT coalesce((SELECT pg_catalog.array_agg(w.xmin) FROM (SELECT r.xmin FROM ({_ROWS}) AS r GROUP BY 1) AS w), '{{}}') AS xids,
  {_GONE} AS gone FROM pg_catalog.pg_locks AS k WHERE {_OF_BACKEND})"""
"""The same row for a transaction that may have opened subtransactions: its own id, and those that left a row in a catalogue. (A subtransaction's lock is
given up when it ends, so the locks don't tell its id.)"""

_ANYTHING = " UNION ALL ".join(f"SELECT x.xmin, true AS plain FROM pg_catalog.{name} AS x" for name in (*_OF_LOCKED, *_WHOLE))
_INDEXES = (
    "SELECT x.xmin, x.relkind IN ('i', 'I') AS plain FROM pg_catalog.pg_class AS x UNION ALL SELECT x.xmin, true FROM pg_catalog.pg_index AS x"
    " UNION ALL SELECT x.xmin, true FROM pg_catalog.pg_constraint AS x"
)


def of_indexes(oids: Sequence[int]) -> str:
    """Returns SQL for the same of statements that made these indexes: the ids that wrote their rows."""
    listed = ", ".join(map(str, oids))
    rows = (
        f"SELECT x.xmin FROM pg_catalog.pg_class AS x WHERE x.oid IN ({listed})"
        f" UNION SELECT x.xmin FROM pg_catalog.pg_index AS x WHERE x.indexrelid IN ({listed})"
    )
    return f"(SELECT coalesce((SELECT pg_catalog.array_agg(r.xmin) FROM ({rows}) AS r), '{{}}') AS xids, '{{}}'::text[] AS gone)"


def between(since: str, gone: str, *, indexes: bool) -> str:
    """Returns SQL for the same of work that committed by itself: every id that left a row after the transaction `since` (SQL) and before this one.

    Args:
        gone: SQL for an array of places that may have been removed.
        indexes: whether it can only have been indexes and keys; an id that wrote a table's row is then another session's.
    """
    rows = _INDEXES if indexes else _ANYTHING
    return (
        f"(SELECT coalesce((SELECT pg_catalog.array_agg(w.xmin) FROM (SELECT r.xmin FROM ({rows}) AS r"
        f" WHERE pg_catalog.age(r.xmin) >= 0 AND pg_catalog.age(r.xmin) < pg_catalog.age({since}) GROUP BY 1"
        f" HAVING pg_catalog.bool_and(r.plain)) AS w), '{{}}') AS xids, coalesce({gone}, '{{}}') AS gone)"
    )
