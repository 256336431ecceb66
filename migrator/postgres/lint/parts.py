"""A statement -> the parts of it that concern what is there already, as PostgreSQL's own grammar reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from migrator.postgres.lint import tables
from migrator.postgres.lint.rules import Part
from migrator.postgres.reading import grammar


@dataclass(slots=True)
class Known:
    """What is known before a statement.

    Args:
        new: what the same plan has created.
        proven: table and column of what a valid CHECK proves never to be NULL.
        held: tables that the same transaction has changed.
    """

    new: set[tables.Name] = field(default_factory=set)
    proven: set[tuple[str, str]] = field(default_factory=set)
    held: set[tables.Name] = field(default_factory=set)


def read(text: str, known: Known) -> Iterator[Part]:
    """Returns the parts of a statement that concern tables which are there already; none of what the grammar doesn't understand."""
    tree = grammar.parse(text)
    for command in tree.commands if tree else ():
        reader = _READERS.get(command.kind)
        if reader is not None:
            yield from reader(command.node, known, command.location)


def _of_relation(kind: str) -> Callable[[Any, Known, int], Iterator[Part]]:
    """Returns a reader of commands that concern one table, or all where none is named."""

    def reader(node: Any, known: Known, location: int) -> Iterator[Part]:
        name = _name(node.relation)
        if not name[1]:
            yield Part(kind, "", node, location)
        elif not tables.is_new(name, known.new):
            yield Part(kind, _written(name), node, node.relation.location)

    return reader


def _of_vacuum(node: Any, known: Known, location: int) -> Iterator[Part]:
    relations = [item.vacuum_relation.relation for item in node.rels] if node.is_vacuumcmd else []
    for relation in relations:
        if not tables.is_new(_name(relation), known.new):
            yield Part("Vacuum", _written(_name(relation)), node, relation.location)
    if node.is_vacuumcmd and not relations:
        yield Part("Vacuum", "", node, location)


def _of_rename(node: Any, known: Known, location: int) -> Iterator[Part]:
    if grammar.kinds().ObjectType.Name(node.rename_type) == "OBJECT_COLUMN":
        yield from _of_relation("RenameColumn")(node, known, location)


def _of_domain(node: Any, known: Known, location: int) -> Iterator[Part]:
    *schema, domain = (item.string.sval for item in node.type_name)
    name = (schema[-1] if schema else "", domain)
    if not tables.is_new(name, known.new):
        yield Part("AlterDomain", _written(name), node, location)


def _of_move(node: Any, known: Known, location: int) -> Iterator[Part]:
    yield Part("MoveAll", "", node, location)


_TABLES = ("OBJECT_TABLE", "OBJECT_FOREIGN_TABLE", "OBJECT_MATVIEW")


def _of_alter(node: Any, known: Known, location: int) -> Iterator[Part]:
    kinds = grammar.kinds().AlterTableType
    name = _name(node.relation)
    is_table = grammar.kinds().ObjectType.Name(node.objtype) in _TABLES
    for item in node.cmds:
        command = item.alter_table_cmd
        kind = kinds.Name(command.subtype)
        subject = _name(getattr(command, "def").partition_cmd.name) if kind == "AT_AttachPartition" else name
        if not tables.is_new(subject, known.new) and (is_table or kind == "AT_SetTableSpace"):
            definition = getattr(command, "def")
            yield Part(
                kind,
                _written(subject),
                command,
                _location(definition) or node.relation.location,
                proven=(subject[1], _column(command, definition)) in known.proven,
                held=subject in known.held,
            )
        if kind != "AT_ValidateConstraint":  # its lock is weak: work behind it keeps nobody out for longer
            known.held.add(subject)


def _column(command: Any, definition: Any) -> str:
    """Returns the column that a part is about: PostgreSQL 18's NOT NULL constraints name it as their key."""
    if definition.WhichOneof("node") == "constraint" and len(definition.constraint.keys) == 1:
        return str(definition.constraint.keys[0].string.sval)
    return str(command.name)


def _location(definition: Any) -> int:
    which = definition.WhichOneof("node")
    return int(getattr(getattr(definition, which), "location", 0)) if which else 0


def _name(relation: Any) -> tables.Name:
    return (relation.schemaname, relation.relname)


def _written(name: tables.Name) -> str:
    return ".".join(part for part in name if part)


_READERS: dict[str, Callable[[Any, Known, int], Iterator[Part]]] = {
    "alter_table_stmt": _of_alter,
    "alter_table_move_all_stmt": _of_move,
    "alter_domain_stmt": _of_domain,
    "cluster_stmt": _of_relation("Cluster"),
    "delete_stmt": _of_relation("Delete"),
    "index_stmt": _of_relation("CreateIndex"),
    "refresh_mat_view_stmt": _of_relation("Refresh"),
    "reindex_stmt": _of_relation("Reindex"),
    "rename_stmt": _of_rename,
    "update_stmt": _of_relation("Update"),
    "vacuum_stmt": _of_vacuum,
}
