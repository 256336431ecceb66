"""Statements -> the objects that they create, drop and rename, read from the server's canonical text (`shapes`).

Read in the order in which the files were applied. What can't be parsed has unknown effects and is told as such; what isn't tracked here (users,
privileges, partitions, settings) has none.
"""

from __future__ import annotations

from collections.abc import Iterable

from migrator.clickhouse.reading import canonical, readings, shapes
from migrator.clickhouse.session import Session
from migrator.planning.objects import Action, Effect, Kind, ObjectName

_CREATES = frozenset({"CREATE", "REPLACE", "ATTACH", "UNDROP", "DROP", "DETACH", "RENAME", "EXCHANGE", "ALTER"})
"""Only statements that begin with one of these can have effects; the others are not sent to the server to be read."""


def read(session: Session, statements: Iterable[str]) -> list[tuple[Effect, ...] | None]:
    """Returns per statement its effects; None when they can't be read.

    Raises:
        failures.Refusal, failures.Lost.
    """
    texts = list(statements)
    asked = [index for index, text in enumerate(texts) if readings.head(text) in _CREATES]
    lines = dict(zip(asked, canonical.canonical(session, [texts[index] for index in asked]), strict=True)) if asked else {}
    tracker = _Tracker()
    return [tracker.effects(shapes.read(line, session.database)) if line else (None if line is None else ()) for line in _all(texts, lines)]


def _all(texts: list[str], lines: dict[int, str | None]) -> list[str | None]:
    return [lines.get(index, "") for index in range(len(texts))]


class _Tracker:
    """Remembers which tables exist, so that a CREATE … IF NOT EXISTS of a table that is there already promises nothing new."""

    def __init__(self) -> None:
        self._living: set[ObjectName] = set()

    def effects(self, shape: shapes.Shape) -> tuple[Effect, ...]:
        """Returns the statement's effects, given the statements before it."""
        subject = shape.subject
        if shape.sort is shapes.Sort.CREATE and shape.conditional and subject is not None and subject in self._living:
            return ()
        for effect in shape.effects:
            if effect.subject.kind in (Kind.COLUMN, Kind.INDEX, Kind.PROJECTION):
                continue
            if effect.action is Action.CREATE:
                self._living.add(effect.subject)
            elif effect.subject in self._living:
                self._living.discard(effect.subject)
                if effect.renamed is not None:
                    self._living.add(effect.renamed)
        return shape.effects
