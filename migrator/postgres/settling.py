"""Statements that no transaction protects: what the catalogue holds before one runs, and what it says afterwards about an unknown outcome.

A run that was killed inside CREATE INDEX CONCURRENTLY leaves nothing, an invalid index or a finished one. Which, is settled by comparing OIDs
with those noted before the statement began: an index that was there before is never taken for ours, and never dropped.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from migrator.planning import journal
from migrator.planning.journal import Outcome
from migrator.postgres import failures
from migrator.postgres.pipelines import milliseconds
from migrator.postgres.reading import grammar, readings
from migrator.postgres.session import Session

_SWEEP_LOCK_TIMEOUT = 5000
"""Milliseconds that the dropping of an invalid index waits for old transactions; the next run tries again."""


@dataclass(frozen=True, slots=True)
class Verdict(journal.Verdict):
    """`leftovers` are OIDs of invalid indexes that the statement made; `finish` completes a half-done one."""

    leftovers: tuple[int, ...] = ()
    finish: str = ""


_REPEATABLE = frozenset({"VACUUM", "CHECKPOINT", "DISCARD", "CLUSTER", "ANALYZE", "ANALYSE"})

_CATALOGUED = {
    "DATABASE": "SELECT 1 FROM pg_catalog.pg_database WHERE datname = $1",
    "TABLESPACE": "SELECT 1 FROM pg_catalog.pg_tablespace WHERE spcname = $1",
    "SUBSCRIPTION": "SELECT 1 FROM pg_catalog.pg_subscription WHERE subname = $1"
    " AND subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
}
"""Objects whose CREATE and DROP run outside of transactions, and are whole or absent."""

_TABLE_INDEXES = "SELECT i.indexrelid, i.indisvalid FROM pg_catalog.pg_index AS i WHERE i.indrelid = pg_catalog.to_regclass($1)"
_INVALID_INDEXES = "SELECT i.indexrelid, i.indisvalid FROM pg_catalog.pg_index AS i WHERE NOT i.indisvalid"
_NAMED_INDEX = "SELECT i.indexrelid, i.indisvalid FROM pg_catalog.pg_index AS i WHERE i.indexrelid = pg_catalog.to_regclass($1)"


def before(session: Session, text: str) -> str:
    """Reads from the catalogue what will later help to settle the statement's outcome. Returns JSON, which is kept in the journal."""
    node = _node(text)
    if node is None:
        return ""
    kind, value = node
    if kind == "index_stmt":
        return json.dumps(sorted(_indexes(session, _TABLE_INDEXES, _name(value.relation))))
    if kind == "reindex_stmt":
        return json.dumps(sorted(_indexes(session, _INVALID_INDEXES)))
    if kind == "drop_stmt":
        return json.dumps(sorted(oid for name in _dropped(value) for oid in _indexes(session, _NAMED_INDEX, name)))
    return ""


def settle(session: Session, text: str, noted: str) -> Verdict:
    """Finds out the outcome of a statement that was begun. `noted` is what `before` returned then. Writes nothing."""
    known = frozenset(json.loads(noted)) if noted else frozenset()
    reading = readings.of_text(text)
    if reading.commands != 1:
        return Verdict(Outcome.UNKNOWN, "it holds several commands")
    if (reading.head and reading.head[0] in _REPEATABLE) or reading.head[:2] == ("ALTER", "SYSTEM"):
        return Verdict(Outcome.NOT_DONE, f"{reading.head[0]} can be repeated")
    if len(reading.head) > 1 and reading.head[1] in _CATALOGUED and reading.head[0] in ("CREATE", "DROP"):
        return _settle_catalogued(session, text, reading.head)
    node = _node(text)
    settler = _SETTLERS.get(node[0]) if node else None
    if node is None or settler is None:
        return Verdict(Outcome.UNKNOWN, "the catalogue keeps no trace of such a statement")
    return settler(session, node[1], known)


def sweep(session: Session, leftovers: tuple[int, ...], lock_timeout: float) -> list[str]:
    """Drops invalid indexes, found by OID; returns their names. What can't be dropped now stays for the next run. `lock_timeout` is the session's
    own, in seconds."""
    dropped: list[str] = []
    for oid in leftovers:
        rows = session.query(
            "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) FROM pg_catalog.pg_index AS i"
            " JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE i.indexrelid = $1 AND NOT i.indisvalid",
            oid,
        )
        if rows:
            session.query(f"SET lock_timeout = {_SWEEP_LOCK_TIMEOUT}")
            try:
                session.simple(f"DROP INDEX CONCURRENTLY {rows[0][0]}".encode("utf-8", "surrogateescape"))
                dropped.append(str(rows[0][0]))
            finally:
                with session.cleaning():
                    session.query(f"SET lock_timeout = {milliseconds(lock_timeout)}")
    return dropped


