"""What is asked of which database: engine, verb, direction, mode. The vocabulary that goose's text, planning and the engines share."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Engine(enum.StrEnum):
    """The two databases, spelled as goose spells its drivers."""

    POSTGRES = "postgres"
    CLICKHOUSE = "clickhouse"


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


UPWARDS = frozenset({Verb.UP, Verb.UP_BY_ONE, Verb.UP_TO})


@dataclass(frozen=True, slots=True)
class Target:
    """A verb with its version, which is only read for up-to and down-to. `versioning=False` is goose's -no-versioning: no table is read or
    written (goose.md §6.2)."""

    verb: Verb
    version: int = 0
    allow_missing: bool = False
    versioning: bool = True
