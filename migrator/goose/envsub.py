"""Expands `${VAR}` inside statements, as goose does under `-- +goose ENVSUB ON` (goose.md §2.6).

goose uses github.com/mfridman/interpolate. This is the same grammar with the same errors; bytes that aren't UTF-8 become U+FFFD each, as in that
library. A line is parsed as a whole before any variable is looked up, so that a syntax error takes precedence over an unset variable.
Nothing here is recursive, because a line may nest as deep as it is long.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from migrator.goose import goquote, gounicode

_EOF = ""
_TEXT = re.compile("[^$\\\\\ufffd\udc80-\udcff]*")  # the library stops at what it can't decode, and at a real U+FFFD
_NESTED_TEXT = re.compile("[^$\\\\}\ufffd\udc80-\udcff]*")
_NAME = re.compile("[A-Za-z0-9_]*")


class ExpansionError(ValueError):
    """Raised for a line that goose refuses to expand; `str()` is the library's text, without the words that goose adds."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """A line after expansion.

    Args:
        line: the text that goose puts into the statement.
        substitutions: (name, inserted value) of every variable that was read, in order; the file's own default values are not among them.
    """

    line: bytes
    substitutions: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Variable:
    """One `$NAME` or `${NAME…}`. `operator` is "" for the plain forms; `content` is the word after `:-`, `-` or `?`."""

    name: str
    operator: str = ""
    content: list[str | _Variable] = field(default_factory=list)
    offset: int = 0
    length: int | None = None


def environment() -> Mapping[str, str]:
    """Returns the process environment, in which goose looks variables up (`os.LookupEnv`)."""
    return os.environ


def interpolate(line: bytes, env: Mapping[str, str], *, reveal: bool = True) -> Expansion:
    """Expands one line.

    Args:
        line: the line without its end.
        env: the variables; a name that is missing counts as unset.
        reveal: whether an error (`${A?$B}`) shows the value of a variable in it, as goose does, or the name, as `${B}`.

    Raises:
        ExpansionError: its text is the library's own.
    """
    if b"$" not in line:
        if line.isascii():
            return Expansion(line, ())
        return Expansion(gounicode.encode(_readable(gounicode.decode(line))), ())
    items = _Parser(gounicode.decode(line)).parse()
    substitutions: list[tuple[str, str]] = []
    text = _expand(items, env, substitutions, reveal)
    return Expansion(gounicode.encode(text), tuple(substitutions))


def _readable(text: str) -> str:
    """Replaces each byte that isn't UTF-8 by U+FFFD, as the library does when it copies character by character."""
    return "".join(gounicode.REPLACEMENT if "\udc80" <= character <= "\udcff" else character for character in text)


def _is_error(character: str) -> bool:
    """Tells whether Go's decoder yields RuneError: for an invalid byte, or U+FFFD itself."""
    return character == gounicode.REPLACEMENT or "\udc80" <= character <= "\udcff"


def _shown(character: str) -> str:
    """Prints a character as Go's `%c` does; the end of the line and invalid bytes print as U+FFFD."""
    return gounicode.REPLACEMENT if character == _EOF or _is_error(character) else character


