"""The vocabulary that goose's text, planning and the engines share: engine, verb, direction, mode, target."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Engine(enum.StrEnum):
    """The two databases, spelled as goose spells its drivers."""

    POSTGRES = "postgres"
    CLICKHOUSE = "clickhouse"


class Direction(enum.StrEnum):
    """The section of a migration file that runs."""

    UP = "up"
    DOWN = "down"


class Mode(enum.StrEnum):
    """The way in which a migration's statements are executed."""

    TRANSACTION = "transaction"
    AUTOCOMMIT = "autocommit"
    CLICKHOUSE = "clickhouse"


class Verb(enum.StrEnum):
    """The commands that run or roll back migrations, in goose's words."""

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
