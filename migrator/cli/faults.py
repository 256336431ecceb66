"""The last guard around every verb, the engine's and the console's: each error ends here, told without secrets, with its exit code.

A fault of greylag's own is printed with its traceback, so that it can be reported. Python would print it as it is, and an exception of a driver or
of a library may hold an address: in its text, its arguments, its notes, or in the exceptions that it came from.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from migrator import errors
from migrator.address import redaction
from migrator.cli import output, text

INTERNAL = "internal"
"""The error's code in a JSON document and in a termination message."""

_SECRET_NAME = r"(?i)passw|secret|token|auth_?string|api_?key|credential"
"""Names of environment variables whose values are secrets."""

_REFERENCE_NAME = r"(?i)_(?:file|path|dir|directory|mount|role|audience|name|seconds|source|wait)$"
"""Names of those that only say where a secret is, or how it is called."""


def guarded(
    action: Callable[[], int],
    document: dict[str, object],
    refuse: Callable[[errors.GreylagError], int],
    secrets: Callable[[], Iterable[str]] = tuple,
) -> int:
    """Runs a verb and returns its exit code, whatever it raises but for the end of the process (SystemExit with a number).

    Args:
        document: what the verb's JSON will be; a fault is put in as `error`.
        refuse: tells an error that greylag knows, and returns its exit code.
        secrets: those that this verb knows, asked for when they are needed.
    """
    threading.excepthook = _of_thread
    try:
        return action()
    except errors.GreylagError as error:
        return refuse(error)
    except KeyboardInterrupt:
        return int(errors.ExitCode.INTERRUPTED)
    except BaseException as error:
        if isinstance(error, SystemExit) and not isinstance(error.code, str):
            raise
        document["error"] = tell(error, secrets())
        return int(errors.ExitCode.AS_GOOSE)


def tell(error: BaseException, secrets: Iterable[str] = ()) -> dict[str, object]:
    """Says on standard error that greylag itself is at fault, with the redacted traceback; returns what a JSON document says of it."""
    report = _cleaned(error, secrets)
    text.own(f"internal error: {type(error).__name__} [{INTERNAL}]\n{report}")
    text.own("hint: this is a fault of greylag itself: please report it with the lines above")
    return {"code": INTERNAL, "exit_code": int(errors.ExitCode.AS_GOOSE), "message": report, "transient": False}


def last(error: BaseException, arguments: Sequence[str]) -> int:
    """Ends a command line whose fault no verb's own guard saw: while it was read, or its target was looked up."""
    found = tell(error)
    if place := os.environ.get("GREYLAG_TERMINATION_LOG"):
        from migrator.cli import termination

        termination.write(termination.outcome({"verb": "", "error": found}, int(errors.ExitCode.AS_GOOSE), ()), place)
    if any(word in ("-json", "--json") for word in arguments):
        output.write_document({"error": found, "exit_code": int(errors.ExitCode.AS_GOOSE)})
    return int(errors.ExitCode.AS_GOOSE)


def _cleaned(error: BaseException, secrets: Iterable[str]) -> str:
    """Returns the traceback without secrets; without the exceptions' own texts should even that fail."""
    import traceback

    try:
        return redaction.redact("".join(traceback.format_exception(error)), {*secrets, *redaction.known(), *surrounding()})
    except Exception:  # noqa: BLE001 - an exception whose text can't be made, or a text that can't be searched
        return "".join(["Traceback (most recent call last):\n", *traceback.format_tb(error.__traceback__), type(error).__name__])


def surrounding() -> Iterator[str]:
    """Yields the secrets that this process was started with: passwords of addresses among its arguments and variables, and variables that are secrets."""
    for word in sys.argv[1:]:
        yield from redaction.passwords(word)
    for name, value in os.environ.items():
        yield from redaction.passwords(value)
        if re.search(_SECRET_NAME, name) and not re.search(_REFERENCE_NAME, name):
            yield value
            yield value.partition(":")[2]  # PREFECT_API_AUTH_STRING is user:password


def _of_thread(arguments: threading.ExceptHookArgs) -> None:
    """Says what a thread ended with, if it was an exception; the verb goes on, as it does without this."""
    if arguments.exc_value is not None and arguments.exc_type is not SystemExit:
        text.own(_cleaned(arguments.exc_value, ()))
