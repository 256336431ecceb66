"""`-json`: one document on standard output; verbs that run migrations write one event per line, the last of them the result.

goose's text stays on standard error as it is; a program reads standard output alone.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping

from migrator.cli import output


def _default(value: object) -> object:
    if isinstance(value, datetime.date):  # a datetime is one
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)


def encode(document: Mapping[str, object], *, indent: int | None = None) -> str:
    """A document as JSON in ASCII: any terminal, log and locale takes it; lone surrogates of odd file names survive as escapes."""
    return json.dumps(document, indent=indent, default=_default)


def write_line(document: Mapping[str, object]) -> None:
    """Writes one event of a stream, at once."""
    output.out(encode(document) + "\n")


def write_document(document: Mapping[str, object]) -> None:
    """Writes the one document of a verb."""
    output.out(encode(document, indent=2) + "\n")
