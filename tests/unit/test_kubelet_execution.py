"""What `kubectl exec` and this sandbox's node say to each other: frames of RFC 6455, streams by their number, the Status with the exit code."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import threading

import pytest

from sandbox.cluster import execution
from sandbox.cluster.execution import Opcode, Stream


def masked(opcode: int, payload: bytes, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    """A client's frame."""
    whole = bytearray(execution.frame(Opcode(opcode), payload))
    head = len(whole) - len(payload)
    whole[1] |= 0x80
    return bytes(whole[:head]) + mask + bytes(byte ^ mask[number % 4] for number, byte in enumerate(payload))


def test_the_handshake_is_that_of_the_rfcs_example() -> None:
    assert execution.accepted("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536])
def test_a_frame_of_any_length_is_read_as_it_was_sent(length: int) -> None:
    payload = bytes(range(256)) * (length // 256 + 1)
    assert execution.read_frame(io.BytesIO(masked(Opcode.BINARY, payload[:length]))) == (Opcode.BINARY, payload[:length])


def test_the_end_of_the_connection_is_no_frame() -> None:
    assert execution.read_frame(io.BytesIO(b"")) is None


def test_the_exit_code_is_in_the_status() -> None:
    assert json.loads(execution.verdict(0))["status"] == "Success"
    assert json.loads(execution.verdict(7))["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]


def test_a_command_reads_what_is_sent_and_says_how_it_ended() -> None:
    script = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.stderr.write('e'); sys.exit(3)"
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", script], stdin=pipe, stdout=pipe, stderr=pipe)
    ours, theirs = socket.socketpair()
    with ours, theirs, theirs.makefile("rb") as reader, ours.makefile("rb") as answers:
        serving = threading.Thread(target=execution.Execution(process, reader, theirs).serve)
        serving.start()
        ours.sendall(masked(Opcode.BINARY, bytes([Stream.STDIN]) + b"abc") + masked(Opcode.BINARY, bytes([Stream.CLOSE, Stream.STDIN])))
        said: dict[int, bytes] = {}
        while (found := execution.read_frame(answers)) is not None and found[0] != Opcode.CLOSE:
            said[found[1][0]] = said.get(found[1][0], b"") + found[1][1:]
        ours.sendall(masked(Opcode.CLOSE, b""))
        serving.join()
    for end in (process.stdin, process.stdout, process.stderr):
        assert end is not None
        end.close()
    assert (said[Stream.STDOUT], said[Stream.STDERR]) == (b"ABC", b"e")
    assert json.loads(said[Stream.ERROR])["details"]["causes"][0]["message"] == "3"
