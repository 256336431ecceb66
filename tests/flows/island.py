"""A network of its own for a process, with a way out to chosen ports of this machine alone: what a NetworkPolicy gives a worker's pod.

In a new network namespace nothing can be reached, not even 127.0.0.1 of the machine. Unix sockets know no network namespaces: a relay on each side
of one carries what is allowed. `python -I island.py DIRECTORY PORT[,PORT] COMMAND…` is the inner side.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1  # linux/sockios.h, linux/if.h
_CHUNK = 65536
_LONGEST_SECONDS = 300

Connect = Callable[[], socket.socket]


def unavailable() -> str | None:
    """Why there can be none on this machine, or None: what a test that skips says."""
    if shutil.which("unshare") is None:
        return "a network of its own needs `unshare` (util-linux)"
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode != 0:
        return "a network of its own needs root and CAP_SYS_ADMIN"
    return None


class Island:
    """The outer side; a context manager.

    Args:
        directory: for the sockets; its path is short (a socket's holds 107 bytes).
        ports: the ports of 127.0.0.1 that may be reached, by the same numbers.
    """

    def __init__(self, directory: Path, ports: Sequence[int]) -> None:
        self._directory, self._ports = directory, tuple(ports)
        self._listeners: list[socket.socket] = []

    def __enter__(self) -> Island:
        for port in self._ports:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(self._directory / f"{port}"))
            listener.listen()
            self._listeners.append(listener)
            relay(listener, lambda port=port: socket.create_connection(("127.0.0.1", port)))  # type: ignore[misc]
        return self

    def __exit__(self, *_: object) -> None:
        for listener in self._listeners:
            listener.close()

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Runs a command inside."""
        allowed = ",".join(map(str, self._ports))
        inner = ["unshare", "--net", sys.executable, "-I", __file__, str(self._directory), allowed, *command]
        return subprocess.run(inner, env=dict(environment), capture_output=True, encoding="utf-8", timeout=_LONGEST_SECONDS, check=False)


def relay(listener: socket.socket, connect: Connect) -> None:
    """Passes each connection to a listener on to another one, in threads of its own, until the listener is closed."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = listener.accept()
                try:
                    other = connect()
                except OSError:
                    accepted.close()
                    continue
                for source, sink in ((accepted, other), (other, accepted)):
                    threading.Thread(target=_pump, args=(source, sink), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK):
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _unix(path: str) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.connect(path)
    return found


def main() -> int:
    """The inner side: the loopback interface, a listener per port, then the command."""
    directory, allowed, *command = sys.argv[1:]
    _bring_loopback_up()
    for port in filter(None, allowed.split(",")):
        listener = socket.create_server(("127.0.0.1", int(port)))
        relay(listener, lambda port=port: _unix(f"{directory}/{port}"))  # type: ignore[misc]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
