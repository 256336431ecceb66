"""A plan -> warnings. Most plans concern only tables that they make themselves; then the grammar, 0.2 s to load, is not even loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from migrator import errors
from migrator.annotations import Statement, masked, parse
from migrator.history import Engine
from migrator.lint import (
    p01_index,
    p06_check,
    p07_foreign_key,
    p08_default,
    p09_not_null,
    p11_primary_key,
    p12_unique,
    p13_type,
    p28_full,
    p43_serial,
    p44_generated,
    p46_exclusion,
    p72_cached_plan,
    proofs,
    tables,
)
from migrator.lint.rules import Part, Rule
from migrator.plans import Plan, Remark
from migrator.targets import Direction

if TYPE_CHECKING:
    from migrator.plans import Step

RULES: tuple[Rule, ...] = tuple(
    module.RULE
    for module in (
        p01_index,
        p06_check,
        p07_foreign_key,
        p08_default,
        p09_not_null,
        p11_primary_key,
        p12_unique,
        p13_type,
        p28_full,
        p43_serial,
        p44_generated,
        p46_exclusion,
        p72_cached_plan,
    )
)

LARGEST = 1 << 20
"""Characters of a statement that is looked at: what is larger is data, and a grammar that reads it needs many times its size."""


def examine(plan: Plan) -> tuple[Remark, ...]:
    """What to know before the plan's upward steps run on a database in use; empty on ClickHouse. Raises nothing: a statement that can't be
    read is the server's to refuse."""
    if plan.engine is not Engine.POSTGRES:
        return ()
    looked_at = [
        (step, statement, tuple(tables.created(statement.text)))
        for step in plan.steps
        if step.direction is Direction.UP
        for statement in step.statements
        if len(statement.text) <= LARGEST
    ]
    new: set[tables.Name] = set()
    chosen: set[int] = set()
    for position, (_, statement, made) in enumerate(looked_at):
        new.update(made)
        if tables.concerns_old(statement.text, new):
            chosen.add(position)
    if not chosen:
        return ()
    return tuple(_remarks(looked_at, chosen, _proven(plan, [looked_at[position][1].text for position in sorted(chosen)])))


def _remarks(
    looked_at: list[tuple[Step, Statement, tuple[tables.Name, ...]]], chosen: set[int], proven: set[tuple[str, str]]
) -> Iterator[Remark]:
    new: set[tables.Name] = set()
    said: set[tuple[str, str]] = set()
    for position, (step, statement, made) in enumerate(looked_at):
        new.update(made)
        if position in chosen:
            yield from _of_statement(step, statement, new, proven, said)


def _of_statement(
    step: Step, statement: Statement, new: set[tables.Name], proven: set[tuple[str, str]], said: set[tuple[str, str]]
) -> Iterator[Remark]:
    for part in parts(statement.text, new, proven):
        for rule in RULES:
            message = rule.check(part)
            if message is None or (rule.once and (rule.id, part.table) in said):
                continue
            said.add((rule.id, part.table))
            line = statement.line_of(_characters(statement.text, part.location))
            clear = masked(message, statement.substitutions)
            yield Remark(rule.id, f"{step.path}:{line}: {clear} ({rule.name})", rule.hint)


def parts(text: str, new: set[tables.Name], proven: set[tuple[str, str]]) -> Iterator[Part]:
    """The parts of a statement that concern tables which are there already."""
    import postgast  # 0.2 s

    try:
        parsed = postgast.parse(text)
    except (postgast.PgQueryError, UnicodeEncodeError):
        return
    for raw in parsed.stmts:
        kind = raw.stmt.WhichOneof("node")
        node: Any = getattr(raw.stmt, kind) if kind else None
        if kind == "index_stmt":
            yield from _unless_new("CreateIndex", node.relation, node, new)
        elif kind == "alter_table_stmt":
            yield from _of_alter(node, new, proven)
        elif kind == "cluster_stmt":
            yield from _unless_new("Cluster", node.relation, node, new)
        elif kind == "vacuum_stmt" and node.is_vacuumcmd:
            relations = [item.vacuum_relation.relation for item in node.rels]
            for relation in relations:
                yield from _unless_new("Vacuum", relation, node, new)
            if not relations:
                yield Part("Vacuum", "", node, raw.stmt_location)


def _unless_new(kind: str, relation: Any, node: Any, new: set[tables.Name]) -> Iterator[Part]:
    name = (relation.schemaname, relation.relname)
    if not relation.relname or not tables.is_new(name, new):
        yield Part(kind, ".".join(part for part in name if part), node, relation.location)


_TABLES = ("OBJECT_TABLE", "OBJECT_FOREIGN_TABLE", "OBJECT_MATVIEW")


def _of_alter(node: Any, new: set[tables.Name], proven: set[tuple[str, str]]) -> Iterator[Part]:
    import postgast

    relation = node.relation
    name = (relation.schemaname, relation.relname)
    if tables.is_new(name, new) or postgast.pg_query_pb2.ObjectType.Name(node.objtype) not in _TABLES:
        return
    kinds = postgast.pg_query_pb2.AlterTableType
    for item in node.cmds:
        command = item.alter_table_cmd
        definition = getattr(command, "def")
        which = definition.WhichOneof("node")
        inner = getattr(getattr(definition, which), "location", 0) if which else 0
        yield Part(
            kinds.Name(command.subtype),
            ".".join(part for part in name if part),
            command,
            inner or relation.location,
            proven=(relation.relname, command.name) in proven,
        )


def _characters(text: str, location: int) -> int:
    """Bytes, as the grammar counts, to characters."""
    return len(text.encode("utf-8", "surrogateescape")[: max(location, 0)].decode("utf-8", "ignore"))


def _proven(plan: Plan, statements: list[str]) -> set[tuple[str, str]]:
    """Columns that a valid CHECK proves; files that are applied already are read only where SET NOT NULL asks for it."""
    if not any("set not null" in " ".join(text.lower().split()) for text in statements):
        return set()
    return set(proofs.columns([*_applied(plan), *statements]))


def _applied(plan: Plan) -> Iterable[str]:
    pending = {step.version for step in plan.steps}
    for file in plan.migrations.migrations:
        if file.version in pending or file.kind == "go" or file.size > LARGEST:
            continue
        try:
            text = file.read()
            if b"not null" in text.lower():
                yield from (item.text for item in parse(text, Direction.UP, path=file.path).statements)
        except errors.FileError:  # an applied file that can't be read any more proves nothing
            continue
