"""The second wall: what leaves this process as a log line or as an exception's text loses every secret that the process has read.

The first wall is that no message is built from a secret at all. Prefect stores an exception's text in five tables (prefect.md §11) and redacts
only its own API key, so whatever a driver or a library puts into a message has to end here.
"""

from __future__ import annotations

import logging
import traceback

from migrator import errors
from migrator.address import redaction
from tasks import backoff

LOGGERS = ("", "prefect", "prefect.flow_runs", "prefect.task_runs", "prefect.flow_runs.worker", "migrator", "tasks", "flows")
"""Loggers whose handlers are filtered. Handlers, not loggers: a logger's filter does not see what its children hand up."""

LONGEST_TEXT = 6_000
"""Characters of a stored message: Prefect keeps it five times and sends it in events, which end at 1.5 MB; a statement may be larger."""


def register(*secrets: str) -> None:
    """Makes values known as secrets for the rest of the process, and sees to it that the log handlers are filtered."""
    redaction.register(*secrets)
    install()


def clean(text: str) -> str:
    """The text without passwords: those in URLs and connection strings, and every registered secret in any spelling."""
    return redaction.redact(text, redaction.known())


def brief(text: str) -> str:
    """The text with its middle left out where it is long: goose quotes the whole statement before it says what the server said."""
    if len(text) <= LONGEST_TEXT:
        return text
    head, tail = text[: LONGEST_TEXT * 2 // 3], text[-LONGEST_TEXT // 3 :]
    return f"{head} … ({len(text) - len(head) - len(tail)} characters left out) … {tail}"


class Filter(logging.Filter):
    """Cleans a record's message, arguments and traceback. It never drops a record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrites the record in place; always true."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a wrong number of arguments is the logging module's to report
            message = str(record.msg)
        cleaned = clean(message)
        if cleaned != message:
            record.msg, record.args = cleaned, ()
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            cleaned = clean(text)
            if cleaned != text:
                record.exc_text, record.exc_info = cleaned, None
        return True


_FILTER = Filter()


def install() -> None:
    """Puts the filter on every handler of the loggers in `LOGGERS`; may be called again after handlers were added."""
    for name in LOGGERS:
        for handler in logging.getLogger(name).handlers:
            if _FILTER not in handler.filters:
                handler.addFilter(_FILTER)


def sanitised(error: Exception) -> errors.GreylagError:
    """The same error fit to be stored: its text is complete (place, code, hint), free of secrets, and no earlier exception hangs on it.

    A GreylagError keeps its class, so that the retry condition can read it. Any other exception becomes `unexpected`, which is
    transient, or, where it is a programming error (`backoff.permanent`), `internal`, which is not.
    """
    if isinstance(error, errors.GreylagError):
        message, detail = brief(clean(error.message)), brief(clean(error.detail))
        copy = type(error)(message, hint=clean(error.hint), code=error.code, where=error.where, detail=detail)
    else:
        kind, code = (errors.GreylagError, "internal") if backoff.permanent(error) else (errors.Unavailable, "unexpected")
        copy = kind(
            f"{type(error).__name__}: {brief(clean(str(error)))}",
            code=code,
            hint="nobody expected this: the traceback is in the task's log",
        )
    copy.args = (copy.describe(),)  # what Prefect stores and shows is str(error)
    return copy
