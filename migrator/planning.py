"""Migrations + history + target -> Plan: what would run, in order, and why it may not (pure, printable; design §2).

The rules are goose's command semantics (goose.md §6), with two differences that design §2 asks for: every pending file is read and
parsed before anything runs, and refusals name file, line and remedy. A version that only the database knows is a warning: an older image on a
newer database is every rollback.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from migrator import annotations, hazards, notes


class Direction(enum.StrEnum):
    """Which section of a migration file runs."""

    UP = "up"
    DOWN = "down"


class Mode(enum.StrEnum):
    """How a migration's statements are executed."""

    TRANSACTION = "transaction"
    AUTOCOMMIT = "autocommit"
    CLICKHOUSE = "clickhouse"


class Verb(enum.StrEnum):
    """What was asked for, in goose's words."""

    UP = "up"
    UP_BY_ONE = "up-by-one"
    UP_TO = "up-to"
    DOWN = "down"
    DOWN_TO = "down-to"
    REDO = "redo"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Target:
    """A verb with its version; `version` is only read for up-to and down-to."""

    verb: Verb
    version: int = 0
    allow_missing: bool = False
    versioning: bool = True  # False is goose's -no-versioning: no table is read or written


@dataclass(frozen=True, slots=True)
class Policy:
    """What the caller accepts: lossy hazards, changed checksums and rolling back a protected environment."""

    accept_hazards: bool = False
    accept_changed: bool = False
    protected: bool = False


@dataclass(frozen=True)
class Step:
    """One migration in one direction, ready to be executed.

    `path` is as goose prints it (the directory as given, joined with the name). `down_text` is the whole file's raw bytes, kept with the fact of
    an Up so that an image that lacks the file can still roll back. `oldest_app`, lock and statement time-outs come from the file's own notes.
    """

    version: int
    name: str
    path: str
    direction: Direction
    mode: Mode
    statements: tuple[annotations.Statement, ...]
    checksum: str
    size: int
    notes: notes.Notes = field(default_factory=notes.Notes)
    down_text: bytes = b""
    hazards: tuple[hazards.Hazard, ...] = ()

    def document(self) -> dict[str, object]:
        """The step as JSON-ready data; statements are the file's own text, before ENVSUB."""
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
        }


@dataclass(frozen=True, slots=True)
class Remark:
    """A warning that a plan carries: stable code, message, hint."""

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Plan:
    """Ordered steps, from where the database stands to the target. `bundle` is the digest of the whole directory."""

    target: Target
    steps: tuple[Step, ...]
    bundle: str
    current: int
    remarks: tuple[Remark, ...] = ()

    @cached_property
    def digest(self) -> str:
        """sha256 over the steps (version, name, direction, checksum): what an approval is bound to. Mode and text follow from the file."""
        lines = [[step.version, step.name, str(step.direction), step.checksum] for step in self.steps]
        return hashlib.sha256(json.dumps(lines).encode()).hexdigest()

    def document(self) -> dict[str, object]:
        """The plan as JSON-ready data."""
        return {
            "verb": str(self.target.verb),
            "current": self.current,
            "bundle": self.bundle,
            "digest": self.digest,
            "steps": [step.document() for step in self.steps],
            "remarks": [{"code": item.code, "message": item.message, "hint": item.hint} for item in self.remarks],
        }


Environment = Mapping[str, str]
