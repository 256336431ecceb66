"""What counts as an answer: one that is cut short anywhere is lost, never a success, an empty table or a refusal."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode

import pytest

from migrator.address import addresses
from migrator.clickhouse import failures, session, transport
from sandbox.databases.clickhouse import ClickHouseServer
from tests.unit.test_clickhouse_exchange import FakeSocket

HEADERS = frozenset({"x-clickhouse-summary", "x-clickhouse-query-id"})
WRITES = {
    "done": ("CREATE TABLE IF NOT EXISTS t (id UInt64) ENGINE = MergeTree ORDER BY id", {}),
    "done after progress": ("SELECT sleep(0.4)", {"http_headers_progress_interval_ms": 50}),
    "rows of its own": ("SELECT number FROM numbers(3) FORMAT TSV", {}),
    "refused": ("CREATE TABLE t (id Int8) ENGINE = MergeTree ORDER BY id", {}),
    "refused after progress": (
        "SELECT sleepEachRow(0.1), throwIf(number = 3) FROM numbers(5) SETTINGS max_block_size = 1",
        {"http_headers_progress_interval_ms": 10},
    ),
}
READS = {
    "rows": "SELECT number, 'text', [1, 2] FROM numbers(3)",
    "no rows": "SELECT number FROM numbers(0)",
    "one row": "SELECT count() FROM system.one",
    "refused": "SELECT no_such_column",
}

KINDS = [f"write: {kind}" for kind in WRITES] + [f"read: {kind}" for kind in READS]


def query_id(kind: str) -> str:
    """The id of the request of a kind; the server refuses a second one while the first is being cleared away."""
    return f"{KINDS.index(kind):032d}"


@dataclass
class FakeConnection:
    """An open connection on which `raw` arrives, whatever is asked."""

    raw: bytes

    def __post_init__(self) -> None:
        self.sock = FakeSocket(self.raw)

    is_connected = True

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture(scope="module")
def recorded(clickhouse_server: ClickHouseServer) -> dict[str, bytes]:
    """The answers of a real server to each kind of request, byte for byte."""
    clickhouse_server.create_database("answers")
    address = addresses.parse_clickhouse(clickhouse_server.admin_url("answers"))
    real = transport.Transport(address, "127.0.0.1", clickhouse_server.http_port, 10)
    found: dict[str, bytes] = {}

    def record(kind: str, sql: str, settings: dict[str, object], rest_of_head: str) -> None:
        parameters = {
            "database": "answers",
            "wait_end_of_query": 1,
            "send_progress_in_http_headers": 1,
            "query_id": query_id(kind),
            **settings,
        }
        head = f"POST /?{urlencode(parameters)}{rest_of_head}{len(sql)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", clickhouse_server.http_port)) as connection:
            connection.sendall(head.encode() + sql.encode())
            answer = b""
            while not (answer.endswith(b"0\r\n\r\n") and b"\r\n\r\n" in answer[:-5]):
                answer += connection.recv(65536)
        found[kind] = answer

    for kind, (sql, settings) in WRITES.items():
        record(f"write: {kind}", sql, dict(settings), real._rest_of_write)
    for kind, sql in READS.items():
        record(f"read: {kind}", f"{sql}\nFORMAT JSONCompactColumns", {}, real._rest_of_read)
    assert b"X-ClickHouse-Progress" in found["write: refused after progress"]
    assert found["write: refused after progress"].startswith(b"HTTP/1.1 200 OK")
    return found


def measured(raw: bytes) -> bytes:
    """The same answer as a proxy frames it that knows its length."""
    head, _, body = raw.partition(b"\r\n\r\n")
    whole = b""
    while (size := int(body.partition(b"\r\n")[0], 16)) > 0:
        start = body.index(b"\r\n") + 2
        whole += body[start : start + size]
        body = body[start + size + 2 :]
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"transfer-encoding")]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(whole), b"", whole])


def outcome(kind: str, raw: bytes, told: frozenset[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """What a request of this kind ends with when `raw` is all that arrives: rows, "done", or the failure."""
    address = addresses.parse_clickhouse("http://somebody:password@127.0.0.1:1/answers")
    subject = transport.Transport(address, "127.0.0.1", 1, 1)
    subject._told = told
    monkeypatch.setattr(subject, "_connect", lambda: FakeConnection(raw))
    monkeypatch.setattr(transport, "_PAUSES", ())
    monkeypatch.setattr("secrets.token_hex", lambda _: query_id(kind))
    try:
        if kind.startswith("read"):
            return subject.read("SELECT", {})
        subject.write(b"SELECT", "")
    except (failures.Refusal, failures.Lost) as failure:
        return failure
    return "done"


@pytest.mark.parametrize("told", [HEADERS, frozenset()], ids=["headers arrive", "headers are dropped"])
@pytest.mark.parametrize("frame", [bytes, measured], ids=["chunked", "content-length"])
@pytest.mark.parametrize("kind", KINDS)
def test_bad_flow_answer_cut_after_any_byte_is_lost(
    kind: str, frame: Callable[[bytes], bytes], told: frozenset[str], recorded: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = frame(recorded[kind])
    for end in range(len(raw)):
        found = outcome(kind, raw[:end], told, monkeypatch)
        assert isinstance(found, failures.Lost) and found.sent, (end, raw[:end][-80:], found)
    assert not isinstance(outcome(kind, raw, told, monkeypatch), failures.Lost)


@pytest.mark.parametrize("completed", [b"", b"Content-Length: 0\r\n", b"Connection: close\r\n"], ids=["ended", "measured", "closed"])
@pytest.mark.parametrize("kind", KINDS)
def test_bad_flow_head_that_a_proxy_completed_after_any_line_proves_nothing(
    kind: str, completed: bytes, recorded: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    head = recorded[kind].partition(b"\r\n\r\n")[0]
    lines = head.split(b"\r\n")
    whole = outcome(kind, recorded[kind], HEADERS, monkeypatch)
    for number in range(1, len(lines)):
        kept = [line for line in lines[:number] if not line.lower().startswith(b"transfer-encoding")]
        found = outcome(kind, b"\r\n".join(kept) + b"\r\n" + completed + b"\r\n", HEADERS, monkeypatch)
        if isinstance(whole, failures.Refusal) and not isinstance(found, failures.Lost):
            assert isinstance(found, failures.Refusal) and found.code == whole.code  # the code's line was there
        elif kind.startswith("read") or not completed.startswith(b"Content"):
            assert isinstance(found, failures.Lost), (number, found)
        else:  # an answer without a body: behind the query's id nothing is left that could refuse
            assert isinstance(found, failures.Lost) or any(line.startswith(b"X-ClickHouse-Query-Id") for line in kept), (number, found)


@pytest.mark.parametrize("kind", KINDS)
def test_bad_flow_answer_to_another_request_is_lost(kind: str, recorded: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    raw = recorded[kind].replace(query_id(kind).encode(), query_id(kind).replace("0", "1").encode())
    found = outcome(kind, raw, HEADERS, monkeypatch)
    assert isinstance(found, failures.Lost | failures.Refusal)


def test_whole_answers_are_what_they_say(recorded: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    found = {kind: outcome(kind, recorded[kind], HEADERS, monkeypatch) for kind in KINDS}
    assert [found[f"write: {kind}"] for kind in ("done", "done after progress", "rows of its own")] == ["done"] * 3
    assert found["read: rows"] == [[number, "text", [1, 2]] for number in range(3)]
    assert (found["read: no rows"], found["read: one row"]) == ([], [[1]])
    codes = {kind: failure.code for kind, failure in found.items() if isinstance(failure, failures.Refusal)}
    assert codes == {"write: refused": 57, "write: refused after progress": 395, "read: refused": 47}


def test_rows_may_end_with_the_connection_for_they_are_a_document(recorded: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    head, _, body = measured(recorded["read: rows"]).partition(b"\r\n\r\n")
    ending = b"\r\n".join(line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")) + b"\r\n\r\n" + body
    assert outcome("read: rows", ending, HEADERS, monkeypatch) == [[number, "text", [1, 2]] for number in range(3)]
    for end in range(len(ending.rstrip())):
        assert isinstance(outcome("read: rows", ending[:end], HEADERS, monkeypatch), failures.Lost)


def test_bad_flow_aggregate_without_its_row_is_lost(clickhouse_server: ClickHouseServer) -> None:
    opened = session.connect(addresses.parse_clickhouse(clickhouse_server.admin_url("system")), "greylag-test-", 10)
    assert opened.row("SELECT count() FROM system.one") == [1]
    with pytest.raises(failures.Lost):
        opened.row("SELECT count() FROM system.one HAVING 0")
    opened.close()
