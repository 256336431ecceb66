"""`kubectl exec`: a command beside a container's process 1, its streams over a WebSocket (subprotocol v5.channel.k8s.io).

The API server passes kubectl's WebSocket on to a node that declares the feature `ExtendWebSocketsToKubelet` (kubernetes 1.36 and newer); to any other one it
speaks SPDY, which this node doesn't. Each message begins with its stream's number. There are no terminals.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import hashlib
import json
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import IO, Protocol

FEATURE = "ExtendWebSocketsToKubelet"
"""What a node declares that takes WebSockets."""

PROTOCOL = "v5.channel.k8s.io"

Start = Callable[[Sequence[str]], "subprocess.Popen[bytes]"]
"""Starts a command in a container, with three pipes."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_PIECE = 32 * 1024
_CLOSING_SECONDS = 2.0  # the streams are through by then


class Reader(Protocol):
    """What a connection is read by."""

    def read(self, size: int, /) -> bytes: ...


class Stream(enum.IntEnum):
    """The streams of a message's first byte (`k8s.io/apimachinery/pkg/util/remotecommand`)."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    ERROR = 3
    CLOSE = 255


class Opcode(enum.IntEnum):
    """The kinds of frames (RFC 6455 §5.2)."""

    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


def accepted(key: str) -> str:
    """Returns the answer to a handshake's key (RFC 6455 §4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()


def frame(opcode: Opcode, payload: bytes) -> bytes:
    """Returns a server's frame: whole, and not masked."""
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 126, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 127, length)
    return head + payload


def read_frame(reader: Reader) -> tuple[int, bytes] | None:
    """Reads a client's frame, which is masked; None at the end of the connection."""
    head = reader.read(2)
    if len(head) < 2:
        return None
    opcode, length = head[0] & 0x0F, head[1] & 0x7F
    if length == 126:
        (length,) = struct.unpack("!H", reader.read(2))
    elif length == 127:
        (length,) = struct.unpack("!Q", reader.read(8))
    mask = reader.read(4) if head[1] & 0x80 else b"\0\0\0\0"
    payload = reader.read(length)
    return opcode, bytes(byte ^ mask[number % 4] for number, byte in enumerate(payload))


def verdict(code: int) -> bytes:
    """Returns the Status that ends an execution, as kubectl takes its exit code from it."""
    if code == 0:
        return json.dumps({"metadata": {}, "status": "Success"}).encode()
    cause = {"reason": "ExitCode", "message": str(code)}
    message = f"command terminated with non-zero exit code: exit status {code}"
    found = {"metadata": {}, "status": "Failure", "message": message, "reason": "NonZeroExitCode", "details": {"causes": [cause]}}
    return json.dumps(found).encode()


class Execution:
    """One command and its connection, after the handshake.

    Args:
        process: with three pipes. reader, connection: the upgraded connection's two directions.
    """

    def __init__(self, process: subprocess.Popen[bytes], reader: Reader, connection: socket.socket) -> None:
        self._process, self._reader, self._connection = process, reader, connection
        self._writing = threading.Lock()

    def serve(self) -> None:
        """Passes everything on until the command has ended; a client that goes away ends the command."""
        assert self._process.stdout is not None and self._process.stderr is not None
        outputs = [
            threading.Thread(target=self._pass_on, args=given, daemon=True)
            for given in ((Stream.STDOUT, self._process.stdout), (Stream.STDERR, self._process.stderr))
        ]
        listener = threading.Thread(target=self._listen, daemon=True)
        for thread in (*outputs, listener):
            thread.start()
        for thread in outputs:
            thread.join()
        code = self._process.wait()
        with contextlib.suppress(OSError):
            self._send(Stream.ERROR, verdict(code if code >= 0 else 128 - code))
            self._write(frame(Opcode.CLOSE, struct.pack("!H", 1000)))
        listener.join(_CLOSING_SECONDS)  # the client answers with its own end
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        listener.join(_CLOSING_SECONDS)

    def _pass_on(self, stream: Stream, output: IO[bytes]) -> None:
        try:
            while piece := output.read1(_PIECE):  # type: ignore[attr-defined]
                self._send(stream, piece)
        except OSError:
            self._process.kill()

    def _listen(self) -> None:
        """Takes the client's messages: what the command reads, the end of that, the client's own end."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError, struct.error):
            while (found := read_frame(self._reader)) is not None:
                opcode, payload = found
                if opcode == Opcode.PING:
                    self._write(frame(Opcode.PONG, payload))
                elif opcode == Opcode.CLOSE:
                    break
                elif payload[:1] == bytes([Stream.STDIN]):
                    with contextlib.suppress(BrokenPipeError):
                        self._process.stdin.write(payload[1:])
                        self._process.stdin.flush()
                elif payload == bytes([Stream.CLOSE, Stream.STDIN]):
                    self._process.stdin.close()
        if self._process.poll() is None:
            self._process.kill()

    def _send(self, stream: Stream, data: bytes) -> None:
        self._write(frame(Opcode.BINARY, bytes([stream]) + data))

    def _write(self, data: bytes) -> None:
        with self._writing:
            self._connection.sendall(data)
