"""A fake: a proxy before a real PostgreSQL that cuts a connection after so many bytes, which a real network won't do on demand."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from urllib.parse import urlsplit

from sandbox import ports

_TAKEN = 4096  # bytes handed on at once


class FakeCut:
    """Hands bytes on between clients and a server; ends a connection after its client's first `after` bytes. A context manager.

    Attributes:
        after: bytes of the client; negative for none. `abrupt`: with a reset, not with an orderly end.
        cuts: how many connections were cut.
    """

    def __init__(self, url: str) -> None:
        self._server = urlsplit(url)
        self._listener = socket.create_server((ports.LOOPBACK, 0))
        port = self._listener.getsockname()[1]
        credentials, _, _ = self._server.netloc.rpartition("@")
        self.url = self._server._replace(netloc=f"{credentials}@{ports.LOOPBACK}:{port}").geturl()
        self.after = -1
        self.abrupt = False
        self.cuts = 0

    def __enter__(self) -> FakeCut:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            server = socket.create_connection((str(self._server.hostname), int(self._server.port or 5432)))
            for source, target, limit in ((client, server, self.after), (server, client, -1)):
                threading.Thread(target=self._hand_on, args=(source, target, limit), daemon=True).start()

    def _hand_on(self, source: socket.socket, target: socket.socket, limit: int) -> None:
        left = limit
        with contextlib.suppress(OSError):
            while left:
                data = source.recv(_TAKEN if left < 0 else min(left, _TAKEN))
                if not data:
                    break
                target.sendall(data)
                left -= len(data) if left > 0 else 0
        if left == 0:
            self.cuts += 1
            if self.abrupt:
                source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for item in (target, source):
            with contextlib.suppress(OSError):
                item.shutdown(socket.SHUT_RDWR) if not (left == 0 and self.abrupt and item is source) else item.close()
