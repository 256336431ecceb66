"""Statements that no transaction protects: what the catalogue holds before one runs, and what it says afterwards about an unknown outcome.

A run that was killed inside CREATE INDEX CONCURRENTLY leaves nothing, an invalid index or a finished one. Which, is settled by comparing what is there with
what was there before the statement began (`inventory`): OIDs, names, and the definition that the server gives the index when it is rehearsed. An index that
was there before is never taken for ours, and never dropped; nor is one that somebody else has made meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from migrator.planning import journal
from migrator.planning.journal import Outcome
from migrator.postgres import failures, inventory
from migrator.postgres.inventory import Index, Inventory
from migrator.postgres.pipelines import milliseconds
from migrator.postgres.reading import readings
from migrator.postgres.session import Session

_SWEEP_LOCK_TIMEOUT = 5000
"""Milliseconds that the dropping of an invalid index waits for old transactions; the next run tries again."""


@dataclass(frozen=True, slots=True)
class Verdict(journal.Verdict):
    """`leftovers` are OIDs of invalid indexes that the statement made, `made` those of finished ones; `finish` completes a half-done one."""

    leftovers: tuple[int, ...] = ()
    finish: str = ""
    made: tuple[int, ...] = ()


_REPEATABLE = frozenset({"VACUUM", "CHECKPOINT", "DISCARD", "CLUSTER", "ANALYZE", "ANALYSE"})

_REPEATABLE_ALTER = frozenset({("ALTER", "SYSTEM"), ("ALTER", "DATABASE")})
"""A setting is written once more; a database that is in its tablespace stays where it is."""

_TRANSIENT = re.compile(r"_cc(?:new|old)\d*\Z")
"""How REINDEX CONCURRENTLY names the indexes that it makes and leaves."""

_TOO_LITTLE = "an earlier greylag noted too little about it"


def before(session: Session, text: str) -> str:
    """Reads from the catalogue what will later help to settle the statement's outcome. Returns what is kept in the journal."""
    found = inventory.take(session, text, readings.of_text(text).head)
    return found.stored() if found else ""


def settle(session: Session, text: str, noted: str) -> Verdict:
    """Finds out the outcome of a statement that was begun. `noted` is what `before` returned then. What the file has set in its session is to be in
    force. Writes nothing that lasts."""
    reading = readings.of_text(text)
    if reading.commands != 1:
        return Verdict(Outcome.UNKNOWN, "it holds several commands")
    if (reading.head and reading.head[0] in _REPEATABLE) or reading.head[:2] in _REPEATABLE_ALTER:
        return Verdict(Outcome.NOT_DONE, f"{reading.head[0]} can be repeated")
    node = inventory.node_of(text)
    catalogued = len(reading.head) > 1 and reading.head[0] in ("CREATE", "DROP") and reading.head[1] in inventory.CATALOGUED
    settler = _settle_catalogued if catalogued else _SETTLERS.get(node[0]) if node else None
    if node is None or settler is None:
        return Verdict(Outcome.UNKNOWN, "the catalogue keeps no trace of such a statement")
    known = inventory.read(noted)
    if known is None:
        return Verdict(Outcome.UNKNOWN, _TOO_LITTLE)
    try:
        return settler(session, text, node[1], known)
    except failures.ServerFailure as failure:
        raise failures.of_server(failure, "to look into the catalogue") from None


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


def _settle_index(session: Session, text: str, node: Any, known: Inventory) -> Verdict:
    """Settles CREATE INDEX CONCURRENTLY. `made` are the indexes that the table has now, and had neither by OID nor by name (REINDEX gives new OIDs)."""
    if not known.subject:
        return Verdict(Outcome.NOT_DONE, "its table was not there")
    if known.taken:
        return Verdict(Outcome.NOT_DONE, f"the name {node.idxname} was taken before it began: it builds nothing")
    names = {item.name for item in known.indexes}
    made = [
        item
        for item in inventory.of_table(session, known.subject)
        if item.oid not in known.oids and item.name not in names and not _TRANSIENT.search(item.name) and node.idxname in ("", item.name)
    ]
    if not made:
        return Verdict(Outcome.NOT_DONE, "its table has no such index that wasn't there before")
    wanted = inventory.rehearsed(session, text, known.subject)
    if wanted is not None:
        equal = [item for item in made if item.definition == wanted]
        if not equal and node.idxname:
            return Verdict(Outcome.UNKNOWN, f"{made[0].name} is there, but as {made[0].definition}, where the statement says {wanted}")
    elif node.idxname and not made[0].valid:
        equal = made
    else:
        return Verdict(
            Outcome.UNKNOWN, f"{made[0].name} is there, and what the statement would make can't be tried out on a temporary table"
        )
    valid = [item for item in equal if item.valid]
    if valid:
        return Verdict(Outcome.DONE, f"the index it made is there and valid (oid {_oids(valid)})", made=tuple(item.oid for item in valid))
    if equal:
        return Verdict(Outcome.NOT_DONE, f"the index it made is invalid (oid {_oids(equal)})", tuple(item.oid for item in equal))
    return Verdict(Outcome.NOT_DONE, "its table has no index with its definition that wasn't there before")


