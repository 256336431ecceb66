"""What a statement is about, as the catalogue holds it before the statement runs outside of a transaction: OIDs, names, definitions.

It is read in the session that runs the statement, whose search_path decides which table is meant, and kept with the journal's *started* row. A later run, in
another session, compares with it (`settling`): an index that was there before is never taken for the statement's, and names are never resolved again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from migrator.postgres import failures
from migrator.postgres.pipelines import Rows, message
from migrator.postgres.reading import grammar
from migrator.postgres.session import Session


@dataclass(frozen=True, slots=True)
class Index:
    """An index: its OID, schema, name and table, whether it is valid, and its definition without any of these names."""

    oid: int
    schema: str
    name: str
    table: int
    valid: bool
    definition: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was there.

    Args:
        subject: OID of the table, partition, database … that the statement names; 0 where there was none.
        parent: OID of the table that a partition is detached from.
        attached: whether it was its partition, and nobody was detaching it.
        schema: the subject's.
        taken: whether the name of the index to be made was taken.
        indexes: those of the table, or those that the statement drops or builds anew.
    """

    subject: int = 0
    parent: int = 0
    attached: bool = False
    schema: str = ""
    taken: bool = False
    indexes: tuple[Index, ...] = field(default=())

    @property
    def oids(self) -> frozenset[int]:
        return frozenset(item.oid for item in self.indexes)

    def stored(self) -> str:
        """Returns the inventory as the journal keeps it."""
        listed = [[item.oid, item.schema, item.name, item.table, item.valid, item.definition] for item in self.indexes]
        return json.dumps({**{name: getattr(self, name) for name in _PLAIN}, "indexes": listed})


_PLAIN = ("subject", "parent", "attached", "schema", "taken")


def read(stored: str) -> Inventory | None:
    """Reads what `Inventory.stored` wrote; None where nothing was kept, or by an earlier greylag, which kept too little."""
    found = json.loads(stored) if stored else None
    if not isinstance(found, dict):
        return None
    return Inventory(**{name: found[name] for name in _PLAIN}, indexes=tuple(Index(*item) for item in found["indexes"]))


_INDEX = """SELECT i.indexrelid, n.nspname, c.relname, i.indrelid, i.indisvalid,
  CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END || pg_catalog.right(pg_catalog.pg_get_indexdef(i.indexrelid), -pg_catalog.length(
    'CREATE ' || CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END || 'INDEX ' || pg_catalog.quote_ident(c.relname) || ' ON '
    || CASE WHEN c.relkind = 'I' THEN 'ONLY ' ELSE '' END
    || CASE WHEN tn.oid = pg_catalog.pg_my_temp_schema() THEN 'pg_temp' ELSE pg_catalog.quote_ident(tn.nspname) END || '.'
    || pg_catalog.quote_ident(t.relname) || ' '))
FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_class AS t ON t.oid = i.indrelid JOIN pg_catalog.pg_namespace AS tn ON tn.oid = t.relnamespace"""
"""An index with its definition from USING on: names of index and table would differ in what is compared."""

_OF_REINDEXED = {
    "INDEX": "i.indexrelid IN (SELECT relid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) UNION SELECT pg_catalog.to_regclass($1))",
    "TABLE": "i.indrelid IN (SELECT relid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) UNION SELECT pg_catalog.to_regclass($1))",
    "SCHEMA": "tn.nspname = $1",
    "DATABASE": "tn.nspname !~ '^pg_' AND $1 IS NOT NULL",
    "SYSTEM": "false AND $1 IS NOT NULL",
}
_CATALOGUED = {
    "DATABASE": "SELECT oid FROM pg_catalog.pg_database WHERE datname = $1",
    "TABLESPACE": "SELECT oid FROM pg_catalog.pg_tablespace WHERE spcname = $1",
    "SUBSCRIPTION": "SELECT oid FROM pg_catalog.pg_subscription WHERE subname = $1"
    " AND subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
}
"""Objects whose CREATE and DROP run outside of transactions, and are whole or absent."""

CATALOGUED = frozenset(_CATALOGUED)


