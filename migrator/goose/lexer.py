"""Finds where quotes, comments and commands begin and end in SQL: just enough of PostgreSQL's and ClickHouse's lexers to tell how a server will read a
chunk that goose cut out of a file.

Pure, and fast on large text: a regular expression skips everything irrelevant and stops only at parentheses, semicolons, dollar signs,
block comments, and quotes that stay open (`lexical_rules`). `BEGIN ATOMIC` bodies follow psql's rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from migrator.goose import lexical_rules
from migrator.goose.lexical_rules import Construct
from migrator.targets import Engine


@dataclass(frozen=True, slots=True)
class Open:
    """The construct that a chunk leaves open, with what is needed to continue the scan in the next chunk.

    Args:
        construct: the innermost construct without an end.
        offset: where it begins in its chunk.
        tag: the text that ends a dollar quote.
        comments: depth of nested block comments.
        parentheses, atomic: depth outside of quotes.
    """

    construct: Construct
    offset: int
    tag: str = ""
    comments: int = 0
    parentheses: int = 0
    atomic: int = 0


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a chunk: offsets of its first word and of its end (the `;`, or the end of the chunk), its first words in capitals."""

    start: int
    end: int
    words: tuple[str, ...]


@dataclass(slots=True)
class Scan:
    """The contents of a chunk.

    Args:
        commands: those that hold more than white space and comments, without the rest of a command that an earlier chunk had begun.
        open: the construct that the chunk leaves open.
        stray_dollar: offset of a `$` that no lexer accepts.
        continued: whether the whole chunk is still inside a construct that an earlier chunk had left open.
        nested: whether a semicolon stands inside parentheses or a `BEGIN ATOMIC` body, where it ends no command.
    """

    commands: list[Command] = field(default_factory=list)
    open: Open | None = None
    stray_dollar: int | None = None
    continued: bool = False
    nested: bool = False


@dataclass(frozen=True, slots=True)
class Outline:
    """A scan without lengths, kept beside its chunk: the 200,000 INSERTs of a dump have the same outline, which is one object (`outline`).

    Args:
        engine: the engine whose lexer was followed.
        commands: start, number of characters after the end, first words.
        open, stray_dollar, nested: as in `Scan`.
    """

    engine: Engine
    commands: tuple[tuple[int, int, tuple[str, ...]], ...]
    open: Open | None
    stray_dollar: int | None
    nested: bool

    def scan(self, text: str) -> Scan:
        """Returns the scan of the chunk that has this outline; nothing is read again."""
        size = len(text)
        return Scan(
            [Command(start, size - behind, words) for start, behind, words in self.commands],
            self.open,
            self.stray_dollar,
            False,
            self.nested,
        )


_outlines: dict[Outline, Outline] = {}
_OUTLINES_MOST = 4096  # if there are more, the chunks have little in common


def outline(text: str, engine: Engine) -> Outline:
    """Reads one chunk on its own, as `scan` does."""
    read = scan(text, engine)
    size = len(text)
    commands = tuple((command.start, size - command.end, command.words) for command in read.commands)
    found = Outline(engine, commands, read.open, read.stray_dollar, read.nested)
    if len(_outlines) >= _OUTLINES_MOST:
        _outlines.clear()
    return _outlines.setdefault(found, found)


_COMMENT_EDGE = re.compile(r"/\*|\*/")
_ATOMIC = re.compile(r"\bBEGIN\s+ATOMIC\b", re.IGNORECASE)
_FORMAT = re.compile(r"\bFORMAT\s+(?!VALUES\b)[A-Za-z]\w*", re.IGNORECASE)
_QUOTES = {
    "'": Construct.STRING,
    '"': Construct.IDENTIFIER,
    "`": Construct.BACKTICK,
    "‘": Construct.CURLED,
    "“": Construct.CURLED_IDENTIFIER,
}
_LONGEST_NAME = 256  # characters before a `$` that are searched for the name it is part of; servers cut names at 63 bytes
_HEAD_WORDS = 5  # these are enough to distinguish CREATE OR REPLACE PROCEDURE, ALTER TABLE …
_ASCII_WORD = "[A-Za-z_][A-Za-z0-9_]*+"
_PLAIN_HEAD = re.compile(
    rf"({_ASCII_WORD}(?:[ \t\r\n]++{_ASCII_WORD}){{{_HEAD_WORDS - 1}}})(?![^\x00-#%-\x7f])"
    rf"|({_ASCII_WORD}(?:[ \t\r\n]++{_ASCII_WORD}){{0,{_HEAD_WORDS - 2}}})[ \t\r\n]*+(?:\Z|(?=[(),;'\"=.*<>]))"
)
"""The first words of nearly every command, in one step: words of ASCII letters without a comment between them."""


