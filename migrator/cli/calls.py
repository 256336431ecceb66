"""One call of one verb, wherever the verb comes from: what was given, what it finds out, how its errors are told, and the document of `-json`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING

from migrator.address import redaction
from migrator.cli import faults, output, text

if TYPE_CHECKING:
    from migrator import errors
    from migrator.cli.go_flags import Values

_under_way: ContextVar[dict[str, object]] = ContextVar("under_way")
"""The document of the verb that runs."""


class Call:
    """One call of one verb. `document` is filled by the verb and written once, at the end."""

    def __init__(self, verb: str, values: Values, arguments: Iterable[str] = (), *, json: bool = False) -> None:
        self.values = values
        self.arguments = tuple(arguments)
        self.json = json
        self.document: dict[str, object] = {"verb": verb}

    def own(self, message: str) -> None:
        """Prints one of greylag's lines."""
        text.own(message)

    def secrets(self) -> Iterable[str]:
        """Returns what must not be printed."""
        return redaction.known()

    def fail(self, error: errors.GreylagError) -> int:
        """Prints an error in greylag's own lines and puts it into the document. Returns the exit code."""
        text.own(redaction.redact(error.describe(), self.secrets()))
        self.document["error"] = described(error, self.secrets())
        return int(error.exit_code)

    def finish(self, exit_code: int, documents: list[dict[str, object]] | None = None) -> None:
        """Writes the document; one of several targets is put into `documents`, which are written together."""
        if not self.json:
            return
        self.document["exit_code"] = exit_code
        if documents is not None:
            documents.append(self.document)
        else:
            output.write_document(self.document)


def run(call: Call, action: Callable[[], int], documents: list[dict[str, object]] | None = None) -> int:
    """Runs the verb under the last guard and returns its exit code: every error ends here, told and documented.

    Args:
        documents: takes the JSON document of one target of several, instead of standard output.
    """
    token = _under_way.set(call.document)
    try:
        code = faults.guarded(action, call.document, call.fail, call.secrets)
    finally:
        _under_way.reset(token)
    call.finish(code, documents)
    return code


def note(**found: object) -> None:
    """Puts something into the JSON document of the verb under way, if one is."""
    _under_way.get({}).update(found)


def described(error: errors.GreylagError, secrets: Iterable[str] = ()) -> dict[str, object]:
    """Returns the error as a document holds it, without secrets."""
    hidden = tuple(secrets)
    return {name: redaction.redact(value, hidden) if isinstance(value, str) else value for name, value in error.document().items()}
