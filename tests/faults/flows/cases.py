"""What is killed where, how a case ended, and what that is worth. Pure."""

from __future__ import annotations

import enum
import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from migrator.targets import Engine

QUESTION = 15
"""The exit code of a run that stopped with a question."""

SILENCE_SECONDS = 60.0
"""Longer than this nobody may be left without a word."""


class Step(enum.StrEnum):
    """A task, by its name in Prefect."""

    CREDENTIALS = "fetch credentials"
    URL = "encode URL"
    MIGRATION = "run migration"
    TABLES = "verify tables"
    HEALTH = "await Deployment health"

    @property
    def function(self) -> str:
        """The plain function in which a run is held; empty for the migration, which is killed inside a statement of its own."""
        return {
            Step.CREDENTIALS: "tasks.credentials.fetch",
            Step.URL: "tasks.database_url.encode",
            Step.TABLES: "tasks.verification.verify",
            Step.HEALTH: "tasks.rollout.await_health",
        }.get(self, "")


class Victim(enum.StrEnum):
    """What is killed by SIGKILL."""

    WORKER = "worker"
    ENGINE = "engine"
    PREFECT = "Prefect server"
    DATABASE = "database"


class Recovery(enum.StrEnum):
    """What a user does if the run did not complete by itself."""

    NONE = "nothing"
    RETRY = "Retry"
    NEXT = "the next run"


@dataclass(frozen=True)
class Case:
    """One of the forty.

    Args:
        number: its place in the order.
        into: seconds that the statement has been at work when the victim is killed (the migration only).
        down: seconds until the victim is started again.
        recovery: what is done if the run doesn't complete.
    """

    number: int
    engine: Engine
    step: Step
    victim: Victim
    into: float
    down: float
    recovery: Recovery


def draw(engine: Engine, seed: int) -> list[Case]:
    """Returns the twenty cases of an engine; moments and recoveries come from the seed. Each victim is recovered from in both ways."""
    found = []
    for place, (step, victim) in enumerate((step, victim) for step in Step for victim in Victim):
        chance = random.Random(f"{seed} {engine} {place}")
        recovery = (Recovery.RETRY, Recovery.NEXT)[(list(Step).index(step) + seed) % 2]
        found.append(Case(place, engine, step, victim, round(chance.uniform(0, 1.5), 2), round(chance.uniform(1, 5), 2), recovery))
    return found


class Verdict(enum.StrEnum):
    """How a case ended."""

    RECOVERED = "recovered"
    """Schema, data and history are those of an undisturbed run, every run has ended, and no silence lasted over a minute."""
    WRONG = "wrong"
    """A run completed, and the database is another: something was applied twice, or not."""
    STUCK = "stuck"
    """One Retry, or one further run, did not complete."""
    ASKED = "asked"
    """It stopped with a question that a person has to answer: nothing was applied twice, but it did not recover alone."""
    UNENDED = "never ended"
    """A run's state is none that ends."""
    SILENT = "silent"
    """All well, but nobody said anything for over a minute."""


@dataclass(frozen=True)
class Ending:
    """What was seen of one case.

    Args:
        ended: the state in which the disturbed run ended; empty if it never did.
        recovery: what it took.
        completed: whether the last run completed.
        same: whether schema, data and history are those of an undisturbed run.
        said: seconds from the kill to the first word after it: a state or a line of a run's log.
        silence: the longest time without such a word, from the kill to the end of the last run, in seconds.
        seconds: from the kill to the end of the last run.
        detail: what differs, or the last state's message.
        exit_code: the last run's, as its labels tell it; 0 where it completed.
    """

    number: int
    step: str
    victim: str
    ended: str
    recovery: str
    completed: bool
    same: bool
    said: float
    silence: float
    seconds: float
    detail: str = ""
    exit_code: int = 0

    @property
    def verdict(self) -> Verdict:
        if not self.ended:
            return Verdict.UNENDED
        if not self.completed:
            return Verdict.ASKED if self.exit_code == QUESTION else Verdict.STUCK
        if not self.same:
            return Verdict.WRONG
        return Verdict.SILENT if self.silence > SILENCE_SECONDS else Verdict.RECOVERED


def silences(words: Iterable[datetime], begin: datetime, end: datetime) -> tuple[float, float]:
    """Returns the seconds from `begin` to the first word after it, and the longest time without one until `end`."""
    moments = sorted(word for word in words if begin < word < end)
    edges = [begin, *moments, end]
    gaps = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(edges)]
    return gaps[0], max(gaps)


def missing(cases: Sequence[Case], endings: Iterable[Ending]) -> list[Case]:
    """Returns the cases that were not run yet, and those that have to be run again because they did not end well; the migration's come first."""
    well = {item.number for item in endings if item.verdict is Verdict.RECOVERED}
    return sorted((case for case in cases if case.number not in well), key=lambda case: case.step is not Step.MIGRATION)