def _settle_reindex(session: Session, _text: str, _node: Any, known: Inventory) -> Verdict:
    """Settles REINDEX CONCURRENTLY, which can be repeated. What a broken one leaves is an invalid index beside one with the same definition: a new one
    (_ccnew), or the old one (_ccold), renamed."""
    then = {item.oid: item for item in known.indexes}
    kinds = {(item.table, item.definition) for item in known.indexes}
    leftovers = tuple(
        item.oid
        for item in inventory.beside(session, frozenset(item.table for item in known.indexes))
        if _TRANSIENT.search(item.name)
        and (item.table, item.definition) in kinds
        and (item.oid not in then or (then[item.oid].valid and then[item.oid].name != item.name))
    )
    return Verdict(Outcome.NOT_DONE, "REINDEX can be repeated", leftovers)


def _settle_drop(session: Session, _text: str, _node: Any, known: Inventory) -> Verdict:
    if not known.indexes:
        return Verdict(Outcome.NOT_DONE, "there was no such index")
    left = inventory.of_oids(session, known.oids)
    if left:
        return Verdict(Outcome.NOT_DONE, f"the index is still there (oid {_oids(left)})")
    old = known.indexes[0]
    again = [item for item in inventory.of_table(session, old.table) if (item.schema, item.name) == (old.schema, old.name)]
    if again:
        return Verdict(
            Outcome.UNKNOWN,
            f"the index (oid {old.oid}) is gone, and another of its name is there (oid {_oids(again)}): built anew, or made since",
        )
    return Verdict(Outcome.DONE, f"the index is gone (oid {old.oid})")


def _settle_detach(session: Session, _text: str, _node: Any, known: Inventory) -> Verdict:
    if not known.attached:
        return Verdict(Outcome.NOT_DONE, "it was no partition of the table, or was being detached already")
    rows = session.query(
        "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), i.inhdetachpending FROM pg_catalog.pg_class AS c"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        " LEFT JOIN pg_catalog.pg_inherits AS i ON i.inhparent = $1 AND i.inhrelid = $2 WHERE c.oid IN ($1, $2) ORDER BY c.oid = $2",
        known.parent,
        known.subject,
    )
    if len(rows) < 2:
        return Verdict(Outcome.UNKNOWN, "the table or the partition is gone")
    (parent, _), (child, pending) = rows
    if pending is None:
        return Verdict(Outcome.DONE, f"{child} is no partition of {parent} any more")
    if pending == "t":
        finish = f"ALTER TABLE {parent} DETACH PARTITION {child} FINALIZE"
        return Verdict(Outcome.DONE, "the detaching was begun, and is finalized", finish=finish)
    return Verdict(Outcome.NOT_DONE, f"{child} is still a partition of {parent}")


def _settle_catalogued(session: Session, text: str, node: Any, known: Inventory) -> Verdict:
    """Settles CREATE and DROP of a database, tablespace or subscription."""
    verb, kind = readings.of_text(text).head[:2]
    name = inventory.name_of_catalogued(node)
    now = inventory.catalogued(session, kind, name)
    what = f"{kind.lower()} {name}"
    if verb == "CREATE":
        if known.subject:
            return Verdict(Outcome.NOT_DONE, f"{what} was there before it began")
        if now and (other := inventory.unlike(session, kind, node, now)):
            return Verdict(Outcome.UNKNOWN, f"{what} exists, and has {other}: changed, or made by somebody else since")
        return Verdict(Outcome.DONE if now else Outcome.NOT_DONE, f"{what} {'exists' if now else 'does not exist'}")
    if not known.subject:
        return Verdict(Outcome.NOT_DONE, f"{what} was not there when it began")
    there = now == known.subject
    return Verdict(Outcome.NOT_DONE if there else Outcome.DONE, f"{what} {'exists' if there else 'is gone'} (oid {known.subject})")


_SETTLERS: dict[str, Callable[[Session, str, Any, Inventory], Verdict]] = {
    "index_stmt": _settle_index,
    "reindex_stmt": _settle_reindex,
    "drop_stmt": _settle_drop,
    "alter_table_stmt": _settle_detach,
}


def _oids(indexes: Sequence[Index]) -> str:
    return ", ".join(str(item.oid) for item in indexes)
