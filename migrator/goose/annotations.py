"""Splits the text of a migration file into statements exactly as goose does.

`parse` follows goose v3.27 bit for bit, errors included (goose.md §2). `ParsedMigration.hazards_for` reports the places where goose would
silently change what the author wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from migrator.goose import envsub, gounicode, hazards, notes, splitting
from migrator.goose.hazards import Hazard, Trace
from migrator.goose.statements import Statement, Substitution, masked
from migrator.targets import Engine

__all__ = ["ParsedMigration", "Statement", "Substitution", "masked", "parse"]


@dataclass(frozen=True)
class ParsedMigration:
    """One direction of one file.

    Args:
        statements: the statements that are sent, in order.
        use_transaction: False when the file says `-- +goose NO TRANSACTION`, in any section.
        direction: "up" or "down".
        notes: the file's `-- greylag:` lines.
        trace: the splitter's further observations, for hazards.
    """

    statements: tuple[Statement, ...]
    use_transaction: bool
    direction: str
    notes: notes.Notes = notes.EMPTY
    trace: Trace = field(default_factory=Trace, repr=False)

    @cached_property
    def hazards(self) -> tuple[Hazard, ...]:
        """Hazards on either engine; one that is lossy on only one of the two counts as merged."""
        return hazards.find_on_any(self.statements, self.trace, use_transaction=self.use_transaction)

    def hazards_for(self, engine: Engine) -> tuple[Hazard, ...]:
        """Returns the hazards on one engine, by line."""
        return hazards.find(self.statements, self.trace, engine, use_transaction=self.use_transaction)


def parse(
    text: str | bytes,
    direction: str = "up",
    env: Mapping[str, str] | None = None,
    *,
    path: str = "",
    reveal: bool = False,
) -> ParsedMigration:
    """Splits a file.

    Args:
        text: the file; a `str` counts as its UTF-8 bytes, lone surrogates of surrogateescape as the bytes they stand for.
        direction: "up" or "down".
        env: the variables for ENVSUB; None takes the process environment.
        path: the file's name in errors.
        reveal: whether errors quote values that ENVSUB put in, as goose does; otherwise they quote the file's own text.

    Raises:
        ParseError: its `str()` is goose's message; or a `-- greylag:` note is wrong.
    """
    data = gounicode.encode(text) if isinstance(text, str) else text
    splitter = splitting.Splitter(direction, envsub.environment() if env is None else env, path=path, reveal=reveal)
    statements = tuple(splitter.split(data))
    return ParsedMigration(statements, splitter.use_transaction, str(direction), notes.parse(data, path=path), splitter.trace)
