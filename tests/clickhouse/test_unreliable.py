"""Runs through something that cuts answers short or drops parameters: nothing is executed twice, nothing is believed, nothing is guessed."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from migrator import applying, databases, errors
from migrator.clickhouse import connection
from migrator.planning import events
from tests.clickhouse.conftest import Playground, refusal
from tests.clickhouse.test_transport import serving

TABLE = "CREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id;"

Cut = Callable[[bytes, bytes], bytes]
"""What is left of an answer, given the request's body and the whole answer."""


class Meddler(http.server.BaseHTTPRequestHandler):
    """Stands before a server: takes parameters out of requests, and cuts answers as `cut` says."""

    protocol_version = "HTTP/1.1"
    port: int
    dropped: frozenset[str]
    cut: Cut

    def do_POST(self) -> None:
        """Forwards one request, and of its answer what is left."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        url = urlsplit(self.path)
        kept = [(name, value) for name, value in parse_qsl(url.query, keep_blank_values=True) if name not in self.dropped]
        named = {name: value for name, value in self.headers.items() if name.lower() != "connection"} | {"Connection": "close"}
        head = f"POST {url.path}?{urlencode(kept)} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in named.items())
        with socket.create_connection(("127.0.0.1", self.port)) as onward:
            onward.sendall(f"{head}\r\n".encode() + body)
            whole = b"".join(iter(lambda: onward.recv(65536), b""))
        self.wfile.write(type(self).cut(body, whole))
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Silent."""


def whole(_: bytes, answer: bytes) -> bytes:
    """Cuts nothing."""
    return answer


def three_lines(answer: bytes) -> bytes:
    """What is left of an answer that breaks off in its head."""
    return b"\r\n".join(answer.split(b"\r\n")[:4]) + b"\r\n"


@contextlib.contextmanager
def between(playground: Playground, cut: Cut = whole, dropped: frozenset[str] = frozenset()) -> Iterator[Playground]:
    """The playground as it is reached through a meddler."""
    handler = type("Here", (Meddler,), {"port": playground.server.http_port, "dropped": dropped, "cut": staticmethod(cut)})
    with serving(handler) as port:
        url = playground.url.replace(f"http_port={playground.server.http_port}", f"http_port={port}")
        yield dataclasses.replace(playground, url=url, seen=[])


def cutting(*words: bytes) -> Cut:
    """Cuts the answers to requests that hold one of the words."""
    return lambda body, answer: three_lines(answer) if any(word in body for word in words) else answer


def test_good_flow_through_something_that_only_forwards(playground: Playground) -> None:
    playground.write(1, TABLE, "INSERT INTO t VALUES (1);")
    with between(playground) as through:
        through.run()
    assert playground.versions() == [0, 1]


# --- answers ----------------------------------------------------------------------------------------------------------------------


def broken_off(playground: Playground) -> None:
    """Three statements, of which a run has executed the first two when it loses the server."""
    playground.write(1, TABLE, "INSERT INTO t VALUES (1);", "INSERT INTO t VALUES (2);")
    gone: list[bool] = []

    def cut(body: bytes, answer: bytes) -> bytes:
        gone.extend([True] if b"INSERT INTO t VALUES (2)" in body and b"greylag_journal" not in body else [])
        return b"" if gone else answer

    with between(playground, cut) as through, through.open() as database:
        plan = through.plan(database)
        database._times = dataclasses.replace(database._times, lease=2.0)
        assert isinstance(refusal(lambda: applying.apply(database, plan)), errors.Unavailable | errors.LockUnavailable)


def test_bad_flow_journal_that_is_cut_short_is_lost_and_nothing_is_executed_twice(playground: Playground) -> None:
    broken_off(playground)
    with between(playground, cutting(b"SELECT run_id, position")) as through:
        error = refusal(through.run)
    assert (type(error), error.code) == (errors.Unavailable, "connection-lost")
    assert playground.sql("SELECT id FROM t ORDER BY id") == [[1], [2]]


