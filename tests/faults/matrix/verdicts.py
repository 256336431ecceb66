"""Judges one interruption: what the runs said against what the database holds. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

QUESTION = 15
TRANSIENT = range(20, 25)


class Verdict(enum.StrEnum):
    """How an interruption ended."""

    SETTLED = "settled"
    """The next runs did the rest: schema, data and history are those of an undisturbed run."""
    ASKED = "asked"
    """greylag stopped with a question."""
    WRONG = "wrong"
    """greylag said 0, and the database is another."""
    STUCK = "stuck"
    """Neither done nor asked: it takes an edit by hand."""
    BROKEN = "traceback"
    """A fault of greylag itself was shown."""


@dataclass(frozen=True)
class Ending:
    """What was seen of one interruption.

    Args:
        number: its place in the seeded order.
        kind: the class of statement. `fault`: what was done.
        exits: exit codes of the interrupted run and of those after it, in order; negative for a signal.
        happened: whether the interruption came before the run had ended.
        same: whether schema, data and history are those of an undisturbed run.
        traceback: whether one was printed.
        expected_question: whether the class is one of those that may have to ask.
        detail: what differs, or the last words, for a verdict that needs looking into.
    """

    number: int
    kind: str
    fault: str
    exits: tuple[int, ...]
    happened: bool
    same: bool
    traceback: bool
    expected_question: bool
    detail: str = ""

    @property
    def verdict(self) -> Verdict:
        if self.traceback:
            return Verdict.BROKEN
        if self.exits[-1] == 0:
            return Verdict.SETTLED if self.same else Verdict.WRONG
        return Verdict.ASKED if self.exits[-1] == QUESTION else Verdict.STUCK


def goes_on(code: int, runs: int) -> bool:
    """Tells whether another run is to be started: after an interrupted one, and after a transient error, but not for ever."""
    return runs == 1 or ((code in TRANSIENT or code < 0) and runs < 6)


@dataclass(frozen=True)
class Row:
    """One line of the table: a class of statement and how its interruptions ended."""

    kind: str
    kills: int
    counts: dict[Verdict, int]
    expected_questions: int
    exits: tuple[int, ...]


def rows(endings: Iterable[Ending]) -> list[Row]:
    """Counts the endings of each class; an interruption that came too late isn't one."""
    by_kind: dict[str, list[Ending]] = {}
    for ending in endings:
        if ending.happened:
            by_kind.setdefault(ending.kind, []).append(ending)
    return [
        Row(
            kind,
            len(found),
            {verdict: sum(item.verdict is verdict for item in found) for verdict in Verdict},
            sum(item.verdict is Verdict.ASKED and item.expected_question for item in found),
            tuple(sorted({item.exits[0] for item in found})),
        )
        for kind, found in by_kind.items()
    ]


def settled_share(found: Sequence[Row]) -> float:
    """Returns the share that was settled without a question, of all but the questions that were expected."""
    kills = sum(row.kills - row.expected_questions for row in found)
    return sum(row.counts[Verdict.SETTLED] for row in found) / kills if kills else 1.0
