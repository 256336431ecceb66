r"""Meta-commands of psql (`\restrict KEY`, `\connect db`, `\.`) in a file: psql executes them itself, a server has none.

No operator of PostgreSQL holds a backslash, so one outside of quotes and comments is always such a command, or the data of a COPY in psql's own form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?<![\w$])[eE]'(?:[^'\\]|\\.|'')*+(?:'|\Z) | '(?:[^']|'')*+(?:'|\Z) | "(?:[^"]|"")*+(?:"|\Z) | --[^\n\r]*+ | /\*.*?(?:\*/|\Z)
    | (?<![\w$])(?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?:(?P=tag)|\Z) | \\(?P<name>[A-Za-z]+\+?|[.!?;]|\S?)""",
    re.VERBOSE | re.DOTALL,
)
_FROM_STDIN = re.compile(r"\s*(?:(?:--[^\n]*|/\*.*?\*/)\s*)*copy\b.*\bfrom\s+stdin\b", re.IGNORECASE | re.DOTALL)

_HINTS = {
    "c": "delete it: the address says which database is used",
    "connect": "delete it: the address says which database is used",
    "copy": "write the rows as INSERT (pg_dump --inserts), or COPY FROM a file on the server",
    "gexec": "write a DO block that executes the texts with EXECUTE",
    "i": "put the other file's text here",
    "include": "put the other file's text here",
    "ir": "put the other file's text here",
    "include_relative": "put the other file's text here",
    "set": "`-- +goose ENVSUB ON` and ${NAME} fill in a variable",
    "restrict": r"delete it, and \unrestrict at the dump's end; `pg_dump … | grep -v '^\\'` writes neither",
    "unrestrict": r"delete it, and \restrict at the dump's beginning; `pg_dump … | grep -v '^\\'` writes neither",
}
COPY_HINT = r"write the rows as INSERT, as `pg_dump --inserts … | grep -v '^\\'` does; COPY FROM a file on the server works as well"


@dataclass(frozen=True, slots=True)
class MetaCommand:
    """A meta-command: its name with the backslash, and the offset of that in the text that was looked at."""

    name: str
    offset: int

    @property
    def hint(self) -> str:
        """Returns what to write instead."""
        return COPY_HINT if self.name == r"\." else _HINTS.get(self.name[1:], "delete it, or write in SQL what it does")


def find(text: str) -> MetaCommand | None:
    """Returns the first meta-command of a statement."""
    if "\\" not in text:
        return None
    for found in _TOKEN.finditer(text):
        if found[0].startswith("\\"):
            return MetaCommand(f"\\{found['name']}", found.start())
    return None


def takes_data(text: str) -> bool:
    """Tells whether a statement is a COPY FROM stdin, behind which psql expects lines of data."""
    return _FROM_STDIN.match(text) is not None