@pytest.mark.parametrize(
    "word",
    [
        b"SELECT name, position",
        b"SELECT version_id, is_applied",
        b"SELECT version, row_identity",
        b"SELECT toUnixTimestamp64Milli",
    ],
    ids=["tables", "history", "facts", "lock"],
)
def test_bad_flow_answer_that_is_cut_short_before_a_run_is_lost(playground: Playground, word: bytes) -> None:
    playground.write(1, TABLE, "INSERT INTO t VALUES (1);")
    playground.run()
    playground.write(2, "INSERT INTO t VALUES (2);")
    with between(playground, cutting(word)) as through:
        error = refusal(through.run)
    assert (type(error), error.code, error.exit_code) == (errors.Unavailable, "connection-lost", errors.ExitCode.UNAVAILABLE)
    assert (playground.versions(), playground.sql("SELECT id FROM t")) == ([0, 1], [[1]])


def test_bad_flow_login_that_is_cut_short_is_lost(playground: Playground) -> None:
    with between(playground, cutting(b"SELECT version()")) as through:
        error = refusal(through.open)
    assert isinstance(error, errors.Unavailable)
    assert "the connection ended within the answer" in error.message


def _finish(playground: Playground) -> None:
    """Runs to the end, questions about the INSERTs answered by what is true."""
    for _ in range(4):
        try:
            playground.run()
            return
        except errors.NeedsAnswer as question:
            asked = re.search(r"was statement (\d) executed", question.message)
            assert asked is not None
            index = int(asked[1])
            playground.answer(1, index, done=playground.sql(f"SELECT count() FROM t WHERE id = {index}") == [[1]])
    raise AssertionError("it asks again and again")


@dataclasses.dataclass
class FirstOfItsSort:
    """Cuts one answer: the first to a request of a sort that isn't among `sorts`."""

    sorts: set[bytes]
    done: bool = False

    def __call__(self, body: bytes, answer: bytes) -> bytes:
        """What is left of the answer."""
        sort = b" ".join(re.findall(rb"[A-Za-z_]+", re.sub(rb"greylag_draft_\w+|`[^`]*`|'[^']*'", b"", body))[:6])
        if self.done or sort in self.sorts:
            return answer
        self.sorts.add(sort)
        self.done = True
        return three_lines(answer)


@pytest.mark.slow
def test_bad_flow_whichever_answer_is_cut_short_the_next_run_ends_well(
    playground: Playground, new_clickhouse_database: Callable[[], str]
) -> None:
    playground.write(1, TABLE, "INSERT INTO t VALUES (2);", "INSERT INTO t VALUES (3);")
    playground.write(2, "ALTER TABLE t ADD COLUMN n UInt64;", "ALTER TABLE t UPDATE n = n + 1 WHERE 1;")
    sorts: set[bytes] = set()
    while True:
        name = new_clickhouse_database()
        place = dataclasses.replace(playground, name=name, url=playground.url.replace(playground.name, name), seen=[])
        cut = FirstOfItsSort(sorts)
        with between(place, cut) as through, contextlib.suppress(errors.GreylagError):
            through.run()
        if not cut.done:
            break
        _finish(place)
        assert place.versions() == [0, 1, 2], sorts
        assert place.sql("SELECT id, n FROM t ORDER BY id") == [[2, 1], [3, 1]], sorts
    assert len(sorts) > 15


# --- parameters -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropped", ["session_id session_timeout session_check", "session_id", "session_check", "session_timeout"])
def test_bad_flow_session_that_does_not_arrive_is_refused_before_anything_is_executed(playground: Playground, dropped: str) -> None:
    playground.write(1, TABLE)
    with between(playground, dropped=frozenset(dropped.split())) as through:
        error = refusal(through.run)
        assert through.open().read_history().exists is False  # reading needs no session
    assert (type(error), error.code, error.exit_code) == (errors.PlanRefused, "no-session", errors.ExitCode.REFUSED)
    assert playground.sql("SHOW TABLES LIKE 't'") == []
    assert playground.sql("SHOW TABLES LIKE 'goose%'") == []


def test_bad_flow_database_that_does_not_arrive_is_refused_at_login(playground: Playground) -> None:
    with between(playground, dropped=frozenset({"database"})) as through:
        error = refusal(through.open)
    assert (type(error), error.code) == (errors.PlanRefused, "no-session")
    assert f'"default" was opened instead of "{playground.name}"' in error.message


def test_lock_is_given_back_where_the_session_is_refused(playground: Playground) -> None:
    playground.write(1, TABLE)
    with between(playground, dropped=frozenset({"session_id"})) as through:
        refusal(through.run)
    seen: list[events.Event] = []
    with connection.connect(playground.url, databases.Options()) as database, database.lock(seen.append):
        pass
    assert not [event for event in seen if isinstance(event, events.LockWaiting)]
