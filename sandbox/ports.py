"""Free ports on the loopback interface."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"

# Linux gives 32768-60999 to outgoing connections: a free port from that range may be taken by any client
# before the server opens it. Well-known servers use ports below 20000.
_CANDIDATES = range(20_000, 32_000)
_ATTEMPTS = 200

_given: set[int] = set()


def free_port() -> int:
    """Returns a port on 127.0.0.1 that nothing listens on, never the same one twice in this process.

    Raises:
        OSError: no port was found in 200 tries.
    """
    chooser = random.SystemRandom()  # a seeded generator would give parallel test processes the same ports
    for _ in range(_ATTEMPTS):
        port = chooser.choice(_CANDIDATES)
        if port not in _given and is_free(port):
            _given.add(port)
            return port
    raise OSError(f"no free port on {LOOPBACK} between {_CANDIDATES.start} and {_CANDIDATES.stop - 1}")


def is_free(port: int) -> bool:
    """Tells whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as candidate:
        # Servers set this too: a port with connections in TIME_WAIT counts as free.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def preferred_port(wanted: int | None) -> int:
    """Returns the wanted port while it is free (addresses then stay the same from one start to the next), else another free one."""
    if wanted is not None and is_free(wanted):
        _given.add(wanted)
        return wanted
    return free_port()


def accepts_connections(port: int, seconds: float = 0.5, host: str = LOOPBACK) -> bool:
    """Tells whether something listens on this port and accepts a connection within the given seconds."""
    try:
        with socket.create_connection((host, port), timeout=seconds):
            return True
    except OSError:
        return False
