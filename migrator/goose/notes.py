"""`-- greylag: …` lines: a migration file's settings for the run that applies it. For goose they are comments.

    -- greylag: lock-timeout 2s
    -- greylag: lock-budget 60s
    -- greylag: statement-timeout 5m
    -- greylag: oldest-app 20260801120000

A note stands on a line of its own, anywhere in the file, and holds for both directions. The parser is strict, because a misspelt note would otherwise
silently have no effect.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, fields

from migrator import errors
from migrator.goose import goquote, gounicode

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|min|m|h)")
_LINE = re.compile(rb"^[ \t]*--+[ \t]*greylag[ \t]*:(.*)$", re.MULTILINE | re.IGNORECASE)
_LONGEST_SECONDS = 24 * 3600.0
"""A time-out of more than a day is taken for a wrong unit."""


@dataclass(frozen=True, slots=True)
class Notes:
    """The file's settings; None for those that it doesn't set.

    Args:
        lock_timeout: seconds that a transaction may wait for locks before it is rolled back and retried.
        lock_budget: seconds within which lock waits are retried.
        statement_timeout: seconds that one statement may run; 0 for no limit.
        oldest_app: the newest version that the oldest application image must know to run on this database.
    """

    lock_timeout: float | None = None
    lock_budget: float | None = None
    statement_timeout: float | None = None
    oldest_app: int | None = None


NAMES = tuple(item.name.replace("_", "-") for item in fields(Notes))

_EXAMPLES = {"lock-timeout": "2s", "lock-budget": "60s", "statement-timeout": "5m", "oldest-app": "20260801120000"}


def parse(data: bytes, *, path: str = "") -> Notes:
    """Reads the notes of a whole file.

    Args:
        data: the raw bytes of the file.
        path: the file's name in errors.

    Raises:
        ParseError: an unknown or repeated note, or a value that is no duration or version; with the line and what to write.
    """
    if b"reylag" not in data and b"REYLAG" not in data:
        return EMPTY
    found: dict[str, float | int] = {}
    for match in _LINE.finditer(data):
        where = errors.Location(path, data.count(b"\n", 0, match.start()) + 1)
        name, value = _note(gounicode.decode(match.group(1)).strip(), where)
        if name in found:
            raise errors.ParseError(
                f"the note {name} stands in this file twice",
                code="repeated-note",
                where=where,
                hint="keep one of the two lines; a note holds for the whole file",
            )
        found[name] = value
    return Notes(**{name.replace("-", "_"): value for name, value in found.items()})  # type: ignore[arg-type]


def _note(text: str, where: errors.Location) -> tuple[str, float | int]:
    name, _, value = text.partition(" ")
    value = value.strip()
    if name not in NAMES:
        near = difflib.get_close_matches(name.lower().replace("_", "-"), NAMES, n=1, cutoff=0.5)
        raise errors.ParseError(
            f"unknown note {goquote.quote(name)}",
            code="unknown-note",
            where=where,
            hint=f"did you mean `-- greylag: {near[0]} {value or _EXAMPLES[near[0]]}`?" if near else f"notes are: {', '.join(NAMES)}",
        )
    number = _version(value) if name == "oldest-app" else _seconds(value)
    if number is None:
        raise errors.ParseError(
            f"the note {name} can't be {goquote.quote(value)}",
            code="bad-note",
            where=where,
            hint=f"write for example `-- greylag: {name} {_EXAMPLES[name]}`"
            + ("" if name == "oldest-app" else " (a number and ms, s, m or h; a day at most)"),
        )
    return name, number


def _seconds(text: str) -> float | None:
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    seconds = float(match[1]) * _UNITS[match[2]]
    return seconds if seconds <= _LONGEST_SECONDS else None


def _version(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    version = int(text) if len(text) < 20 else 0
    return version if 0 < version < 1 << 63 else None


EMPTY = Notes()
