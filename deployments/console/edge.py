"""What the console's verbs share beside what every verb of the command has: lines without secrets, results, tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from migrator.cli import output, text
from tasks import redaction


def say(message: str) -> None:
    """Prints greylag's own lines on standard error, without secrets."""
    text.own(redaction.clean(message))


def show(result: str) -> None:
    """Prints a result on standard output."""
    output.out(f"{result}\n")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns of text, wide enough for their longest value."""
    lines = [tuple(head), *(tuple(map(str, row)) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def records(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[Mapping[str, object]]:
    """Returns the rows of a table as JSON-ready data."""
    return [dict(zip((name.lower().replace(" ", "_") for name in head), row, strict=True)) for row in rows]
