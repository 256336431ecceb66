"""A plan -> warnings. Most plans concern only tables that they make themselves; then the grammar, 0.2 s to load, is not even loaded."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from migrator import errors
from migrator.goose.annotations import Statement, masked, parse
from migrator.planning.plans import Plan, Remark
from migrator.postgres import lint
from migrator.postgres.lint import parts, proofs, tables
from migrator.postgres.lint.rules import Rule
from migrator.postgres.reading import readings
from migrator.targets import Direction, Engine, Mode

if TYPE_CHECKING:
    from migrator.planning.plans import Step

RULES: tuple[Rule, ...] = tuple(
    importlib.import_module(f"{__package__}.{name}").RULE
    for name in sorted(module.name for module in pkgutil.iter_modules(lint.__path__))
    if re.fullmatch(r"p\d+_\w+", name)
)
"""Every rule of this directory, by id: one rule, one file."""

_DEMANDS = re.compile(r"\b(?:set|constraint\s+\S+)\s+not\s+null\b", re.IGNORECASE)

_ADDING = (("INSERT",), ("COPY",))
"""Commands that no rule concerns, and of which there are most."""

LARGEST = 1 << 20
"""Characters of a statement that is looked at: what is larger is data, and a grammar that reads it needs many times its size."""


def examine(plan: Plan) -> tuple[Remark, ...]:
    """Returns warnings about the plan's upward steps on a database in use; none on ClickHouse. Raises nothing: a statement that can't be read is left
    for the server to refuse."""
    if plan.engine is not Engine.POSTGRES:
        return ()
    looked_at = [
        (step, statement, tuple(tables.created(statement.text)))
        for step in plan.steps
        if step.direction is Direction.UP
        for statement, reading in zip(step.statements, readings.of(step).statements, strict=True)
        if len(statement.text) <= LARGEST and not (reading.commands == 1 and reading.head[:1] in _ADDING)
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
    known = parts.Known(proven=proven)
    said: set[tuple[str, str]] = set()
    previous: Step | None = None
    for position, (step, statement, made) in enumerate(looked_at):
        known.new.update(made)
        if step is not previous or step.mode is not Mode.TRANSACTION:
            known.held.clear()  # another transaction, which holds none of the earlier locks
        previous = step
        if position in chosen:
            yield from _of_statement(step, statement, known, said)


def _of_statement(step: Step, statement: Statement, known: parts.Known, said: set[tuple[str, str]]) -> Iterator[Remark]:
    for part in parts.read(statement.text, known):
        for rule in RULES:
            message = rule.check(part)
            if message is None or (rule.once and (rule.id, part.table) in said):
                continue
            said.add((rule.id, part.table))
            line = statement.line_of(_characters(statement.text, part.location))
            clear = masked(message, statement.substitutions)
            yield Remark(rule.id, f"{step.path}:{line}: {clear} ({rule.name})", rule.hint)


def _characters(text: str, location: int) -> int:
    """Turns a number of bytes, as the grammar counts, into a number of characters."""
    return len(text.encode("utf-8", "surrogateescape")[: max(location, 0)].decode("utf-8", "ignore"))


def _proven(plan: Plan, statements: list[str]) -> set[tuple[str, str]]:
    """Returns the columns that a valid CHECK proves; files that are applied already are read only where something demands NOT NULL."""
    if not any(_DEMANDS.search(text) for text in statements):
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
