"""HTTP/1.1 as a run of statements speaks it, without a server: the pieces in which an answer arrives are Hypothesis's choice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.clickhouse import exchange


class FakeSocket:
    """Gives `pieces` one after another, then the end; takes what is sent, or refuses it with `refusal`."""

    def __init__(self, *pieces: bytes, refusal: OSError | None = None) -> None:
        self.pieces = list(pieces)
        self.sent: list[bytes] = []
        self.refusal = refusal

    def sendall(self, data: bytes, /) -> None:
        self.sent.append(data)
        if self.refusal is not None:
            raise self.refusal

    def recv(self, size: int, /) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > size:
            self.pieces.insert(0, piece[size:])
        return piece[:size]


def cut(raw: bytes, places: list[int]) -> FakeSocket:
    """A socket on which `raw` arrives cut at `places`."""
    ends = sorted({place % (len(raw) + 1) for place in places} | {len(raw)})
    starts = [0, *ends[:-1]]
    return FakeSocket(*[raw[start:end] for start, end in zip(starts, ends, strict=True) if end > start])


def chunked(parts: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"


PLACES = st.lists(st.integers(0, 2000), max_size=12)


@given(parts=st.lists(st.binary(max_size=200), max_size=4), places=PLACES)
def test_chunks_are_put_together_wherever_the_network_cuts_them(parts: list[bytes], places: list[int]) -> None:
    raw = b"HTTP/1.1 200 OK\r\nX-ClickHouse-Summary: {}\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(parts)
    answer = exchange.receive(cut(raw, places))
    assert answer == exchange.Answer(200, {"x-clickhouse-summary": "{}", "transfer-encoding": "chunked"}, b"".join(parts), True)


@given(body=st.binary(max_size=300), places=PLACES)
def test_body_of_a_told_length_is_read_to_its_last_byte_and_no_further(body: bytes, places: list[int]) -> None:
    raw = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    answer = exchange.receive(cut(raw, places))
    assert (answer.status, answer.body, answer.reusable) == (404, body, True)


@given(body=st.binary(max_size=300), places=PLACES)
def test_body_without_a_length_ends_with_the_connection(body: bytes, places: list[int]) -> None:
    answer = exchange.receive(cut(b"HTTP/1.1 200 OK\r\n\r\n" + body, places))
    assert (answer.body, answer.reusable, answer.measured) == (body, False, False)


WHOLE = b"HTTP/1.1 200 OK\r\nX-ClickHouse-Progress: {}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwhat\r\n0\r\n\r\n"


@given(end=st.integers(0, len(WHOLE) - 1), places=PLACES)
def test_bad_flow_answer_that_breaks_off_anywhere_is_no_answer(end: int, places: list[int]) -> None:
    with pytest.raises(exchange.Broken):
        exchange.receive(cut(WHOLE[:end], places))


def test_interim_answers_are_passed_over() -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert exchange.receive(FakeSocket(raw)).status == 200


def test_chunks_may_carry_extensions_and_trailers() -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3;name=value\r\none\r\n0\r\nX-Trailer: yes\r\n\r\n"
    assert exchange.receive(FakeSocket(raw)).body == b"one"


@pytest.mark.parametrize(
    ("head", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: Close", False),
        (b"HTTP/1.1 200 OK\r\nConnection: Upgrade, close", False),
        (b"HTTP/1.1 200 OK", True),
        (b"HTTP/1.0 200 OK", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive", True),
    ],
)
def test_connection_that_the_server_will_close_is_not_used_again(head: bytes, reusable: bool) -> None:
    assert exchange.receive(FakeSocket(head + b"\r\nContent-Length: 0\r\n\r\n")).reusable is reusable


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02 native protocol\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1_0\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_bad_flow_what_is_not_http_is_no_answer(raw: bytes) -> None:
    with pytest.raises(exchange.Broken):
        exchange.receive(FakeSocket(raw))


def test_small_request_travels_in_one_piece() -> None:
    socket = FakeSocket()
    start = b"POST /?a=b" + exchange.rest_of_head({"Host": "h:8123", "Authorization": "Basic x"}).encode()
    exchange.send(socket, start, b"SELECT 1")
    assert socket.sent == [b"POST /?a=b HTTP/1.1\r\nHost: h:8123\r\nAuthorization: Basic x\r\nContent-Length: 8\r\n\r\nSELECT 1"]


def test_large_body_is_not_copied_behind_its_head() -> None:
    socket, body = FakeSocket(), b"x" * 100_000
    exchange.send(socket, b"POST / HTTP/1.1\r\nContent-Length: ", body)
    assert socket.sent[0].endswith(b"100000\r\n\r\n") and socket.sent[1] is body


@pytest.mark.parametrize("refusal", [BrokenPipeError(), ConnectionResetError()])
def test_server_that_answers_before_it_has_read_everything_is_heard(refusal: OSError) -> None:
    socket = FakeSocket(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", refusal=refusal)
    exchange.send(socket, b"POST / HTTP/1.1\r\nContent-Length: ", b"x")
    assert exchange.receive(socket).status == 413
