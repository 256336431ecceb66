"""What a quote, a comment and a name are to each server, as regular expressions: the lexical rules that `lexer` follows.

Sources: PostgreSQL's scan.l (nested comments, `E''`, dollar quotes, a comment ends at CR too); ClickHouse's Lexer.cpp (backslash in every quote,
heredocs, `# ` and `#!` comments), measured on 26.9.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property


class Construct(enum.StrEnum):
    """The constructs that can be open at the end of a chunk."""

    STRING = "string"
    ESCAPE_STRING = "escape string"
    IDENTIFIER = "quoted identifier"
    BACKTICK = "quoted identifier in backticks"
    CURLED = "string in curled quotes"
    CURLED_IDENTIFIER = "identifier in curled quotes"
    DOLLAR = "dollar-quoted text"
    COMMENT = "block comment"
    PARENTHESIS = "parenthesis"
    ATOMIC_BODY = "BEGIN ATOMIC body"


# Everything above ASCII is a letter for PostgreSQL. Sets are written as the ASCII characters that they lack: `re` compiles a set of wide characters
# a hundred times as slowly, and every run would pay for that.
_LETTER = r"[^\x00-@\[-^`{-\x7f]"
_NAME_PART = r"[^\x00-/:-@\[-^`{-\x7f]"
_NAME_PART_OR_DOLLAR = r"[^\x00-#%-/:-@\[-^`{-\x7f]"
_BACKSLASHED = r"(?:[^{0}\\]|\\.|{0}{0})*+{0}"  # the rest of a quote in which a backslash escapes
_SPACE = r"[^\S\x1c-\x1f]"
"""Go's white space: Python's without four control characters."""

_FLAGS = re.VERBOSE | re.DOTALL

CONTINUED = re.compile(r"[ \t\f\v]*+[\n\r](?:[ \t\f\v\n\r]++|--[^\n\r]*+[\n\r])*+'")
"""A string continues after a line end: `e'a'` and, on the next line, `'b'` are one string, and a backslash escapes in both parts."""


@dataclass(frozen=True)
class Grammar:
    """The expressions of one lexer, as their source: a run uses one grammar of the three, and compiles what it uses."""

    quotes: str
    stops: str
    comment: str
    dollars: str
    ends: Mapping[Construct, str]

    @cached_property
    def plain(self) -> re.Pattern[str]:
        """Skips everything irrelevant."""
        return re.compile(rf"(?: [^{self.stops}\-/;()$]++ | {self._tokens} )*+", _FLAGS)

    @cached_property
    def worded(self) -> re.Pattern[str]:
        """Does what `plain` does, but stops at the words of `BEGIN ATOMIC` bodies."""
        stop = re.compile(rf"[{self.stops}\-/;()$\w]", re.ASCII)
        others = "".join(re.escape(chr(code)) for code in range(128) if not stop.match(chr(code)))
        other_word = rf"(?!(?i:BEGIN|CASE|END)(?!{_NAME_PART_OR_DOLLAR})) {_LETTER}{_NAME_PART}*+"
        return re.compile(rf"(?: [{others}]++ | [0-9]++ | {other_word} | {self._tokens} )*+", _FLAGS)

    @cached_property
    def blank(self) -> re.Pattern[str]:
        """Matches white space and line comments."""
        return re.compile(rf"(?: {_SPACE}++ | {self.comment} )*+", _FLAGS)

    @cached_property
    def dollar(self) -> re.Pattern[str]:
        """Matches the beginning of a dollar quote."""
        return re.compile(self.dollars)

    @cached_property
    def rests(self) -> dict[Construct, re.Pattern[str]]:
        """Returns what matches the rest of a quote, including its end."""
        return {construct: re.compile(rest, re.DOTALL) for construct, rest in self.ends.items()}

    @property
    def _tokens(self) -> str:
        flat = (
            rf"\( (?: [^{self.stops}\-/;()$]++ | {self.quotes} | -(?!-) )*+ \)"  # matches most parentheses at once; deeper ones are counted
        )
        return rf"{self.quotes} | {self.comment} | -(?!-) | /(?!\*) | {flat}"


POSTGRES_DOLLAR = rf"\$(?:{_LETTER}{_NAME_PART}*+)?\$"
"""A regular expression for the beginning, and the end, of a dollar quote."""

_POSTGRES_RESTS = {
    Construct.STRING: "[^']*+'",
    Construct.ESCAPE_STRING: _BACKSLASHED.format("'"),
    Construct.IDENTIFIER: '[^"]*+"',
}
POSTGRES = Grammar(
    """(?<![eE])'[^']*+' | "[^"]*+\"""",  # before e' it stops: an escape string, or the end of a word
    "'\"",
    r"--[^\n\r]*+",
    POSTGRES_DOLLAR,
    _POSTGRES_RESTS,
)
POSTGRES_ESCAPES = Grammar(
    f"""'{_BACKSLASHED.format("'")} | "[^"]*+\"""",
    "'\"",
    r"--[^\n\r]*+",
    POSTGRES_DOLLAR,
    {**_POSTGRES_RESTS, Construct.STRING: _BACKSLASHED.format("'")},
)
_CLICKHOUSE_RESTS = {
    Construct.STRING: _BACKSLASHED.format("'"),
    Construct.IDENTIFIER: _BACKSLASHED.format('"'),
    Construct.BACKTICK: _BACKSLASHED.format("`"),
    Construct.CURLED: "[^’]*+’",
    Construct.CURLED_IDENTIFIER: "[^”]*+”",
}
CLICKHOUSE = Grammar(
    f"""'{_CLICKHOUSE_RESTS[Construct.STRING]} | "{_CLICKHOUSE_RESTS[Construct.IDENTIFIER]} | `{_CLICKHOUSE_RESTS[Construct.BACKTICK]}
    | ‘[^’]*+’ | “[^”]*+” | \\#(?![ !])""",
    "'\"`\\#‘“",
    r"(?:--|\#[ !])[^\n]*+",
    r"\$[A-Za-z0-9_]*+\$",
    _CLICKHOUSE_RESTS,
)

WORD = re.compile(f"{_LETTER}{_NAME_PART_OR_DOLLAR}*+")
"""A name without quotes, or a keyword."""
WORD_PART = re.compile(_NAME_PART_OR_DOLLAR)
