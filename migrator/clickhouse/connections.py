"""An open connection to a server without TLS and without a proxy: a socket, and nothing that takes time to be imported.

urllib3, http.client, ssl and email together take longer to be imported than a run with nothing to do takes otherwise. With TLS or a proxy it is urllib3 that
opens connections (`transport`), and both are used alike.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable


class PlainConnection:
    """A TCP connection that is opened by `connect`; until then it has no `sock`.

    Args:
        timeout: seconds for connecting.
        options: what `setsockopt` is given.
    """

    sock: socket.socket

    def __init__(self, host: str, port: int, *, timeout: float, socket_options: Iterable[tuple[int, int, int]]) -> None:
        self._place = (host.strip("[]"), port)
        self._timeout = timeout
        self._options = tuple(socket_options)

    def connect(self) -> None:
        """Opens it, to the first of the host's addresses that answers. Raises OSError, and ValueError for what is no host's name."""
        opened = socket.create_connection(self._place, self._timeout)
        try:
            for option in self._options:
                opened.setsockopt(*option)
        except OSError:
            opened.close()
            raise
        self.sock = opened

    @property
    def is_connected(self) -> bool:
        """Tells whether the server has neither closed it nor said anything unasked."""
        poll = select.poll()
        try:
            poll.register(self.sock, select.POLLIN)
        except ValueError:  # closed
            return False
        return not poll.poll(0)

    def close(self) -> None:
        """Closes it; a second call does nothing."""
        if hasattr(self, "sock"):
            self.sock.close()
