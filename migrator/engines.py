"""The protocol that both database engines implement, and the options and limits with which a database is opened.

An engine reads history, holds the lock, executes steps and looks into the catalogue. Everything that can be decided without a server has been
decided before, by the pure modules.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from migrator import targets
    from migrator.planning import approvals, events, history, journal, plans, schema_comparison


@dataclass(frozen=True, slots=True)
class LockPolicy:
    """Time-outs around locks, in seconds (promises.md §5).

    `migration_wait`: time to wait for another run's migration lock. `statement_lock_timeout`: time that a PostgreSQL transaction may wait in total
    for locks that block readers or writers; `budget`: time for which such work is retried before the attempt ends as transient. `statement_timeout`: 0 means
    none, and is always sent explicitly. `session_lock_timeout`: the DBSTRING's own lock_timeout, for work that blocks nobody else (such as a row's lock).
    """

    migration_wait: float = 300.0  # goose's own session locker gives up after about 5 minutes
    statement_lock_timeout: float = 0.2  # the longest stall that other sessions should feel
    budget: float = 60.0
    statement_timeout: float = 0.0
    session_lock_timeout: float = 0.0


def stay() -> bool:
    """Keeps the connection to the end; the default of `Options.leave`."""
    return False


class Left(Exception):
    """Raised when a run stops at a boundary because `Options.leave` asked for it: finished work is recorded, and another connection continues."""


def import_beside(*modules: str) -> None:
    """Imports modules in a thread of its own while this one waits for the server. What is wrong with one is raised where it is used."""
    import contextlib
    import threading
    from importlib import import_module

    def work() -> None:
        for module in modules:
            with contextlib.suppress(Exception):
                import_module(module)

    threading.Thread(target=work, name="greylag-imports", daemon=True).start()


@dataclass(frozen=True, slots=True)
class Options:
    """The options for opening a database.

    `service` and `run_id` name the run to the server (application_name, journal, facts). `owner_role` is taken with SET ROLE after login.
    `connect_timeout` bounds connecting, in seconds. `leave` is called at each point where another connection could continue; it returns True when this
    connection's login is about to end. (PostgreSQL only: ClickHouse gets the login with each request.)
    """

    table: str = "goose_db_version"
    service: str = "greylag"
    run_id: str = field(default_factory=lambda: os.urandom(16).hex())
    applied_by: str = field(default_factory=lambda: default_actor())
    locks: LockPolicy = field(default_factory=LockPolicy)
    owner_role: str = ""
    connect_timeout: float = 10.0
    leave: Callable[[], bool] = stay


def default_actor() -> str:
    """Returns who runs this, as recorded in the facts: GREYLAG_APPLIED_BY if it is set, else user@host."""
    given = os.environ.get("GREYLAG_APPLIED_BY")
    if given:
        return given
    import pwd
    import socket

    user = os.environ.get("LOGNAME") or os.environ.get("USER")
    if not user:
        try:
            user = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:  # a container's uid without a passwd entry
            user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One object that isn't as it should be, and why. `expected` and `found` are its definitions, where they are known, `version` is who made what is
    expected."""

    subject: str
    state: str  # "missing" | "changed" | "renamed" | "unrecorded" | "invalid" | "failing" (a mutation) | "foreign"
    reason: str
    expected: str = ""
    found: str = ""
    version: int | None = None

    def __str__(self) -> str:
        told = [f"{word} {' '.join(text.split())[:200]}" for word, text in (("expected", self.expected), ("found", self.found)) if text]
        return f"{self.subject}: {self.state}: " + (f"{', '.join(told)} ({self.reason})" if told else self.reason)

    def document(self) -> dict[str, object]:
        """The finding as JSON-ready data."""
        return {
            "subject": self.subject,
            "state": self.state,
            "reason": self.reason,
            "expected": self.expected or None,
            "found": self.found or None,
            "version": self.version,
        }


@dataclass(frozen=True, slots=True)
class SchemaCheck:
    """What the catalogue says of the objects that versions made.

    `foreign` are objects that no version made, `notes` are worth a line. `unproven` are applied versions of which nothing was recorded, so that their
    objects count as foreign.
    """

    findings: tuple[Finding, ...] = ()
    checked: int = 0
    foreign: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unproven: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RestorePoint:
    """A named point to which a backup can be recovered: `position` in the server's log, or the `reason` why there is none."""

    name: str
    position: str = ""
    reason: str = ""

    def note(self) -> events.Note:
        """Returns the note that reports it."""
        from migrator.planning import events

        if self.position:
            return events.Note("info", "restore-point", f"restore point {self.name} at {self.position}")
        return events.Note("info", "no-restore-point", f"no restore point: {self.reason}")


