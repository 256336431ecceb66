"""The parts of a plan: policy, steps, remarks, and the plan with its digest. Plain data; `planner` makes it, the engines execute it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, cast

from migrator.planning.history import History
from migrator.targets import Direction, Engine, Mode, Target

if TYPE_CHECKING:
    from migrator.goose import hazards, notes
    from migrator.goose.annotations import Statement
    from migrator.planning import files


Made = TypeVar("Made")


def _no_notes() -> notes.Notes:
    from migrator.goose import notes

    return notes.EMPTY


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A lossy hazard of one file that somebody accepts, and why: the file's base name, which holds its version; the hazard's code; the reason, which is
    shown with the plan and recorded with the version."""

    file: str
    hazard: str
    reason: str

    def __str__(self) -> str:
        return f"{self.hazard}: {self.reason}"


HAZARD_ACCEPTED = "hazard-accepted"
"""The code of the remark that tells of a lossy hazard that somebody accepted, and why."""

BY_FLAG = "-accept-hazards"
"""Stands for a reason where all hazards are accepted at once."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The risks that the caller accepts (lossy hazards, all or some; changed checksums), and whether the environment is protected from being rolled back."""

    accept_hazards: bool = False
    accept_changed: bool = False
    protected: bool = False
    accepted: tuple[Acceptance, ...] = ()

    def acceptance(self, file: str, hazard: str) -> Acceptance | None:
        """Returns what accepts a hazard of a file; None where nothing does."""
        named = next((item for item in self.accepted if (item.file, item.hazard) == (file, hazard)), None)
        return named or (Acceptance(file, hazard, BY_FLAG) if self.accept_hazards else None)


ACCEPT_NOTHING = Policy()


@dataclass(frozen=True)
class Step:
    """One migration in one direction, ready to be executed.

    `path` is as goose prints it (the directory as given, joined with the name). `down_text` is the whole file's raw bytes, stored with the fact of
    an Up, so that an image that lacks the file can still roll back. `oldest_app`, lock and statement time-outs come from the file's own notes.
    `accepted` is what was accepted of its lossy hazards.
    """

    version: int
    name: str
    path: str
    direction: Direction
    mode: Mode
    statements: tuple[Statement, ...]
    checksum: str
    size: int
    notes: notes.Notes = field(default_factory=_no_notes)
    down_text: bytes = b""
    hazards: tuple[hazards.Hazard, ...] = ()
    accepted: tuple[Acceptance, ...] = ()
    _kept: dict[object, object] = field(default_factory=dict, init=False, repr=False, compare=False)

    def kept(self, make: Callable[[Step], Made]) -> Made:
        """Returns the result of `make` for this step; it is made once, and kept with the step."""
        if make not in self._kept:
            self._kept[make] = make(self)
        return cast("Made", self._kept[make])

    def document(self) -> dict[str, object]:
        """Returns the step as JSON-ready data; statements are the file's own text, before ENVSUB."""
        return {
            "version": self.version,
            "name": self.name,
            "direction": str(self.direction),
            "mode": str(self.mode),
            "checksum": self.checksum,
            "statements": [
                {"file": self.path, "first_line": item.first_line, "last_line": item.last_line, "text": item.source}
                for item in self.statements
            ],
            **({"accepted": [{"hazard": item.hazard, "reason": item.reason} for item in self.accepted]} if self.accepted else {}),
        }


@dataclass(frozen=True, slots=True)
class Remark:
    """A warning that a plan carries: stable code, message, hint."""

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Plan:
    """Ordered steps, from the database's current version (`current`) to the target.

    It holds everything it was made from, so that it can be made again under the lock.
    """

    migrations: files.MigrationSet
    target: Target
    engine: Engine
    steps: tuple[Step, ...]
    current: int
    remarks: tuple[Remark, ...] = ()

    @cached_property
    def bundle(self) -> str:
        """The digest of the whole directory, which identifies what is promoted between environments. Reads every file."""
        return self.migrations.digest()

    @cached_property
    def digest(self) -> str:
        """The digest that an approval is bound to: the steps' versions, names, directions and checksums, in order.

        It is computed from the last step to the first, so that the digest of a plan with more steps in front is cheap to compute (see `approves`).
        """
        return digest_of([(step.version, step.name, step.direction, step.checksum) for step in self.steps])

    def document(self) -> dict[str, object]:
        """Returns the plan as JSON-ready data."""
        return {
            "verb": str(self.target.verb),
            "engine": str(self.engine),
            "current": self.current,
            "bundle": self.bundle,
            "digest": self.digest,
            "steps": [step.document() for step in self.steps],
            "remarks": [{"code": item.code, "message": item.message, "hint": item.hint} for item in self.remarks],
        }


def digest_of(steps: Sequence[tuple[int, str, str, str]]) -> str:
    """Returns the digest of a plan whose steps have these versions, names, directions and checksums: for who has only read them."""
    import hashlib  # OpenSSL takes milliseconds to load; a plan without steps is digested by nobody

    digest = hashlib.sha256(b"greylag plan").hexdigest()
    for version, name, direction, checksum in reversed(steps):
        digest = _prepend(version, name, direction, checksum, digest)
    return digest


def _prepend(version: int, name: str, direction: str, checksum: str, tail: str) -> str:
    import hashlib

    return hashlib.sha256(json.dumps([version, name, str(direction), checksum, tail]).encode()).hexdigest()


def approves(digest: str, candidate: Plan, history: History) -> bool:
    """Tells whether an approval of the plan with this digest covers `candidate`: the same steps, or fewer because the first ones are applied by now.

    Needs only the digest: the applied versions are put back in front of the candidate's steps, newest first, until the digest
    matches. An empty candidate changes nothing and is always covered.
    """
    if not candidate.steps or candidate.digest == digest:
        return True
    tail = candidate.digest
    for version in sorted((item for item in history.applied if item < candidate.steps[0].version), reverse=True):
        file = candidate.migrations.by_version(version)
        if file is None:
            continue
        tail = _prepend(file.version, file.name, Direction.UP, file.checksum(), tail)
        if tail == digest:
            return True
    return False
