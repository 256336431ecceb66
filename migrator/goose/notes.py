"""`-- greylag: …` lines: a migration file's settings for the run that applies it. For goose they are comments.

    -- greylag: lock-timeout 2s
    -- greylag: lock-budget 60s
    -- greylag: statement-timeout 5m
    -- greylag: oldest-app 20260801120000
    -- greylag: ignore H02 the identifiers come from another system

A note stands on a line of its own, anywhere in the file, and holds for both directions; `ignore` may stand once for each house rule. The parser is
strict, because a misspelt note would otherwise silently have no effect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from migrator import errors
from migrator.goose import goquote, gounicode
from migrator.house_rules import RULES

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|min|m|h)")
_LINE = re.compile(rb"^[ \t]*--+[ \t]*greylag[ \t]*:(.*)$", re.MULTILINE | re.IGNORECASE)
_LONGEST_SECONDS = 24 * 3600.0
"""A time-out of more than a day is taken for a wrong unit."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A house rule that a file is excepted from, and why."""

    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Notes:
    """The file's settings; None for those that it doesn't set.

    Args:
        lock_timeout: seconds that a transaction may wait for locks before it is rolled back and retried.
        lock_budget: seconds within which lock waits are retried.
        statement_timeout: seconds that one statement may run; 0 for no limit.
        oldest_app: the newest version that the oldest application image must know to run on this database.
        ignored: the house rules that the file is excepted from.
    """

    lock_timeout: float | None = None
    lock_budget: float | None = None
    statement_timeout: float | None = None
    oldest_app: int | None = None
    ignored: tuple[Ignored, ...] = ()


_EXAMPLES = {
    "lock-timeout": "2s",
    "lock-budget": "60s",
    "statement-timeout": "5m",
    "oldest-app": "20260801120000",
    "ignore": "H02 the identifiers come from another system",
}

NAMES = tuple(_EXAMPLES)


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
    ignored: dict[str, Ignored] = {}
    for match in _LINE.finditer(data):
        where = errors.Location(path, data.count(b"\n", 0, match.start()) + 1)
        name, value = _note(gounicode.decode(match.group(1)).strip(), where)
        if isinstance(value, Ignored) and value.rule not in ignored:
            ignored[value.rule] = value
            continue
        if isinstance(value, Ignored):
            name = f"ignore {value.rule}"
        if name in found or isinstance(value, Ignored):
            raise errors.ParseError(
                f"the note {name} stands in this file twice",
                code="repeated-note",
                where=where,
                hint="keep one of the two lines; a note holds for the whole file",
            )
        found[name] = value
    settings = {name.replace("-", "_"): value for name, value in found.items()}
    return Notes(**settings, ignored=tuple(ignored.values()))  # type: ignore[arg-type]


def _note(text: str, where: errors.Location) -> tuple[str, float | int | Ignored]:
    name, _, value = text.partition(" ")
    value = value.strip()
    if name not in NAMES:
        from difflib import get_close_matches

        near = get_close_matches(name.lower().replace("_", "-"), NAMES, n=1, cutoff=0.5)
        raise errors.ParseError(
            f"unknown note {goquote.quote(name)}",
            code="unknown-note",
            where=where,
            hint=f"did you mean `-- greylag: {near[0]} {value or _EXAMPLES[near[0]]}`?" if near else f"notes are: {', '.join(NAMES)}",
        )
    if name == "ignore":
        return name, _ignored(value, where)
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


def _ignored(value: str, where: errors.Location) -> Ignored:
    rule, _, reason = value.partition(" ")
    if rule not in RULES:
        raise errors.ParseError(
            f"the note ignore can't be {goquote.quote(value)}: it begins with the id of a house rule",
            code="bad-note",
            where=where,
            hint=f"write for example `-- greylag: ignore {_EXAMPLES['ignore']}`; rules are: "
            + ", ".join(f"{item.id} ({item.name})" for item in RULES.values()),
        )
    if not any(character.isalnum() for character in reason):
        raise errors.ParseError(
            f"the note ignore {rule} gives no reason",
            code="bad-note",
            where=where,
            hint=f"write why this file may do so: `-- greylag: ignore {rule} {_EXAMPLES['ignore'].partition(' ')[2]}`",
        )
    return Ignored(rule, reason.strip())


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