@dataclass(frozen=True, slots=True)
class Writer:
    """Somebody besides the owner who may write what is recorded: a role or user, what it may do, and the statement that takes that away."""

    name: str
    may: str
    remedy: str


class Database(Protocol):
    """One open database of either engine. Only one thread may use it, except for `cancel`, which any thread may call."""

    @property
    def engine(self) -> targets.Engine: ...

    @property
    def name(self) -> str:
        """The name of the connected database, as the server tells it."""
        ...

    @property
    def server_version(self) -> str: ...

    def read_history(self) -> history.History:
        """Reads goose's rows and greylag's facts; writes nothing, even if no table exists."""
        ...

    def read_outline(self) -> history.Outline | None:
        """Reads the history's outline; None when the engine has no cheap way to read it, or when the table is absent or unusual. Writes nothing."""
        ...

    def read_journal(self) -> tuple[journal.Entry, ...]:
        """Reads the journal's entries of unfinished migrations, oldest first; empty when there is no journal. Writes nothing."""
        ...

    def ensure_history(self) -> history.History:
        """Creates goose's table with row 0 and greylag's side tables if they are absent (goose.md §4.3), then reads the history."""
        ...

    def lock(self, listener: events.Listener) -> AbstractContextManager[None]:
        """Holds the migration lock. Polls, emitting LockWaiting; raises LockUnavailable after `locks.migration_wait`."""
        ...

    def require_fit(self, plan: plans.Plan) -> None:
        """Refuses a plan whose files would not mean on this server what they say; writes nothing. Raises PlanRefused (`cluster-unnamed`)."""
        ...

    def read_remarks(self, plan: plans.Plan) -> tuple[plans.Remark, ...]:
        """Reads what is known on the server already of what the plan would meet, e.g. a mutation of its table that fails for ever. Writes nothing."""
        ...

    def identity(self) -> str:
        """Returns what tells this database from every other one, as the server tells it; the same on every host of a cluster. Writes nothing."""
        ...

    def begin_approval(self, approval: approvals.Approval, steps: Sequence[plans.Step]) -> None:
        """Notes under the lock that an approval is begun, so that `execute` uses it up; as used, where no steps are left of its plan.

        Raises PlanRefused (`approval-used`).
        """
        ...

    def execute(self, plan: plans.Plan, steps: Sequence[plans.Step], listener: events.Listener) -> None:
        """Executes steps in order under the lock, each recorded with its own history row (or row deletion for down; nothing is recorded when
        `plan.target.versioning` is False). Emits MigrationStarted, StatementFinished, MigrationFinished. After an error, finished migrations stay
        finished and recorded.

        Raises StatementRejected (file:line, statement, server's message), LockUnavailable, Unavailable, TimedOut, Interrupted, NeedsAnswer;
        Left between two migrations, or two statements of a file that isn't one transaction, when `Options.leave` says so.
        """
        ...

    def check_schema(self) -> SchemaCheck:
        """Compares what versions have made with what the catalogue holds (on every replica), and looks for what is broken. Writes nothing."""
        ...

    def read_schema(self) -> schema_comparison.Schema:
        """Reads what is recorded of the schema, and what is found. Writes nothing."""
        ...

    def record_schema(self) -> str:
        """Makes what the catalogue holds what is recorded (baseline); returns what there is to say about it."""
        ...

    def read_writers(self) -> tuple[Writer, ...]:
        """Reads who may write the version table and greylag's tables and is neither their owner nor an administrator. Writes nothing."""
        ...

    def read_accepted(self) -> dict[int, str]:
        """Reads which lossy hazards were accepted, and why, by version. Writes nothing."""
        ...

    def read_down_text(self, version: int) -> bytes | None:
        """Reads the recorded file of an applied version. (`read_history` leaves `Fact.down_text` empty, because all of them together would be too large.)"""
        ...

    def record_facts(self, facts: Sequence[history.Fact]) -> None:
        """Writes facts for rows that exist (baseline)."""
        ...

    def renumber(self, version: int, fact: history.Fact) -> None:
        """Records an applied version under the fact's number, with the fact's name, checksum, size and content; executes nothing of a file. Goes on where
        an earlier call was broken off."""
        ...

    def answer(self, version: int, index: int, *, done: bool) -> None:
        """Records a person's answer to a NeedsAnswer: statement `index` (from 1) of the version was executed, or it was not.

        Raises NotFound (`no-question`) when the journal holds no open question about it.
        """
        ...

    def create_restore_point(self, name: str) -> RestorePoint:
        """Creates a restore point in the server's log, if the engine can and the role may; else says why not."""
        ...

    def cancel(self) -> None:
        """Cancels the running statement on the server; safe from signal handlers and other threads."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Database: ...

    def __exit__(self, *exc: object) -> None: ...
