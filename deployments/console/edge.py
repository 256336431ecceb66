"""What the console's verbs share: flags spelled with one dash or two, errors told as the command tells them, tables."""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, NoReturn

from migrator import errors
from migrator.cli import faults, output
from migrator.cli.text import own

Verb = Callable[[list[str]], int]


_found: ContextVar[dict[str, object]] = ContextVar("found")
"""What the verb under way has found out so far, for its JSON document."""

_JSON = ("-json", "--json")


class Parser(argparse.ArgumentParser):
    """A parser whose long flags may have one dash, as goose's have; what it can't understand is a UsageError. Every verb has `--json`."""

    def __init__(self, verb: str, summary: str) -> None:
        super().__init__(prog=f"greylag {verb}", description=summary, allow_abbrev=False)
        self.add_argument("--json", action="store_true", help="one document on standard output, errors included")

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        """Adds an argument; `--name` is understood as `-name`, too."""
        both = [form for name in names for form in ((name, name[1:]) if name.startswith("--") else (name,))]
        if any(name.startswith("-") for name in names):
            options.setdefault("dest", names[0].lstrip("-").replace("-", "_"))
        return super().add_argument(*both, **options)

    def _print_message(self, message: str, file: object = None) -> None:
        output.out(message)  # argparse's own lets a closed stream's error pass through

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise errors.UsageError(message, hint=f"{self.prog} -h shows how it is called")


def guarded(run: Verb) -> Verb:
    """The verb with its errors told on standard error, and its exit code from the one table (promises.md §1).

    With `--json` it ends with one document on standard output: the verb, what `note` was given, the error if there is one, the exit code.
    """
    verb = run.__module__.rpartition(".")[2]

    @functools.wraps(run)
    def told(arguments: list[str]) -> int:
        document: dict[str, object] = {"verb": verb}
        token = _found.set(document)

        def refuse(error: errors.GreylagError) -> int:
            say(error.describe())
            document["error"] = _cleaned(error)
            return int(error.exit_code)

        try:
            code = faults.guarded(lambda: run(arguments), document, refuse)
        finally:
            _found.reset(token)
        if any(word in _JSON for word in arguments):
            show(json.dumps({**document, "exit_code": code}, indent=2, default=str))
        return code

    return told


def _cleaned(error: errors.GreylagError) -> dict[str, object]:
    from tasks import redaction

    return {name: redaction.clean(value) if isinstance(value, str) else value for name, value in error.document().items()}


def note(**found: object) -> None:
    """Puts something into the JSON document of the verb under way, if one is."""
    _found.get({}).update(found)


def say(text: str) -> None:
    """greylag's own lines on standard error, without secrets."""
    from tasks import redaction

    own(redaction.clean(text))


def show(text: str) -> None:
    """A result on standard output."""
    output.out(f"{text}\n")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns of text, wide enough for their longest value."""
    lines = [tuple(head), *(tuple(map(str, row)) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def records(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[Mapping[str, object]]:
    """The rows of a table as JSON-ready data."""
    return [dict(zip((name.lower().replace(" ", "_") for name in head), row, strict=True)) for row in rows]
