"""Live connections of this process, so that a signal can cancel what all of them are doing (promises.md §6).

Python runs signal handlers in the main thread only, while a flow's task may hold its connection in another thread. The handler of SIGTERM calls
`cancel_all`; every engine registers the connections that it opens.
"""

from __future__ import annotations

import contextlib
from typing import Protocol


class Cancellable(Protocol):
    """Something that is waiting for a server and can be told to stop."""

    def cancel(self) -> None:
        """Stops the running statement; safe in a signal handler and in other threads."""
        ...


# Setting and deleting a key are single operations of the interpreter, so there is no lock that a signal handler could find taken.
_live: dict[int, Cancellable] = {}


def register(connection: Cancellable) -> None:
    """Adds a connection that was just opened."""
    _live[id(connection)] = connection


def unregister(connection: Cancellable) -> None:
    """Removes a connection that is being closed; nothing happens when it isn't there."""
    _live.pop(id(connection), None)


def live() -> tuple[Cancellable, ...]:
    """Returns the connections that are open now."""
    return tuple(_live.values())


def cancel_all() -> int:
    """Cancels what every open connection is doing, and returns how many there were. A cancellation that fails does not keep the others from theirs."""
    connections = live()
    for connection in connections:
        with contextlib.suppress(Exception):
            connection.cancel()
    return len(connections)
