"""`.env` files in godotenv's syntax, as goose loads them (goose.md §5.2, flag `-env`).

`KEY=value`, `KEY: value`, `export KEY=value`; single quotes are literal, double quotes know `\\n` and `\\r`; unquoted and double-quoted values expand
`$NAME` and `${NAME}` from names set earlier in the file (not from the environment); `#` begins a comment at a line's start or after white space.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from pathlib import Path

from migrator import errors

_SPACE = "\t\v\f\r \x85\xa0"
_ESCAPE = re.compile(r"\\.")
_VARIABLE = re.compile(r"(\\)?(\$)(\()?\{?([A-Z0-9_]+)?\}?")
_ESCAPED = re.compile(r"\\([^$])")


def load(path: str, environ: MutableMapping[str, str]) -> None:
    """Sets what the file holds, never overriding what is set.

    Raises FileNotFoundError and other OSErrors, UsageError with the file's line (never its text, which may be a secret).
    """
    content = Path(path).read_bytes().decode("utf-8", "surrogateescape")
    for name, value in parse(content, path).items():
        if name and name not in environ and "=" not in name and "\0" not in name + value:
            environ[name] = value


def parse(text: str, path: str = ".env") -> dict[str, str]:
    """Names and values of a `.env` text, in order. Raises UsageError."""
    text = text.replace("\r\n", "\n")
    found: dict[str, str] = {}
    position = 0
    while (position := _start_of_statement(text, position)) >= 0:
        name, position = _name(text, position, path)
        value, position = _value(text, position, found, path)
        found[name] = value
    return found


def _start_of_statement(text: str, position: int) -> int:
    """Finds where the next statement begins, past blank lines and comments; -1 at the end."""
    while position < len(text):
        if text[position].isspace():
            position += 1
        elif text[position] == "#":
            end = text.find("\n", position)
            if end < 0:
                return -1
            position = end
        else:
            return position
    return -1


def _name(text: str, position: int, path: str) -> tuple[str, int]:
    if text.startswith("export", position) and text[position + 6 : position + 7] in tuple(_SPACE):
        position = _skip_space(text, position + 6)
    for index in range(position, len(text)):
        letter = text[index]
        if letter in "=:":
            return text[position:index].rstrip(), _skip_space(text, index + 1)
        if not (letter in _SPACE or letter in "_." or letter.isalpha() or letter.isnumeric()):
            raise _error("unexpected character in a variable name", text, index, path)
    return "", position  # no separator until the end: godotenv takes the rest as the value of no name


def _value(text: str, position: int, found: dict[str, str], path: str) -> tuple[str, int]:
    quote = text[position : position + 1]
    if quote in ("'", '"'):
        return _quoted(text, position, quote, found, path)
    end = next((index for index in range(position, len(text)) if text[index] in "\r\n"), len(text))
    line = text[position:end]
    for index in range(len(line) - 1, 0, -1):
        if line[index] == "#" and line[index - 1] in _SPACE:
            line = line[:index]
            break
    return _expand(line.strip(_SPACE), found), end


def _quoted(text: str, position: int, quote: str, found: dict[str, str], path: str) -> tuple[str, int]:
    index = position
    while (index := text.find(quote, index + 1)) >= 0:
        if text[index - 1] == "\\":
            continue
        value = text[position:index].strip(quote)
        if quote == '"':
            unescaped = _ESCAPE.sub(lambda match: {"\\n": "\n", "\\r": "\r"}.get(match[0], match[0]), value)
            value = _expand(_ESCAPED.sub(r"\1", unescaped), found)
        return value, index + 1
    raise _error("unterminated quoted value", text, position, path)


def _expand(value: str, found: dict[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[1]:  # an escaped dollar
            return match[0][1:]
        return found.get(match[4], "") if match[4] else match[0]

    return _VARIABLE.sub(replace, value)


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in _SPACE:
        position += 1
    return position


def _error(message: str, text: str, position: int, path: str) -> errors.UsageError:
    line = text.count("\n", 0, position) + 1
    return errors.UsageError(
        f"{message}",
        code="bad-env-file",
        where=errors.Location(path, line),
        hint="write NAME=value, one per line; `-env none` reads no file",
    )