def take(session: Session, text: str, head: tuple[str, ...]) -> Inventory | None:
    """Returns what is there now of what the statement is about; None for a statement that leaves nothing to compare.

    Args:
        head: the statement's first words.

    Raises what the connection raises.
    """
    node = node_of(text)
    if node is None:
        return None
    kind, value = node
    try:
        if kind == "index_stmt":
            return _of_table(session, value)
        if kind == "reindex_stmt":
            return Inventory(indexes=_read(session, *_reindexed(value)))
        if kind == "drop_stmt":
            found = [item for name in dropped(value) for item in _read(session, "i.indexrelid = pg_catalog.to_regclass($1)", name)]
            return Inventory(indexes=tuple(found))
        if kind == "alter_table_stmt":
            return _of_partition(session, value)
        if len(head) > 1 and head[1] in _CATALOGUED:
            return Inventory(subject=catalogued(session, head[1], name_of_catalogued(value)))
    except failures.ServerFailure as failure:
        raise failures.of_server(failure, "to look into the catalogue") from None
    return None


def _of_table(session: Session, node: Any) -> Inventory:
    place, indexes = session.batch(
        [
            message(
                "SELECT t.oid, n.nspname, pg_catalog.to_regclass(pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident($2)) IS NOT NULL"
                " FROM pg_catalog.pg_class AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace WHERE t.oid = pg_catalog.to_regclass($1)",
                name_of(node.relation),
                node.idxname or "",
            ),
            message(f"{_INDEX} WHERE i.indrelid = pg_catalog.to_regclass($1)", name_of(node.relation)),
        ]
    )
    if not place:
        return Inventory()
    oid, schema, taken = place[0]
    return Inventory(int(oid or 0), schema=schema or "", taken=bool(node.idxname) and taken == "t", indexes=_indexes(indexes))


def _of_partition(session: Session, node: Any) -> Inventory | None:
    child = partition_of(node)
    if not child:
        return None
    rows = session.query(
        "SELECT p, c, EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhparent = p AND inhrelid = c AND NOT inhdetachpending)"
        " FROM (SELECT pg_catalog.to_regclass($1)::oid AS p, pg_catalog.to_regclass($2)::oid AS c) AS named",
        name_of(node.relation),
        child,
    )
    parent, partition, attached = rows[0]
    return Inventory(int(partition or 0), int(parent or 0), attached == "t")


def of_table(session: Session, table: int) -> tuple[Index, ...]:
    """Returns the indexes that a table has now."""
    return _read(session, "i.indrelid = $1", table)


def of_oids(session: Session, oids: frozenset[int]) -> tuple[Index, ...]:
    """Returns those of these indexes that are still there."""
    return _read(session, f"i.indexrelid = ANY ('{{{','.join(map(str, sorted(oids)))}}}'::oid[])")


def beside(session: Session, tables: frozenset[int]) -> tuple[Index, ...]:
    """Returns all indexes of these tables that are not valid."""
    return _read(session, f"NOT i.indisvalid AND i.indrelid = ANY ('{{{','.join(map(str, sorted(tables)))}}}'::oid[])")


def catalogued(session: Session, kind: str, name: str) -> int:
    """Returns the OID of a database, tablespace or subscription; 0 where there is none."""
    rows = session.query(_CATALOGUED[kind], name)
    return int(rows[0][0] or 0) if rows else 0


_SAID_OF = {
    "DATABASE": "SELECT pg_catalog.pg_get_userbyid(datdba), datconnlimit::text, '' FROM pg_catalog.pg_database WHERE oid = $1",
    "TABLESPACE": "SELECT pg_catalog.pg_get_userbyid(spcowner), '', pg_catalog.pg_tablespace_location(oid) FROM pg_catalog.pg_tablespace WHERE oid = $1",
    "SUBSCRIPTION": "SELECT pg_catalog.pg_get_userbyid(subowner), '', pg_catalog.array_to_string(subpublications, ', ')"
    " FROM pg_catalog.pg_subscription WHERE oid = $1",
}


