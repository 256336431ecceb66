"""Signals and `-timeout`: break what is running, let the engine clean up, and end in time (promises.md §6).

The first signal, or the end of the time, raises an error in the main thread, wherever it waits. The engine's broken wait cancels the statement
on the server, rolls back and gives back the lock on its way out. A server that no longer answers can't hold the process: after a
grace period it ends by itself.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from migrator import errors
from migrator.cli import output

GRACE_SECONDS = 9.0
"""A pod gets 30 s by default between SIGTERM and SIGKILL, and the promise is 10 s: what is not cleaned up by now never will be."""

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))

_SOON = 1e-6
"""Seconds of the shortest timer that there is: a negative time-out is over before it begins, as in goose."""

TIMEOUT_TEXT = "timeout: context deadline exceeded"
"""As goose ends a message when its context is over (goose.md §5.2)."""


@contextmanager
def guard(timeout: float) -> Iterator[None]:
    """Runs its body with signals and the time-out (seconds, 0 for none) turned into errors.

    Raises Interrupted, TimedOut (code `deadline`), also where the body turned that error into one of its own: a library that falls back to
    something else when an import fails takes the signal for such a failure. Outside the main thread it does nothing: signals are then the
    caller's business.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watchdogs: list[threading.Timer] = []
    raised: list[errors.GreylagError] = []

    def stop(error: errors.GreylagError) -> None:
        if watchdogs:  # already on the way out: a second signal must not break the clean-up
            return
        raised.append(error)
        watchdog = threading.Timer(GRACE_SECONDS, _give_up, (int(error.exit_code),))
        watchdog.daemon = True
        watchdogs.append(watchdog)
        watchdog.start()
        raise error

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop(
            errors.Interrupted(
                f"{signal.Signals(number).name} received",
                hint="run the same command again: what was finished is recorded, what was not was cancelled",
            )
        )

    def on_alarm(number: int, frame: FrameType | None) -> None:
        stop(errors.TimedOut(TIMEOUT_TEXT, code="deadline", hint="raise -timeout, or find out what the run was waiting for"))

    # Ignored before the start (`nohup`): the terminal may go, the run does not. The other two are meant for this run whoever started it.
    heeded = [number for number in _SIGNALS if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, on_signal) for number in heeded}
    previous_alarm = signal.signal(signal.SIGALRM, on_alarm)
    try:
        if timeout:
            signal.setitimer(signal.ITIMER_REAL, max(timeout, _SOON))
        yield
    except errors.GreylagError:
        raise
    except Exception:
        if raised:
            raise raised[0] from None
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for watchdog in watchdogs:
            watchdog.cancel()
        signal.signal(signal.SIGALRM, previous_alarm)
        for number, handler in previous.items():
            signal.signal(number, handler)


def _give_up(exit_code: int) -> None:
    output.err("greylag: the server did not answer the cancellation in time; the process ends, the server ends the session\n")
    os._exit(exit_code)
