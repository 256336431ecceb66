"""A watch without a gap, against faults that a real API server does not make on demand: 410, half-open streams, 429, errors in the stream."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from tasks.job.following import _JobSource
from tasks.kubernetes import following
from tasks.kubernetes.following import ABSENT, LISTED, PRESENT, Change, Expired, Page
from tests.unit import fake_api_server
from tests.unit.fake_api_server import FakeApiServer, Handler, broken, events, half_open, listed, refused

Json = dict[str, Any]


def versioned(version: int, name: str = "x") -> Json:
    return {"metadata": {"name": name, "uid": "u", "resourceVersion": str(version)}}


@pytest.fixture
def server() -> Iterator[FakeApiServer]:
    with fake_api_server.running() as found:
        yield found


def seen(server: FakeApiServer, count: int) -> list[tuple[str, list[str]]]:
    """The first changes: their kind, and the versions that they have."""
    stopped = threading.Event()
    found: list[Change] = []
    for change in following.follow(_JobSource(server.api(), "n", "x"), stopped, window=1):
        found.append(change)
        if len(found) == count:
            stopped.set()
            break
    return [(change.kind, [item["metadata"]["resourceVersion"] for item in change.objects]) for change in found]


def test_everything_is_listed_and_then_watched_from_there(server: FakeApiServer) -> None:
    server.script = [listed(5, versioned(3)), events(("MODIFIED", versioned(6)), ("DELETED", versioned(7)))]
    assert seen(server, 3) == [(LISTED, ["3"]), (PRESENT, ["6"]), (ABSENT, ["7"])]
    assert "fieldSelector=metadata.name%3Dx" in server.asked[0] and "watch" not in server.asked[0]
    assert "resourceVersion=5" in server.asked[1] and "allowWatchBookmarks=true" in server.asked[1].replace("True", "true")


def test_a_stream_that_ends_goes_on_from_the_last_version_bookmarks_included(server: FakeApiServer) -> None:
    server.script = [
        listed(5),
        events(("ADDED", versioned(6)), ("BOOKMARK", {"metadata": {"resourceVersion": "9"}})),
        events(("MODIFIED", versioned(10))),
    ]
    assert seen(server, 3) == [(LISTED, []), (PRESENT, ["6"]), (PRESENT, ["10"])]
    assert "resourceVersion=9" in server.asked[2]


@pytest.mark.parametrize(
    "expired", [refused(410, "Expired"), events(("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"}))], ids=["answer", "event"]
)
def test_bad_flow_after_a_410_everything_is_listed_again(server: FakeApiServer, expired: Callable[[Handler], None]) -> None:
    server.script = [listed(5, versioned(3)), expired, listed(50, versioned(40)), events(("MODIFIED", versioned(51)))]
    assert seen(server, 3) == [(LISTED, ["3"]), (LISTED, ["40"]), (PRESENT, ["51"])]
    assert "resourceVersion=50" in server.asked[3]


def test_bad_flow_a_half_open_stream_is_left_and_nothing_is_missed(server: FakeApiServer) -> None:
    server.script = [listed(5), half_open(("ADDED", versioned(6))), events(("MODIFIED", versioned(7)))]
    assert seen(server, 3) == [(LISTED, []), (PRESENT, ["6"]), (PRESENT, ["7"])]
    assert "resourceVersion=6" in server.asked[2]


def test_bad_flow_a_connection_that_breaks_inside_an_event_goes_on(server: FakeApiServer) -> None:
    server.script = [listed(5), broken, events(("MODIFIED", versioned(7)))]
    assert seen(server, 2) == [(LISTED, []), (PRESENT, ["7"])]
    assert "resourceVersion=5" in server.asked[2]


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_bad_flow_a_busy_server_is_asked_again(server: FakeApiServer, status: int) -> None:
    server.script = [refused(status), listed(5), refused(status), events(("MODIFIED", versioned(6)))]
    assert seen(server, 2) == [(LISTED, []), (PRESENT, ["6"])]


def test_bad_flow_an_error_in_the_stream_is_survived(server: FakeApiServer) -> None:
    server.script = [listed(5), events(("ERROR", {"kind": "Status", "code": 500, "message": "etcd"})), events(("ADDED", versioned(6)))]
    assert seen(server, 2) == [(LISTED, []), (PRESENT, ["6"])]


def test_bad_flow_a_refusal_ends_the_watch_and_names_the_rule(server: FakeApiServer) -> None:
    said = 'jobs.batch is forbidden: User "w" cannot watch resource "jobs" in API group "batch" in the namespace "n"'
    server.script = [listed(5), refused(403, said)]
    with pytest.raises(errors.LoginFailed) as caught:
        seen(server, 2)
    assert 'resources: ["jobs"], verbs: ["watch"]' in caught.value.hint


class Scripted:
    """A source that does what a list says; a fault is raised."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.calls: list[str] = []

    def list(self) -> Page:
        self.calls.append("list")
        return self._next()

    def watch(self, version: str, seconds: int) -> Iterator[tuple[str, Json]]:
        self.calls.append(f"watch {version}")
        yield from self._next()

    def _next(self) -> Any:
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


def test_bad_flow_a_server_that_stays_away_is_given_up_with_its_error() -> None:
    times = iter(range(0, 1000, 50))
    source = Scripted(*(errors.Unavailable("away") for _ in range(20)))
    with pytest.raises(errors.Unavailable, match="away"):
        list(following.follow(source, threading.Event(), outage=120, clock=lambda: next(times)))
    assert len(source.calls) < 20


@given(st.lists(st.sampled_from(["event", "gone", "lost", "end"]), max_size=30))
def test_no_change_is_missed_whatever_breaks_in_between(steps: list[str]) -> None:
    """The source counts its changes; what is seen must end at the last one, and each version is asked for only once it is known."""
    stopped = threading.Event()
    now = 10

    class Counting:
        def list(self) -> Page:
            return Page([versioned(now)], str(now))

        def watch(self, version: str, seconds: int) -> Iterator[tuple[str, Json]]:
            nonlocal now
            while steps:
                step = steps.pop()
                if step == "event":
                    now += 1
                    yield "MODIFIED", versioned(now)
                elif step == "gone":
                    now += 1  # a change that this stream never tells of
                    raise Expired
                elif step == "lost":
                    raise errors.Unavailable("lost")
                else:
                    return
            stopped.set()

    last = 0
    real, following.delay = following.delay, lambda failures: 0.0
    try:
        for change in following.follow(Counting(), stopped):
            last = int(change.objects[-1]["metadata"]["resourceVersion"])
    finally:
        following.delay = real
    assert last == now


def test_patience_ends_with_the_error_itself_and_at_once_for_a_refusal() -> None:
    answers = iter([errors.Unavailable("busy"), errors.Unavailable("busy")])

    def action() -> str:
        for error in answers:
            raise error
        return "done"

    assert following.patiently(action, sleep=lambda seconds: None) == "done"
    with pytest.raises(errors.LoginFailed):
        following.patiently(lambda: (_ for _ in ()).throw(errors.LoginFailed("no")))
    began = time.monotonic()
    with pytest.raises(errors.Unavailable):
        following.patiently(lambda: (_ for _ in ()).throw(errors.Unavailable("away")), seconds=-1.0)
    assert time.monotonic() - began < 30


@given(st.integers(1, 10_000))
def test_delays_grow_to_a_limit_and_differ(failures: int) -> None:
    assert 0 < following.delay(failures) <= following.LONGEST_DELAY
