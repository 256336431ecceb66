"""One HTTP/1.1 exchange over an open connection: a request written in one piece, an answer read to the end that it tells (RFC 9112).

An answer is whole when its head ends with an empty line and its body has the length that the head tells, or its last chunk; everything else is
`Broken`. Python's http.client, and so urllib3, takes a connection that closes within the head for the end of the head, and with it an answer whose
`Transfer-Encoding` or exception code was still to come for an empty success. A journal read like that has no entries, and what was executed is executed
again. That is why these lines exist, and why every request of the engine goes through them (`transport`).

They are also the quickest. A migration of a CREATE TABLE and its history row, measured on a server of its own: 10.2 ms by urllib3's pool manager,
9.7 by its connection pool, 9.0 by http.client, 8.4 so; goose over the native protocol is of that order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

_PIECE = 1 << 16
"""Bytes asked of the socket at once, and the longest body that is copied so that it travels with its head."""

_LONGEST_HEAD = 1 << 24
"""Bytes: progress arrives as a header every ten seconds, some 200 bytes each: enough for a week."""

_DECIMAL = re.compile(r"[0-9]{1,19}")
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]{1,16}")


class Socket(Protocol):
    """What is used of a socket, plain or TLS."""

    def sendall(self, data: bytes, /) -> None:
        """Sends everything."""

    def recv(self, size: int, /) -> bytes:
        """Receives at most `size` bytes; nothing at the end."""


class Broken(OSError):
    """The connection ended before the answer did, or what came is no answer."""


@dataclass(frozen=True)
class Answer:
    """An answer. Names of `headers` are in lower case; the last of several values counts. `reusable`: the connection stays open for another
    request. `measured`: the head told where the body ends; else it ended with the connection, and something may be missing."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    reusable: bool
    measured: bool = True


def rest_of_head(headers: Mapping[str, str]) -> str:
    """Returns the head of a POST behind its target, up to the number that tells the body's length."""
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
        Broken: the connection ended within it, or it can't be read.
        OSError.
    """
    source = _Source(socket)
    status = 100
    while 100 <= status < 200:  # interim answers, of proxies
        status, persistent, headers = _head(source.until(b"\r\n\r\n", _LONGEST_HEAD))
    wishes = [item.strip().lower() for item in headers.get("connection", "").split(",")]
    reusable = "close" not in wishes and (persistent or "keep-alive" in wishes)
    if status in (204, 304):
        return Answer(status, headers, b"", reusable)
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].lower() != "chunked":
            raise Broken(f"the answer's encoding can't be read: {headers['transfer-encoding'][:100]!r}")
        return Answer(status, headers, _chunks(source), reusable)
    if "content-length" in headers:
        return Answer(status, headers, source.exactly(_number(headers["content-length"], _DECIMAL, 10)), reusable)
    return Answer(status, headers, source.rest(), False, measured=False)


def _head(raw: bytes) -> tuple[int, bool, dict[str, str]]:
    """Reads a head: the status, whether the connection stays open by itself, the headers."""
    first, *lines = raw.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise Broken(f"this is no answer of an HTTP server: {first[:100]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip()
        if name == "content-length" and headers.get(name, value) != value:
            raise Broken("the answer tells two lengths")
        headers[name] = value
    return int(rest[:3]), version != "HTTP/1.0", headers


def _chunks(source: _Source) -> bytes:
    body = bytearray()
    while size := _number(source.until(b"\r\n").partition(b";")[0].decode("latin-1").strip(), _HEXADECIMAL, 16):
        body += source.exactly(size)
        if source.exactly(2) != b"\r\n":
            raise Broken("a chunk of the answer is longer than it tells")
    while source.until(b"\r\n"):  # trailers
        pass
    return bytes(body)


def _number(text: str, form: re.Pattern[str], base: int) -> int:
    if form.fullmatch(text) is None:
        raise Broken(f"the answer's length can't be read: {text[:100]!r}")
    return int(text, base)


class _Source:
    """Bytes of a socket, as many as are asked for."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._ready = bytearray()

    def until(self, end: bytes, longest: int = _PIECE) -> bytes:
        """Reads up to `end` and returns what stands before it; `end` itself is dropped."""
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
        """Reads so many bytes."""
        while len(self._ready) < size:
            self._more()
        taken = bytes(self._ready[:size])
        del self._ready[:size]
        return taken

    def rest(self) -> bytes:
        """Reads everything up to the connection's end."""
        while piece := self._socket.recv(_PIECE):
            self._ready += piece
        return bytes(self._ready)

    def _more(self) -> None:
        piece = self._socket.recv(_PIECE)
        if not piece:
            raise Broken("the connection ended within the answer")
        self._ready += piece
