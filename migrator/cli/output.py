"""Standard output and standard error, as every verb writes them: what can't be written changes neither what is done nor the exit code.

A full disk, a closed pipe, a descriptor that was closed before the start and a terminal that has gone all end here. goose, written in Go, behaves
so by itself: `log` and `fmt` drop errors, and its runtime opens closed descriptors. Kept free of other imports: `greylag --help` runs through it.

With `-json` a verb writes one document on standard output; verbs that run migrations write one event per line, the last of them the result. goose's
text stays on standard error as it is; a program reads standard output alone.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNWRITABLE = (OSError, ValueError, RuntimeError)
"""What a stream raises: the system's refusal; a stream that is closed, or text that it can't encode; a write from within a write."""


def out(text: str) -> None:
    """Writes to standard output, at once."""
    _write(sys.stdout, text)


def err(text: str) -> None:
    """Writes to standard error, at once."""
    _write(sys.stderr, text)


def write_line(document: Mapping[str, object]) -> None:
    """Writes one event of a stream, at once."""
    out(encode(document) + "\n")


def write_document(document: Mapping[str, object]) -> None:
    """Writes the one document of a verb."""
    out(encode(document, indent=2) + "\n")


def encode(document: Mapping[str, object], *, indent: int | None = None) -> str:
    """Encodes a document as JSON in ASCII: any terminal, log and locale takes it; lone surrogates of odd file names survive as escapes."""
    import json

    return json.dumps(document, indent=indent, default=_plain)


def _plain(value: object) -> object:
    import datetime

    if isinstance(value, datetime.date):  # a datetime is one
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)


def is_terminal() -> bool:
    """Tells whether standard output is read by a person."""
    try:
        return sys.stdout.isatty()
    except (*_UNWRITABLE, AttributeError):
        return False


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:  # closed before the start, and nobody called `prepare`
        return
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:  # a file name that isn't UTF-8, or a terminal that isn't
            stream.write(text.encode("utf-8", "backslashreplace").decode("ascii", "backslashreplace"))
        stream.flush()
    except _UNWRITABLE:
        pass


def prepare() -> None:
    """Opens the null device for each of the descriptors 0, 1 and 2 that the caller has closed; for the start of the process.

    Else the first connection to a database would get such a number, and whatever writes to standard error, a library or a child, would write
    into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:  # a lower one is free as well, and was not asked for
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def settle() -> None:
    """Writes what is left, or gives it up; for the end of the process. Python itself would end with 120 and a message where a flush fails."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except _UNWRITABLE:
            _give_up(stream)


def _give_up(stream: TextIO) -> None:
    """Lets the stream's remaining text go to the null device."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()
    except _UNWRITABLE:
        pass
