"""Go's `%q`, by which goose quotes a line, a statement or a name in its messages, and Go's number parsing, whose errors use it."""

from __future__ import annotations

import re

from migrator.goose import gounicode

_SHORT = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", '"': r"\"", "\\": r"\\"}
_SPECIAL = re.compile(r"[^ !#-\[\]-~]")  # everything but printable ASCII that needs no escape


def quote(text: str | bytes) -> str:
    """Returns the text in double quotes, as Go's `strconv.Quote` writes it.

    Printable characters (Unicode 15.0) stay; other characters become `\\n`, `\\x07`, `\\u200b` or `\\U000e0001`; a byte that isn't UTF-8
    (in a `str`: a lone surrogate of surrogateescape) becomes `\\xff`.
    """
    if isinstance(text, bytes):
        text = gounicode.decode(text)
    return f'"{_SPECIAL.sub(_escaped, text)}"'


def _escaped(match: re.Match[str]) -> str:
    character = match.group()
    if character in _SHORT:
        return _SHORT[character]
    if gounicode.is_printable(character):
        return character
    point = ord(character)
    if point < 0x20 or point == 0x7F:
        return f"\\x{point:02x}"
    if 0xDC80 <= point <= 0xDCFF:
        return f"\\x{point - 0xDC00:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def parse_int(text: str, function: str = "ParseInt") -> int:
    """Parses a number as Go's `strconv.ParseInt(text, 10, 64)` does, or as `strconv.Atoi` if that is `function`.

    Raises:
        ValueError: its text is Go's own.
    """

    def failure(why: str) -> ValueError:
        return ValueError(f"strconv.{function}: parsing {quote(text)}: {why}")

    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits:
        raise failure("invalid syntax")
    magnitude = 0
    for digit in digits:
        if not "0" <= digit <= "9":
            raise failure("invalid syntax")
        magnitude = magnitude * 10 + int(digit)
        if magnitude >= 1 << 64:  # Go stops here, even if a later character is no digit
            raise failure("value out of range")
    number = -magnitude if text[0] == "-" else magnitude
    if not -(1 << 63) <= number < 1 << 63:
        raise failure("value out of range")
    return number
