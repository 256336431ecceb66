"""Logs of a Job's pods: every attempt's, each line once, over lost connections, nothing secret."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from tasks import redaction
from tasks.job.logs import Logs, Seen
from tests.unit.job_objects import Json, ended, pod


def stamp(number: int) -> str:
    return f"2026-01-01T00:00:{number // 10:02}.{number % 10}00000000Z"


class ScriptedLog:
    """A kubelet's log that is cut off where a test says; a real one is read in tests/cluster."""

    def __init__(self, lines: list[tuple[str, str]], cuts: list[int]) -> None:
        self.lines, self.cuts = lines, cuts
        self.reads = 0

    def log_lines(self, namespace: str, pod: str, *, container: str, since_seconds: int | None = None) -> Iterator[tuple[str, str]]:
        self.reads += 1
        if self.cuts:
            yield from self.lines[: self.cuts.pop(0)]
            raise errors.Unavailable("lost")
        yield from self.lines


def read(source: ScriptedLog, *pods: Json, run_id: str = "") -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    logs = Logs(source, "n", lambda level, text: told.append((level, text)), run_id)
    for found in pods:
        logs.attend(found)
    logs.finish(30)
    return told


def test_each_line_comes_once_though_the_connection_is_lost_twice() -> None:
    lines = [(stamp(number), f"line {number}") for number in range(20)]
    source = ScriptedLog(lines, [5, 12])
    assert read(source, ended(0)) == [("info", text) for _, text in lines]
    assert source.reads == 3


def test_a_run_that_follows_again_tells_only_what_is_new() -> None:
    lines = [(stamp(1), "one"), (stamp(2), "two")]
    assert [text for _, text in read(ScriptedLog(lines, []), ended(0), run_id="r")] == ["one", "two"]
    again = read(ScriptedLog([*lines, (stamp(3), "three")], []), ended(0), run_id="r")
    assert [text for _, text in again] == ["three"]
    assert len(read(ScriptedLog(lines, []), ended(0), run_id="another")) == 2


def test_a_second_attempt_is_told_from_the_first() -> None:
    source = ScriptedLog([(stamp(1), "goose: x")], [])
    told = read(source, ended(21, name="a"), ended(0, name="b"))
    assert sorted(text for _, text in told) == ["attempt 2: goose: x", "goose: x"]


def test_a_pod_that_has_not_started_has_no_log_yet() -> None:
    source = ScriptedLog([], [])
    assert read(source, pod(), pod(waiting={"reason": "ErrImagePull"})) == []
    assert source.reads == 0


def test_a_pod_is_followed_while_it_runs_and_read_once_more_after_its_end() -> None:
    begun = threading.Event()

    class Live(ScriptedLog):
        def log_lines(self, namespace: str, pod: str, *, container: str, since_seconds: int | None = None) -> Iterator[tuple[str, str]]:
            self.reads += 1
            begun.set()
            yield from self.lines[: self.reads]  # the first reading ends early, as when an API server is restarted

    source = Live([(stamp(1), "one"), (stamp(2), "two")], [])
    told: list[str] = []
    logs = Logs(source, "n", lambda level, text: told.append(text))
    logs.attend(pod(phase="Running", running={"startedAt": "x"}))
    assert begun.wait(30)
    logs.attend(ended(0))
    logs.finish(30)
    assert told == ["one", "two"]


def test_warnings_are_warnings_and_secrets_are_masked() -> None:
    redaction.register("hunter2@/")
    source = ScriptedLog([(stamp(1), "greylag: warning: slow [x]"), (stamp(2), "goose run: postgres://u:hunter2@/@h/d")], [])
    told = read(source, ended(0))
    assert told[0] == ("warning", "greylag: warning: slow [x]")
    assert "hunter2" not in told[1][1]


def test_bad_flow_a_log_that_may_not_be_read_is_said_once_and_fails_nothing() -> None:
    class Forbidden(ScriptedLog):
        def log_lines(self, namespace: str, pod: str, *, container: str, since_seconds: int | None = None) -> Iterator[tuple[str, str]]:
            raise errors.LoginFailed("forbidden")

    assert [level for level, _ in read(Forbidden([], []), ended(0))] == ["warning"]


_moments = st.lists(st.integers(0, 30), min_size=1, max_size=40).map(sorted)


@given(_moments, st.lists(st.integers(0, 40), max_size=4))
def test_no_line_is_lost_or_doubled_however_often_it_is_read_again(moments: list[int], cuts: list[int]) -> None:
    """Lines may share a time; each reading may begin anywhere before what is known, as `sinceSeconds` does."""
    lines = [(stamp(moment), str(index)) for index, moment in enumerate(moments)]
    seen, told = Seen(), []
    known = 0
    for cut in [*cuts, len(lines)]:
        seen.rewind()
        start = next((index for index, (moment, _) in enumerate(lines) if known and moment == lines[known - 1][0]), 0)
        for moment, text in lines[start:cut]:
            if seen.new(moment):
                told.append(text)
        known = max(known, cut if cut <= len(lines) else len(lines))
    assert told == [text for _, text in lines]


def test_times_are_compared_as_times_not_as_text() -> None:
    seen = Seen()
    assert seen.new("2026-01-01T00:00:00.12Z")
    assert seen.new("2026-01-01T00:00:00.123Z")
    assert not seen.new("2026-01-01T00:00:00.119Z")
