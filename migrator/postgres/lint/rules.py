"""What a rule is, and what it looks at: one part of a statement on a table that exists already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from migrator.postgres.reading import grammar


@dataclass(frozen=True, slots=True)
class Part:
    """A command, or one of the parts of an ALTER TABLE.

    Args:
        kind: `CreateIndex`, `Reindex`, `Vacuum`, `Cluster`, `Refresh`, `Update`, `Delete`, `RenameColumn`, `AlterDomain`, `MoveAll`, or the grammar's
            name of the part of ALTER TABLE (`AT_AddColumn`).
        table: the table, index, view or domain as the file writes it, empty for all of them.
        node: the grammar's node: of the command, or of the part.
        location: where it stands, in bytes from 0.
        proven: whether a valid CHECK shows that the column is never NULL (`AT_SetNotNull`).
        held: whether an earlier statement or part of the same transaction has changed the table.
    """

    kind: str
    table: str
    node: Any
    location: int
    proven: bool = False
    held: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Args:
        id: the stable id, `P01`; squawk's order up to P40 (postgresql.md §5).
        name: squawk's or strong_migrations' name where there is one.
        check: the message for a part, None where the rule has nothing to say.
        hint: what to write instead.
        once: says it once per table and plan.
    """

    id: str
    name: str
    check: Callable[[Part], str | None]
    hint: str
    once: bool = False


def column_constraints(part: Part) -> list[tuple[str, Any]]:
    """Returns the constraints of an ADD COLUMN: kind (`CONSTR_DEFAULT`) and node; none for other parts."""
    if part.kind != "AT_AddColumn":
        return []
    return [(_kind(item.constraint), item.constraint) for item in getattr(part.node, "def").column_def.constraints]


SERIAL = frozenset({"serial", "serial2", "serial4", "serial8", "bigserial", "smallserial"})


def is_serial(part: Part) -> bool:
    """Tells whether an ADD COLUMN has a serial type, which numbers the rows."""
    if part.kind != "AT_AddColumn":
        return False
    names = getattr(part.node, "def").column_def.type_name.names
    return bool(names) and names[-1].string.sval in SERIAL


def fills(part: Part) -> bool:
    """Tells whether an ADD COLUMN gives existing rows a value: a default, a number, a generated value."""
    kinds = {kind for kind, _ in column_constraints(part)}
    return is_serial(part) or not kinds.isdisjoint(("CONSTR_DEFAULT", "CONSTR_IDENTITY", "CONSTR_GENERATED"))


def added_constraint(part: Part) -> tuple[str, Any]:
    """Returns kind and node of the constraint that an ADD CONSTRAINT adds; an empty kind for other parts."""
    if part.kind != "AT_AddConstraint":
        return "", None
    node = getattr(part.node, "def").constraint
    return _kind(node), node


def builds_index(part: Part, kind: str) -> bool:
    """Tells whether a constraint of this kind is added, to the table or with a new column, and its index is built from the table's rows."""
    added, node = added_constraint(part)
    return (added == kind and not node.indexname) or any(name == kind for name, _ in column_constraints(part))


def _kind(constraint: Any) -> str:
    return str(grammar.kinds().ConstrType.Name(constraint.contype))