class _Parser:
    """The library's parser, with a stack instead of recursion."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def parse(self) -> list[str | _Variable]:
        top: list[str | _Variable] = []
        open_variables: list[_Variable] = []
        items = top
        while True:
            character = self._peek()
            if character == "}" and open_variables:
                self.position += 1
                open_variables.pop()
                items = open_variables[-1].content if open_variables else top
            elif character == _EOF:
                if open_variables:
                    raise ExpansionError(f"Expected brace expansion to end with }}, got {_shown(_EOF)}")
                return top
            elif (literal := self._literal()) is not None:
                items.append(literal)
            elif character == "$" and self.position < len(self.text) - 1:
                variable = self._variable()
                items.append(variable)
                if variable.operator in (":-", "-", "?"):
                    open_variables.append(variable)
                    items = variable.content
            else:
                items.append(self._plain(_NESTED_TEXT if open_variables else _TEXT))

    def _peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def _next(self) -> str:
        character = self._peek()
        self.position += 1
        return character

    def _literal(self) -> str | None:
        """Reads an escape, or the `$(` of a shell command, which stays as it is; returns None when there is neither."""
        pair = self.text[self.position : self.position + 2]
        literal = {"\\\\": "\\\\", "\\$": "$", "$$": "$", "$(": "$("}.get(pair)
        if literal is not None:
            self.position += 2
        return literal

    def _plain(self, text: re.Pattern[str]) -> str:
        first = _shown(self._next())
        found = text.match(self.text, self.position)
        if found is None:
            return first
        self.position = found.end()
        return first + found.group()

    def _variable(self) -> _Variable:
        """Reads up to and including the operator; the forms without a word after the operator are read completely."""
        self.position += 1
        if self._peek() != "{":
            return _Variable(self._identifier())
        self.position += 1
        name = self._identifier()
        operator = self._next()
        if operator == "}":
            return _Variable(name)
        if operator in ("?", "-"):
            return _Variable(name, operator)
        if operator != ":":
            raise ExpansionError(f"Expected an operator, got {_shown(operator)}")
        if self._peek() == "-":
            self.position += 1
            return _Variable(name, ":-")
        return self._substring(name)

    def _identifier(self) -> str:
        if not (self._peek() and gounicode.is_letter(self._peek())):
            raise ExpansionError(f"Expected identifier to start with a letter, got {_shown(self._peek())}")
        start = self.position
        while (found := _NAME.match(self.text, self.position)) is not None:  # never None: it may match nothing
            self.position = found.end()
            character = self._peek()
            if not character or not (gounicode.is_letter(character) or gounicode.is_number(character)):
                break
            self.position += 1
        return self.text[start : self.position]

    def _substring(self, name: str) -> _Variable:
        offset = self._number("offset", ":}")
        length = None
        if self._peek() != "}":
            self.position += 1
            length = self._number("length", "}")
        closing = self._next()
        if closing != "}":
            raise ExpansionError(f"Expected brace expansion to end with }}, got {_shown(closing)}")
        return _Variable(name, ":", offset=offset, length=length)

    def _number(self, what: str, ends: str) -> int:
        start = self.position
        while self.position < len(self.text):
            character = self.text[self.position]
            if character in ends or _is_error(character):
                break
            self.position += 1
        digits = self.text[start : self.position].strip(gounicode.SPACE_CHARACTERS)
        try:
            return goquote.parse_int(digits, "Atoi")
        except ValueError as error:
            raise ExpansionError(f"Unable to parse {what}: {error}") from None


def _expand(items: list[str | _Variable], env: Mapping[str, str], substitutions: list[tuple[str, str]], reveal: bool) -> str:
    """Evaluates depth first, left to right. A word after an operator is evaluated only if its variable needs it."""
    output: list[str] = []
    pending: list[str | _Variable | _Complaint] = list(reversed(items))
    complaint: _Complaint | None = None
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            output.append(item)
        elif isinstance(item, _Complaint):
            raise ExpansionError(f"${item.name}: {''.join(output[item.start :]) or 'not set'}")
        else:
            value = env.get(item.name)
            if item.operator == "?" and value is None:
                complaint = _Complaint(item.name, len(output))
                pending = [complaint, *reversed(item.content)]
            elif (item.operator == "-" and value is None) or (item.operator == ":-" and not value):
                pending.extend(reversed(item.content))
            else:
                inserted = _inserted(item, value or "")
                substitutions.append((item.name, inserted))
                output.append(inserted if reveal or complaint is None else f"${{{item.name}}}")
    return "".join(output)


@dataclass(slots=True)
class _Complaint:
    """Marks the place in the output where the message of an unset `${NAME?message}` began."""

    name: str
    start: int


def _inserted(variable: _Variable, value: str) -> str:
    """Returns the part of the value that is inserted into the line; offsets count bytes."""
    if variable.operator != ":":
        return value
    data = gounicode.encode(value)
    start = variable.offset
    if start < 0:
        start = max(start + len(data), 0)
    start = min(start, len(data))
    if variable.length is None:
        return gounicode.decode(data[start:])
    if variable.length >= 0:
        end = min(start + variable.length, len(data))
    else:
        end = max(variable.length + len(data), start)
    return gounicode.decode(data[start:end])