def scan(text: str, engine: Engine, before: Open | None = None, *, escapes: bool = False) -> Scan:
    """Reads one chunk.

    Args:
        text: the chunk, as it would be sent.
        engine: the engine whose lexer is followed.
        before: the construct that the chunk before left open. The text then begins inside of it, and the command that it belongs to is none of this chunk's.
        escapes: PostgreSQL with `standard_conforming_strings = off`, where a backslash escapes in every string.
    """
    if engine is Engine.CLICKHOUSE:
        return _Scanner(text, lexical_rules.CLICKHOUSE, engine, before).run()
    return _Scanner(text, lexical_rules.POSTGRES_ESCAPES if escapes else lexical_rules.POSTGRES, engine, before).run()


class _Scanner:
    """One pass over one chunk. Every `_at_…` method takes the position of what it handles and returns the position to continue at."""

    def __init__(self, text: str, grammar: lexical_rules.Grammar, engine: Engine, before: Open | None) -> None:
        self.text = text
        self.grammar = grammar
        self.engine = engine
        self.before = before
        self.result = Scan()
        self.end = len(text)
        self.parentheses: list[int] = [0] * before.parentheses if before else []
        self.atomic: list[int] = [0] * before.atomic if before else []
        self.command_start = 0
        self.continued = before is not None
        self.names_from = 0  # a name can't reach back beyond the end of a dollar quote, though a `$` tag ends like a name

    def run(self) -> Scan:
        position = self._rest_of_before()
        if self.engine is Engine.CLICKHOUSE and not self.continued:
            self.end = self._data_start()
        atomic = self.engine is Engine.POSTGRES and (bool(self.atomic) or _ATOMIC.search(self.text) is not None)
        passes = (self.grammar.worded if atomic else self.grammar.plain).match
        text, end = self.text, self.end
        while position < end:
            found = passes(text, position, end)
            position = found.end() if found else position
            if position < end:
                position = self._at_stop(position)
        self._close_command(self.end)
        if self.result.open is None and (self.atomic or self.parentheses):
            innermost = Construct.ATOMIC_BODY if self.atomic else Construct.PARENTHESIS
            self._leave_open(innermost, (self.atomic or self.parentheses)[0])
        self.result.continued = self.continued and self.result.open is not None
        return self.result

    def _at_stop(self, position: int) -> int:
        character = self.text[position]
        if character == ";":
            if self.parentheses or self.atomic:
                self.result.nested = True
            else:
                self._close_command(position)
                self.command_start = position + 1
                self.continued = False
            return position + 1
        if character == "(":
            self.parentheses.append(position)
            return position + 1
        if character == ")":
            if self.parentheses:
                self.parentheses.pop()
            return position + 1
        if character == "$":
            return self._at_dollar(position)
        if character == "/":
            return self._in_comment(position, position + 2, 1)
        if character in _QUOTES:
            return self._at_quote(position)
        return self._at_word(position)

    def _at_quote(self, position: int) -> int:
        construct = _QUOTES[self.text[position]]
        if construct is Construct.STRING and self.engine is Engine.POSTGRES and self._is_escape_string(position):
            construct = Construct.ESCAPE_STRING
        return self._in_quote(construct, position, position + 1)

    def _in_quote(self, construct: Construct, opened: int, position: int) -> int:
        """Finds the end of a quote from `position` on."""
        while (found := self.grammar.rests[construct].match(self.text, position)) is not None:
            more = lexical_rules.CONTINUED.match(self.text, found.end()) if construct is Construct.ESCAPE_STRING else None
            if more is None:
                return found.end()
            position = more.end()
        return self._leave_open(construct, opened)

    def _is_escape_string(self, position: int) -> bool:
        """Tells whether `'` follows an `e` that is a word of its own."""
        if position == 0 or self.text[position - 1] not in "eE":
            return False
        return position - 1 == self.names_from or lexical_rules.WORD_PART.match(self.text[position - 2]) is None

    def _at_dollar(self, position: int) -> int:
        text = self.text
        start = position
        while start > max(position - _LONGEST_NAME, self.names_from) and lexical_rules.WORD_PART.match(text[start - 1]):
            start -= 1
        if start < position and lexical_rules.WORD.match(text[start]):
            return position + 1  # a `$` within a name
        opening = self.grammar.dollar.match(text, position)
        if opening is None:
            follows = text[position + 1 : position + 2]
            accepted = follows.isdigit() or (self.engine is Engine.CLICKHOUSE and lexical_rules.WORD.match(follows) is not None)
            if not accepted and self.result.stray_dollar is None:
                self.result.stray_dollar = position
            return position + 1
        tag = opening.group()
        closing = text.find(tag, opening.end())
        if closing >= 0:
            self.names_from = closing + len(tag)
            return self.names_from
        if self.engine is Engine.CLICKHOUSE and len(tag) > 2:
            return opening.end()  # a heredoc without end is a name to ClickHouse
        return self._leave_open(Construct.DOLLAR, position, tag=tag)

    def _in_comment(self, opened: int, position: int, depth: int) -> int:
        """Finds the end of a nested block comment from `position` on."""
        first_end = -1
        for edge in _COMMENT_EDGE.finditer(self.text, position):
            depth += 1 if edge.group() == "/*" else -1
            if edge.group() == "*/" and first_end < 0:
                first_end = edge.end()
            if depth == 0:
                return edge.end()
        if self.engine is Engine.CLICKHOUSE and first_end >= 0:
            return first_end  # older servers do not nest comments
        return self._leave_open(Construct.COMMENT, opened, comments=depth)

    def _at_word(self, position: int) -> int:
        """Counts BEGIN, CASE or END where a body of unquoted SQL may stand, as psql does, and only outside of parentheses."""
        found = lexical_rules.WORD.match(self.text, position)
        if found is None:
            return position + 1
        if not self.parentheses:
            word = found.group().upper()
            begins = word == "BEGIN" and _ATOMIC.match(self.text, position) is not None
            if begins or (self.atomic and word != "END"):
                self.atomic.append(position)
            elif word == "END" and self.atomic:
                self.atomic.pop()
        return found.end()

    def _leave_open(self, construct: Construct, offset: int, *, tag: str = "", comments: int = 0) -> int:
        self.result.open = Open(construct, offset, tag, comments, len(self.parentheses), len(self.atomic))
        return self.end

    def _rest_of_before(self) -> int:
        """Returns where the construct that the chunk before left open ends in this chunk."""
        before = self.before
        if before is None or before.construct in (Construct.PARENTHESIS, Construct.ATOMIC_BODY):
            return 0
        if before.construct is Construct.COMMENT:
            return self._in_comment(0, 0, before.comments)
        if before.construct is Construct.DOLLAR:
            closing = self.text.find(before.tag)
            self.names_from = closing + len(before.tag)
            return self.names_from if closing >= 0 else self._leave_open(Construct.DOLLAR, 0, tag=before.tag)
        return self._in_quote(before.construct, 0, 0)

    def _data_start(self) -> int:
        """Returns where the data of ClickHouse's `INSERT … FORMAT Name` begin: they follow their format's rules, not SQL's."""
        start = self._first_word(0, self.end)
        if self.text[start : start + 6].upper() != "INSERT":
            return self.end
        for candidate in _FORMAT.finditer(self.text, start):
            head = scan("SELECT" + self.text[start + 6 : candidate.start()], self.engine)
            if head.open is None and len(head.commands) == 1:
                return candidate.end()
        return self.end

    def _close_command(self, end: int) -> None:
        if self.continued:
            return
        start = self._first_word(self.command_start, end)
        if start < end:
            self.result.commands.append(Command(start, end, self._words(start, end)))

    def _first_word(self, start: int, end: int) -> int:
        """Returns the first offset that is neither white space nor comment."""
        while start < end:
            blank = self.grammar.blank.match(self.text, start, end)
            start = blank.end() if blank else start
            if not self.text.startswith("/*", start):
                return start
            depth = 0
            for edge in _COMMENT_EDGE.finditer(self.text, start, end):
                depth += 1 if edge.group() == "/*" else -1
                if depth == 0:
                    start = edge.end()
                    break
            else:
                return start
        return start

    def _words(self, start: int, end: int) -> tuple[str, ...]:
        head = _PLAIN_HEAD.match(self.text, start, end)
        if head is not None:
            return tuple((head[1] or head[2]).upper().split())
        words: list[str] = []
        while len(words) < _HEAD_WORDS and (found := lexical_rules.WORD.match(self.text, start, end)) is not None:
            words.append(found.group().upper())
            start = self._first_word(found.end(), end)
        return tuple(words)
