"""What goes wrong, and where: a proxy between greylag and its server that does it when a chosen byte has passed.

A fake in this alone, that it chooses the moment; the process, the signals and the servers are real.
"""

from __future__ import annotations

import contextlib
import enum
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sandbox import ports

_TAKEN = 4096  # bytes handed on at once
_DARK_SECONDS = 1.0  # how long a process stands before a link that has gone dark, until it is killed; greylag's own patience is longer


class Fault(enum.StrEnum):
    """The kinds of interruption."""

    KILL = "SIGKILL"
    TERMINATE = "SIGTERM"
    CUT = "cut"
    DARK = "black hole"
    SERVER = "server killed"


class Way(enum.StrEnum):
    """The direction whose bytes are counted."""

    SENT = "sent"
    RECEIVED = "received"


_WEIGHTS = {Fault.KILL: 40, Fault.TERMINATE: 15, Fault.CUT: 30, Fault.DARK: 10, Fault.SERVER: 5}
"""How often each comes in a hundred: a server that is killed takes seconds to come back."""


@dataclass(frozen=True)
class Interruption:
    """One interruption: the fault, after so many bytes in one direction and a pause of `delay` seconds, which hits a statement at work."""

    fault: Fault
    way: Way
    after: int
    delay: float


def draw(chooser: random.Random, sent: int, received: int) -> Interruption:
    """Draws an interruption for a run that exchanges so many bytes when nothing disturbs it."""
    fault = chooser.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    way = chooser.choice(list(Way))
    after = chooser.randrange(1, max(2, sent if way is Way.SENT else received))
    delay = chooser.choice([0.0, 0.0, chooser.uniform(0, 0.05), chooser.uniform(0, 0.5)])
    return Interruption(fault, way, after, delay)


class FakeLink:
    """Hands bytes on between clients and a server, counts them over all connections, and does one thing when a number is reached. A context manager.

    Attributes:
        sent, received: bytes since `arm`.
        port: where to connect.
        happened: whether the interruption has come.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server((ports.LOOPBACK, 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._coming: list[threading.Thread] = []
        self.arm(None)

    def __enter__(self) -> FakeLink:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._hang_up()

    def arm(self, interruption: Interruption | None, strike: Callable[[Fault], None] = lambda _: None) -> None:
        """Begins to count anew. `strike` is called once, from another thread, with what is to be done to the process or the server."""
        self._hang_up()
        self.interruption, self.strike = interruption, strike
        self.sent = self.received = 0
        self.happened = False
        self._dark = threading.Event()

    def await_strike(self) -> None:
        """Returns once an interruption that is under way has come."""
        while self._coming:
            self._coming.pop().join()

    def _come_later(self, fault: Fault, seconds: float) -> None:
        thread = threading.Thread(target=self._later, args=(fault, seconds), daemon=True)
        self._coming.append(thread)
        thread.start()

    def _hang_up(self) -> None:
        with self._lock:
            connections, self._open = self._open, set()
        for item in connections:
            with contextlib.suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
            item.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                server = socket.create_connection((ports.LOOPBACK, self._server_port))
            except OSError:  # the server is down
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            dark = self._dark
            for source, target, way in ((client, server, Way.SENT), (server, client, Way.RECEIVED)):
                threading.Thread(target=self._hand_on, args=(source, target, way, dark), daemon=True).start()

    def _hand_on(self, source: socket.socket, target: socket.socket, way: Way, dark: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_TAKEN):
                passed = self._count(way, data)
                if dark.is_set() and dark is self._dark:
                    continue  # swallowed
                target.sendall(data[:passed])
                if passed < len(data):
                    self._happen(source, target, data[passed:], dark)
        for item in (target, source):
            with contextlib.suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
            item.close()
        with self._lock:
            self._open -= {source, target}

    def _count(self, way: Way, data: bytes) -> int:
        """Counts bytes; returns how many of them pass before the interruption."""
        with self._lock:
            before = self.sent if way is Way.SENT else self.received
            if way is Way.SENT:
                self.sent += len(data)
            else:
                self.received += len(data)
            planned = self.interruption
            if planned is None or self.happened or planned.way is not way or before + len(data) <= planned.after:
                return len(data)
            self.happened = True
            return max(0, planned.after - before)

    def _happen(self, source: socket.socket, target: socket.socket, rest: bytes, dark: threading.Event) -> None:
        planned = self.interruption
        assert planned is not None
        if planned.fault is Fault.CUT:
            for item in (source, target):
                item.shutdown(socket.SHUT_RDWR)
            return
        if planned.fault is Fault.DARK:
            dark.set()
            self._come_later(planned.fault, _DARK_SECONDS)
            return
        if planned.delay:  # the bytes go on, and the server works while it comes
            target.sendall(rest)
            self._come_later(planned.fault, planned.delay)
            return
        self.strike(planned.fault)
        target.sendall(rest)

    def _later(self, fault: Fault, seconds: float) -> None:
        strike = self.strike
        time.sleep(seconds)
        strike(fault)
