"""goose's lines on standard error, unchanged, and greylag's own after them (goose.md §5.3, §5.4).

goose writes through Go's `log`: local time, then the message. greylag's own lines begin with `greylag:` and carry no time, so that
`grep -v '^greylag:'` leaves exactly what goose prints.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from migrator.cli import output

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from migrator.planning import events

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

STATUS_HEAD = ("    Applied At                  Migration", "    =======================================")


def log(message: str) -> None:
    """Prints one line as goose logs it."""
    output.err(f"{time.strftime('%Y/%m/%d %H:%M:%S')} {message}\n")


def own(message: str) -> None:
    """greylag's own lines; each line of the message gets the prefix."""
    output.err("".join(f"greylag: {line}\n" for line in message.splitlines()))


def ansic(moment: datetime) -> str:
    """Formats a time as Go's ANSIC layout does, whatever the locale: `Mon Jan _2 15:04:05 2006`."""
    return f"{_DAYS[moment.weekday()]} {_MONTHS[moment.month - 1]} {moment.day:2d} {moment:%H:%M:%S} {moment.year:04d}"


def status_line(applied: str, name: str) -> str:
    """Returns one line of `status`; `applied` is a time, `Pending` or `no versioning`."""
    return f"    {applied:<24} -- {name}"


def finished_line(event: events.MigrationFinished) -> str:
    """Returns `OK   name (2.66ms)`, or `EMPTY name (…)` for a direction without statements."""
    from migrator.goose import durations

    word = "OK  " if event.statements else "EMPTY"
    return f"{word} {event.name} ({durations.format_rounded(event.seconds)})"


def listener(verbose: bool) -> Callable[[events.Event], None]:
    """Prints events as they come: goose's line per migration, greylag's lines for waiting, retries and remarks."""

    def listen(event: events.Event) -> None:
        from migrator.goose import durations
        from migrator.planning import events

        if isinstance(event, events.MigrationFinished):
            log(finished_line(event))
        elif isinstance(event, events.LockWaiting):
            own(f"waiting for another run since {durations.format_rounded(event.waited_seconds)}: {event.holder}")
        elif isinstance(event, events.StatementRetried):
            own(
                f"version {event.version} line {event.first_line}: lock not granted, held by {event.blocker}; "
                f"try {event.attempt + 1} in {durations.format_rounded(event.delay_seconds)}"
            )
        elif isinstance(event, events.StatementSettled):
            own(f"version {event.version} statement {event.index} of an earlier run: {event.outcome} ({event.evidence})")
        elif isinstance(event, events.Note):
            own(f"{event.level}: {event.message} [{event.code}]")
        elif verbose and isinstance(event, events.MigrationStarted):
            own(f"{event.name} {event.direction}: {event.statements} statement(s)")
        elif verbose and isinstance(event, events.StatementFinished):
            lines = f"lines {event.first_line}-{event.last_line}" if event.last_line != event.first_line else f"line {event.first_line}"
            own(f"version {event.version} statement {event.index}, {lines} ({durations.format_rounded(event.seconds)})")

    return listen
