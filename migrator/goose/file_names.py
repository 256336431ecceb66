"""Names of migration files by the rules of goose's CLI: which version a name has, what sort of version that is, how words become a name (goose.md §3)."""

from __future__ import annotations

import datetime

from migrator.goose import goquote, gounicode

TIMESTAMP = "%Y%m%d%H%M%S"
"""How a version is written that is a moment, in UTC."""

_EPOCH = datetime.datetime(1970, 1, 1)


def version_of(name: str) -> int:
    """Returns the version in a file's base name.

    Raises:
        ValueError: its text is goose's reason.
    """
    if not name.endswith((".sql", ".go")):
        raise ValueError("migration file does not have .sql or .go file extension")
    before, separator, _ = name.partition("_")
    if not separator:
        raise ValueError("no filename separator '_' found")
    if before.isascii() and before.isdigit() and len(before) < 19:  # the usual case, below the greatest 64-bit number in any event
        version = int(before)
        if version:
            return version
    try:
        version = goquote.parse_int(before)
    except ValueError as error:
        raise ValueError(f"failed to parse version from migration file: {name}: {error}") from None
    if version < 1:
        raise ValueError("migration version must be greater than zero")
    return version


def is_timestamp(version: int) -> bool:
    """Tells whether the version is a timestamp `YYYYMMDDhhmmss` after 1970 for goose (goose.md §3.3)."""
    moment = _moment(version)
    return moment is not None and moment > _EPOCH


def is_sequential(version: int) -> bool:
    """Tells whether a version is "versioned" for goose: no timestamp, or one before 1970. Exactly 1970 is neither this nor a timestamp."""
    moment = _moment(version)
    return moment is None or moment < _EPOCH


def snake_case(name: str) -> str:
    """Returns a migration's name as goose writes it into a file name (goose.md §3.4): `Foo-Bar.baz` → `foo_bar_baz`."""
    words, trailing = _words(name)
    return "_".join("".join(_lower(character) for character in word) for word in words) + ("_" if trailing else "")


def camel_case(name: str) -> str:
    """Returns a migration's name as goose writes it into a Go template: `add users` → `AddUsers`."""
    words, _ = _words(name)
    return "".join(_upper(word[0]) + "".join(_lower(character) for character in word[1:]) for word in words)


def _moment(version: int) -> datetime.datetime | None:
    text = str(version)
    if len(text) != 14:
        return None
    try:
        return datetime.datetime.strptime(text, TIMESTAMP)
    except ValueError:
        return None


def _words(name: str) -> tuple[list[str], bool]:
    """Returns the runs of letters and numbers, and whether exactly one other character follows the last."""
    words: list[str] = []
    gap = 2
    for character in name:
        if gounicode.is_letter(character) or gounicode.is_number(character):
            if gap:
                words.append("")
            words[-1] += character
            gap = 0
        else:
            gap += 1
    return words, bool(words) and gap == 1


def _lower(character: str) -> str:
    """Returns Go's `unicode.ToLower`, which maps one character to one."""
    lower = character.lower()
    return lower if len(lower) == 1 else "i"  # U+0130 is the only one with two


def _upper(character: str) -> str:
    """Returns Go's `unicode.ToUpper`, which maps one character to one; a character whose full mapping has several (`ß`) stays."""
    upper = character.upper()
    return upper if len(upper) == 1 else character
