"""Names of migration files as goose makes them: time stamps, sequence numbers, snake case (goose.md §3.3, §3.4)."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime

SQL_TEMPLATE = "-- +goose Up\nSELECT 'up SQL query';\n\n-- +goose Down\nSELECT 'down SQL query';\n"
"""goose's template since v3.27.0 (goose.md §3.4)."""


def timestamp(moment: datetime | None = None) -> str:
    """A version from the clock: UTC, `YYYYMMDDhhmmss`."""
    return (moment or datetime.now(UTC)).strftime("%Y%m%d%H%M%S")


def is_timestamp(version: int) -> bool:
    """Whether goose takes a version for a time stamp: it parses as `YYYYMMDDhhmmss` and lies after 1970-01-01 00:00:00."""
    return _moment(version) is not None and version > 19700101000000


def is_sequential(version: int) -> bool:
    """Whether goose counts from this version: it is no time, or one before 1970 (19700101000000 itself is neither)."""
    return _moment(version) is None or version < 19700101000000


def _moment(version: int) -> datetime | None:
    text = str(version)
    if len(text) != 14:
        return None
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%S")
    except ValueError:
        return None


def next_sequential(versions: Iterable[int]) -> int:
    """The number after the last sequential version, 1 when there is none."""
    return max((version for version in versions if is_sequential(version)), default=0) + 1


def snake_case(name: str) -> str:
    """A name in goose's snake case: letters and digits in lower case, each run of others one `_`, none at the start.

    A single character at the end still becomes `_`, a run at the end does not: goose's state machine, kept as it is.
    """
    found: list[str] = []
    pending = 0  # characters since the last letter or digit; goose writes the underscore at the first
    for character in name:
        if unicodedata.category(character)[0] in "LN":
            found.append(_lower(character))
            pending = 0
        elif found and pending == 0:
            found.append("_")
            pending = 1
        else:
            pending += 1
    text = "".join(found)
    return text.removesuffix("_") if pending > 1 else text


def _lower(character: str) -> str:
    """One character in lower case as Go's unicode.ToLower does it: always one character."""
    lowered = character.lower()
    return lowered if len(lowered) == 1 else character


def join(directory: str, name: str) -> str:
    """A path as Go's filepath.Join cleans it: `./x` is `x`."""
    return os.path.normpath(os.path.join(directory, name))  # noqa: PTH118
