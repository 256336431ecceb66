"""The messages of a pipeline: greylag's own commands with parameters, a migration's commands as they are.

    message("SELECT pg_catalog.pg_try_advisory_lock($1)", 4097083626)      greylag's own, whose rows are wanted
    Message(b"ALTER TABLE users ADD COLUMN name text")                     a migration's command, unchanged; its rows are thrown away

`Session.pipeline` sends them, `flight` keeps count of those without an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

TEXT, BIGINT, BYTEA, DOUBLE = 25, 20, 17, 701
"""OIDs of the parameter types used here; given explicitly so that no search path is asked what `text` means."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a pipeline: a command of greylag's own with `$1` parameters, or a migration's without any.

    `name` makes it a prepared statement, parsed once in a session. `flush` asks the server to send its result at once,
    `streams` says that it may return many rows, which are to be thrown away as they come. `forgets`: no prepared statement is there behind it.
    """

    text: bytes
    parameters: tuple[bytes | None, ...] = ()
    types: tuple[int, ...] = ()
    wants_rows: bool = False
    formats: tuple[int, ...] | None = None
    name: bytes = b""
    flush: bool = False
    streams: bool = False
    forgets: bool = False


def message(text: str, *parameters: str | int | float | bytes | None) -> Message:
    """Returns the message for a command of greylag's own, whose rows are wanted."""
    values: list[bytes | None] = []
    types: list[int] = []
    for value in parameters:
        if isinstance(value, bytes):
            values.append(value)
            types.append(BYTEA)
        else:
            values.append(None if value is None else str(value).encode("utf-8", "surrogateescape"))
            types.append(_type_of(value))
    formats = tuple(int(kind == BYTEA) for kind in types) if BYTEA in types else None  # a file is sent as it is, not as hexadecimal text
    return Message(text.encode(), tuple(values), tuple(types), wants_rows=True, formats=formats)


def _type_of(value: str | int | float | None) -> int:
    if value is None:
        return 0  # the server infers it
    return BIGINT if isinstance(value, int) else DOUBLE if isinstance(value, float) else TEXT


def milliseconds(seconds: float) -> int:
    """Returns a time-out as the server takes it: whole milliseconds, at least one unless it is 0 for none."""
    return max(round(seconds * 1000), 1) if seconds > 0 else 0


Rows = list[tuple[str | None, ...]]
OnResult = Callable[[int, Rows], None]