# --- kinds ------------------------------------------------------------------------------------------------------------------------


def _settle_index(session: Session, node: Any, known: frozenset[int]) -> Verdict:
    made = {oid: valid for oid, valid in _indexes(session, _TABLE_INDEXES, _name(node.relation)).items() if oid not in known}
    leftovers = tuple(oid for oid, valid in made.items() if not valid)
    if leftovers:
        return Verdict(Outcome.NOT_DONE, f"the index it made is invalid (oid {', '.join(map(str, leftovers))})", leftovers)
    if made:
        return Verdict(Outcome.DONE, f"the index it made is there and valid (oid {', '.join(map(str, made))})")
    return Verdict(Outcome.NOT_DONE, f"{_name(node.relation)} has no index that wasn't there before")


def _settle_reindex(session: Session, _node: Any, known: frozenset[int]) -> Verdict:
    leftovers = tuple(oid for oid in _indexes(session, _INVALID_INDEXES) if oid not in known)
    return Verdict(Outcome.NOT_DONE, "REINDEX can be repeated", leftovers)


def _settle_drop(session: Session, node: Any, known: frozenset[int]) -> Verdict:
    left = [oid for name in _dropped(node) for oid in _indexes(session, _NAMED_INDEX, name) if oid in known]
    if left:
        return Verdict(Outcome.NOT_DONE, f"the index is still there (oid {left[0]})")
    return Verdict(Outcome.DONE, "the index is gone") if known else Verdict(Outcome.NOT_DONE, "there was no such index")


def _settle_detach(session: Session, node: Any, _known: frozenset[int]) -> Verdict:
    parts = [getattr(item.alter_table_cmd, "def").partition_cmd for item in node.cmds]
    child = _name(parts[0].name) if len(parts) == 1 else ""
    if not child:
        return Verdict(Outcome.UNKNOWN, "the catalogue keeps no trace of such a statement")
    parent = _name(node.relation)
    rows = session.query(
        "SELECT inhdetachpending FROM pg_catalog.pg_inherits WHERE inhparent = pg_catalog.to_regclass($1)"
        " AND inhrelid = pg_catalog.to_regclass($2)",
        parent,
        child,
    )
    if not rows:
        return Verdict(Outcome.DONE, f"{child} is no partition of {parent} any more")
    if rows[0][0] == "t":
        finish = f"ALTER TABLE {parent} DETACH PARTITION {child} FINALIZE"
        return Verdict(Outcome.DONE, "the detaching was begun, and is finalized", finish=finish)
    return Verdict(Outcome.NOT_DONE, f"{child} is still a partition of {parent}")


_SETTLERS: dict[str, Callable[[Session, Any, frozenset[int]], Verdict]] = {
    "index_stmt": _settle_index,
    "reindex_stmt": _settle_reindex,
    "drop_stmt": _settle_drop,
    "alter_table_stmt": _settle_detach,
}


def _settle_catalogued(session: Session, text: str, head: tuple[str, ...]) -> Verdict:
    node = _node(text)
    name = next((getattr(node[1], key) for key in ("dbname", "tablespacename", "subname") if hasattr(node[1], key)), "") if node else ""
    if not name:
        return Verdict(Outcome.UNKNOWN, "the catalogue keeps no trace of such a statement")
    exists = bool(session.query(_CATALOGUED[head[1]], name))
    done = exists == (head[0] == "CREATE")
    return Verdict(Outcome.DONE if done else Outcome.NOT_DONE, f"{head[1].lower()} {name} {'exists' if exists else 'does not exist'}")


# --- reading ----------------------------------------------------------------------------------------------------------------------


def _node(text: str) -> tuple[str, Any] | None:
    tree = grammar.parse(text)
    if tree is None or len(tree.commands) != 1:
        return None
    return tree.commands[0].kind, tree.commands[0].node


def _name(relation: Any) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in (relation.schemaname, relation.relname) if part)


def _dropped(node: Any) -> list[str]:
    lists = [[item.string.sval for item in entry.list.items] for entry in node.objects]
    return [".".join('"' + part.replace('"', '""') + '"' for part in parts) for parts in lists]


def _indexes(session: Session, query: str, *parameters: str) -> dict[int, bool]:
    try:
        return {int(oid or 0): valid == "t" for oid, valid in session.query(query, *parameters)}
    except failures.ServerFailure as failure:
        raise failures.of_server(failure, "to look into the catalogue") from None