def unlike(session: Session, kind: str, node: Any, oid: int) -> str:
    """Returns in what a database, tablespace or subscription differs from what its CREATE says; "" where nothing does. Without OWNER the role in force
    is the owner."""
    rows = session.query(_SAID_OF[kind], oid)
    if not rows:
        return "it is gone again"
    owner, limit, rest = (item or "" for item in rows[0])
    wanted = _owner_in(node) or str(session.query("SELECT current_user")[0][0])
    if owner != wanted:
        return f"another owner: {owner}, not {wanted}"
    options = {item.def_elem.defname: item.def_elem.arg for item in getattr(node, "options", ())}
    if kind == "DATABASE" and "connection_limit" in options and limit != str(options["connection_limit"].integer.ival):
        return f"another connection limit: {limit}"
    if kind == "TABLESPACE" and node.location and rest != node.location.rstrip("/"):
        return f"another place: {rest}"
    publications = ", ".join(item.string.sval for item in getattr(node, "publication", ()))
    return f"other publications: {rest}" if kind == "SUBSCRIPTION" and rest != publications else ""


def _owner_in(node: Any) -> str:
    """Returns the owner that a CREATE DATABASE or TABLESPACE names; "" where it names none, or the role in force."""
    if hasattr(node, "owner"):
        return str(node.owner.rolename)
    return next((str(item.def_elem.arg.string.sval) for item in getattr(node, "options", ()) if item.def_elem.defname == "owner"), "")


def rehearsed(session: Session, text: str, table: int) -> str | None:
    """Returns the definition that the statement's index would have: built on an empty temporary table with the same columns, and taken back. None
    where that can't be had: no right to temporary tables, an expression over the whole row."""
    own = grammar.index_elsewhere(text, "pg_temp", _REHEARSAL)
    names = session.query(
        "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.relname) FROM pg_catalog.pg_class AS t"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace WHERE t.oid = $1",
        table,
    )
    if own is None or not names:
        return None
    try:
        found = session.batch(
            [
                message("BEGIN"),
                message(f"CREATE TEMPORARY TABLE {_REHEARSAL} (LIKE {names[0][0]})"),
                message(own),
                message(f"{_INDEX} WHERE i.indrelid = 'pg_temp.{_REHEARSAL}'::regclass"),
                message("ROLLBACK"),
            ]
        )[3]
    except failures.ServerFailure:
        session.rollback()
        return None
    return _indexes(found)[0].definition


_REHEARSAL = "greylag_rehearsal"


def _reindexed(node: Any) -> tuple[str, str]:
    kind = grammar.kinds().ReindexObjectType.Name(node.kind).removeprefix("REINDEX_OBJECT_")
    return _OF_REINDEXED[kind], name_of(node.relation) if kind in ("INDEX", "TABLE") else node.name


def _read(session: Session, condition: str, *parameters: str | int) -> tuple[Index, ...]:
    return _indexes(session.query(f"{_INDEX} WHERE {condition} ORDER BY 1", *parameters))


def _indexes(rows: Rows) -> tuple[Index, ...]:
    return tuple(
        Index(int(oid or 0), schema or "", name or "", int(table or 0), valid == "t", definition or "")
        for oid, schema, name, table, valid, definition in rows
    )


# --- reading ----------------------------------------------------------------------------------------------------------------------


def node_of(text: str) -> tuple[str, Any] | None:
    """Returns the grammar's kind and node of a statement that is one command; else None."""
    tree = grammar.parse(text)
    if tree is None or len(tree.commands) != 1:
        return None
    return tree.commands[0].kind, tree.commands[0].node


def name_of(relation: Any) -> str:
    """Returns a relation's name, quoted, as the statement qualifies it."""
    return ".".join(_quoted(part) for part in (relation.schemaname, relation.relname) if part)


def dropped(node: Any) -> list[str]:
    """Returns the names that a DROP lists, quoted."""
    lists = [[item.string.sval for item in entry.list.items] for entry in node.objects]
    return [".".join(map(_quoted, parts)) for parts in lists]


def partition_of(node: Any) -> str:
    """Returns the name of the partition that an ALTER TABLE detaches, quoted; "" for any other."""
    parts = [getattr(item.alter_table_cmd, "def").partition_cmd for item in node.cmds]
    return name_of(parts[0].name) if len(parts) == 1 else ""


def name_of_catalogued(node: Any) -> str:
    """Returns the name of the database, tablespace or subscription that a statement is about."""
    return next((getattr(node, key) for key in ("dbname", "tablespacename", "subname") if hasattr(node, key)), "")


def _quoted(part: str) -> str:
    return '"' + part.replace('"', '""') + '"'
