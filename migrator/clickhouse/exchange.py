"""One HTTP/1.1 exchange over a connection that urllib3 has opened: a request written in one piece, an answer read in as few as it comes.

Only for the statements of a run, which are thousands of small requests one after another. A migration of a CREATE TABLE and its history row, measured
on a server of its own: 10.2 ms by urllib3's pool manager, 9.7 by its connection pool, 9.0 by http.client, 8.4 so; goose over the native protocol is
of that order. RFC 9112 is the source of the framing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

_PIECE = 1 << 16
"""Bytes asked of the socket at once, and the longest body that is copied so that it travels with its head."""

_LONGEST_HEAD = 1 << 24
"""Bytes: progress arrives as a header every ten seconds, some 200 bytes each: enough for a week."""


class Socket(Protocol):
    """What is used of a socket, plain or TLS."""

    def sendall(self, data: bytes, /) -> None:
        """Sends everything."""

    def recv(self, size: int, /) -> bytes:
        """Receives at most `size` bytes; nothing at the end."""


class Broken(OSError):
    """The connection ended before the answer did."""


@dataclass(frozen=True)
class Answer:
    """An answer. Names of `headers` are in lower case; `reusable`: the connection stays open for another request."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    reusable: bool


def rest_of_head(headers: Mapping[str, str]) -> str:
    """The head of a POST behind its target, up to the number that tells the body's length."""
    return " HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "Content-Length: "


def send(socket: Socket, start: bytes, body: bytes) -> None:
    """Sends a request; `start` is its head up to the number that tells the body's length.

    A server may answer and close before it has read everything: then the answer is still to be read.

    Raises OSError.
    """
    first = b"%s%d\r\n\r\n" % (start, len(body))
    try:
        if len(body) <= _PIECE:
            socket.sendall(first + body)
        else:
            socket.sendall(first)
            socket.sendall(body)
    except (BrokenPipeError, ConnectionResetError):
        pass


def receive(socket: Socket) -> Answer:
    """Reads one answer.

    Raises:
        Broken: the connection ended within it.
        OSError.
    """
    source = _Source(socket)
    status = 100
    while 100 <= status < 200:  # interim answers, of proxies
        status, headers = _head(source.until(b"\r\n\r\n", _LONGEST_HEAD))
    reusable = headers.get("connection", "").lower() != "close"
    if status in (204, 304):
        return Answer(status, headers, b"", reusable)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return Answer(status, headers, _chunks(source), reusable)
    if "content-length" in headers:
        return Answer(status, headers, source.exactly(_number(headers["content-length"], 10)), reusable)
    return Answer(status, headers, source.rest(), False)


def _head(raw: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = raw.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise Broken(f"this is no answer of an HTTP server: {first[:100]!r}")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return int(rest[:3]), headers


def _chunks(source: _Source) -> bytes:
    body = bytearray()
    while size := _number(source.until(b"\r\n").partition(b";")[0].decode("latin-1"), 16):
        body += source.exactly(size)
        source.exactly(2)
    while source.until(b"\r\n"):  # trailers
        pass
    return bytes(body)


def _number(text: str, base: int) -> int:
    try:
        return int(text.strip(), base)
    except ValueError:
        raise Broken(f"the answer's length can't be read: {text[:100]!r}") from None


class _Source:
    """Bytes of a socket, as many as are asked for."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._ready = bytearray()

    def until(self, end: bytes, longest: int = _PIECE) -> bytes:
        """What comes before `end`, which is taken off too."""
        searched = 0
        while (found := self._ready.find(end, searched)) < 0:
            if len(self._ready) > longest:
                raise Broken("the answer's head does not end")
            searched = max(0, len(self._ready) - len(end))
            self._more()
        taken = bytes(self._ready[:found])
        del self._ready[: found + len(end)]
        return taken

    def exactly(self, size: int) -> bytes:
        """So many bytes."""
        while len(self._ready) < size:
            self._more()
        taken = bytes(self._ready[:size])
        del self._ready[:size]
        return taken

    def rest(self) -> bytes:
        """Everything up to the connection's end."""
        while piece := self._socket.recv(_PIECE):
            self._ready += piece
        return bytes(self._ready)

    def _more(self) -> None:
        piece = self._socket.recv(_PIECE)
        if not piece:
            raise Broken("the connection ended within the answer")
        self._ready += piece
