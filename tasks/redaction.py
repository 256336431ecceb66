"""The last filter for secrets: removes every secret that this process has read from log lines and exceptions' texts before they leave it.

The first safeguard is that no message is built from a secret. This is the second: Prefect stores an exception's text in five tables (prefect.md §11)
and redacts only its own API key, so a secret that a driver or a library puts into a message must be removed here.
"""

from __future__ import annotations

import logging
import traceback

from migrator import errors
from migrator.address import redaction
from tasks import backoff

LOGGERS = ("", "prefect", "prefect.flow_runs", "prefect.task_runs", "prefect.flow_runs.worker", "migrator", "tasks", "flows")
"""Loggers whose handlers are filtered. The filter is on handlers, because a logger's filter does not see its children's records."""

LONGEST_TEXT = 6_000
"""Characters of a stored message: Prefect stores it five times, and sends it in events of at most 1.5 MB; a statement may be larger."""


def register(*secrets: str) -> None:
    """Registers values as secrets for the rest of the process, and installs the filter on the log handlers."""
    redaction.register(*secrets)
    install()


def clean(text: str) -> str:
    """Returns the text without passwords: those in URLs and connection strings, and every registered secret in any spelling."""
    return redaction.redact(text, redaction.known())


def brief(text: str) -> str:
    """Returns the text; a long one without its middle, because goose quotes the whole statement before the server's message."""
    if len(text) <= LONGEST_TEXT:
        return text
    head, tail = text[: LONGEST_TEXT * 2 // 3], text[-LONGEST_TEXT // 3 :]
    return f"{head} … ({len(text) - len(head) - len(tail)} characters left out) … {tail}"


class Filter(logging.Filter):
    """Cleans a record's message, arguments and traceback. It never drops a record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrites the record in place; always returns True."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a wrong number of arguments is for the logging module to report
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
    """Returns a copy of the error that is fit to be stored: its text is complete (place, code, hint), free of secrets, and it has no cause.

    A GreylagError keeps its class, so that the retry condition can read it. Any other exception becomes `unexpected`, which is
    transient, or `internal`, which is not, if it is a programming error (`backoff.permanent`).
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
