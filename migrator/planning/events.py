"""The events of a run, as one stream of plain data: the command prints it, `--json` writes it, a flow logs it.

Engines emit events through one callback; nothing in the engine prints. No event holds a value that ENVSUB substituted: statements are
named by file, line and the file's own text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from migrator.targets import Direction


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""

    @property
    def kind(self) -> str:
        """The event's stable name in JSON: the class name in kebab-case."""
        name = type(self).__name__
        return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")

    def document(self) -> dict[str, object]:
        """Returns the event as JSON-ready data."""
        return {"event": self.kind, **asdict(self)}


@dataclass(frozen=True, slots=True)
class LockWaiting(Event):
    """Another run holds the migration lock; `holder` names it as far as the server shows it."""

    holder: str
    waited_seconds: float


@dataclass(frozen=True, slots=True)
class LockAcquired(Event):
    """This run holds the migration lock."""

    waited_seconds: float


@dataclass(frozen=True, slots=True)
class MigrationStarted(Event):
    """One migration begins in one direction."""

    version: int
    name: str
    direction: Direction
    statements: int


@dataclass(frozen=True, slots=True)
class StatementFinished(Event):
    """One statement was executed; index counts from 1, lines are the file's."""

    version: int
    index: int
    first_line: int
    last_line: int
    seconds: float


@dataclass(frozen=True, slots=True)
class StatementRetried(Event):
    """A statement did not get its lock in time; the transaction was rolled back and is tried again."""

    version: int
    index: int
    first_line: int
    blocker: str
    attempt: int
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class StatementSettled(Event):
    """The outcome of a statement of an earlier, broken run was determined: `done` or `not-done`, and the evidence."""

    version: int
    index: int
    outcome: str
    evidence: str


@dataclass(frozen=True, slots=True)
class MigrationFinished(Event):
    """One migration is applied (or rolled back) and recorded; `statements` is 0 for goose's EMPTY."""

    version: int
    name: str
    direction: Direction
    statements: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Note(Event):
    """A remark for a person, with a stable code; `level` is info or warning."""

    level: str
    code: str
    message: str


Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Ignores an event; the listener of callers that need none."""
