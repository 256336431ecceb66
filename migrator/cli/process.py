"""The process that the command is: how it begins and ends, and whether anything else runs in it. Imports nothing: `greylag --help` runs through it."""

from __future__ import annotations

import sys

_begun = False


def begin() -> None:
    """Says that this process is the command, and hears SIGTERM where the kernel keeps it from a process 1 without a handler: a container ends at once
    that is stopped before or after the guarded part, instead of living until SIGKILL."""
    import os

    global _begun
    _begun = True
    if os.getpid() == 1:
        import signal

        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(23))


def is_alone() -> bool:
    """Tells whether this process is the command and nothing else: no program that calls it, no verb or reader of another package."""
    extensions = sys.modules.get("migrator.cli.extensions")
    return _begun and (extensions is None or not extensions.loaded())


def leave(code: int) -> None:
    """Ends the process without taking the interpreter apart, which would cost more than a run with nothing to do. Connections are closed and
    nothing else is open."""
    import os

    from migrator.cli import output

    output.settle()
    os._exit(code)
