"""Containers' logs: their files, and the options of `kubectl logs`.

Each line is `TIME F text`; P instead of F means that the text continues in the next line.
"""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

_FOLLOW_SECONDS = 0.1
_LAST_WORDS_LINES, _LAST_WORDS_BYTES = 80, 2048  # FallbackToLogsOnError's limits


def place(pod: Path, container: str, number: int) -> Path:
    """Returns the log file of a container's start: 0 for the first."""
    return pod / "logs" / container / f"{number}.log"


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """The wanted part of a log, and its form (PodLogOptions).

    Attributes:
        follow: go on until the container has ended.
        tail: the last lines only.
        timestamps: begin each line with its time.
        since: leaves older lines out (UTC).
    """

    follow: bool = False
    tail: int | None = None
    timestamps: bool = False
    since: datetime.datetime | None = None


def options(query: Mapping[str, str]) -> Options:
    """Reads the options in the query of a log request.

    Raises:
        ValueError: a value can't be read.
    """
    since = None
    if "sinceTime" in query:
        since = datetime.datetime.fromisoformat(query["sinceTime"])
    elif "sinceSeconds" in query:
        since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=int(query["sinceSeconds"]))
    return Options(
        follow=query.get("follow") == "true",
        tail=int(query["tailLines"]) if "tailLines" in query else None,
        timestamps=query.get("timestamps") == "true",
        since=since,
    )


def read(path: Path, wanted: Options, ended: Callable[[], bool]) -> Iterator[bytes]:
    """Yields the log's text in pieces as they come.

    Args:
        path: of the log.
        wanted: which part.
        ended: tells whether the container writes no more.
    """
    fresh = True  # the next piece begins a line
    with path.open("rb") as file:
        past = file.read().split(b"\n")
        rest = past.pop()
        for line in past if wanted.tail is None else _last(past, wanted.tail):
            text, fresh = _shown(line, wanted, fresh)
            yield text
        while wanted.follow:
            over = ended()  # asked before reading, so that everything written before the end is read
            data = rest + file.read()
            lines = data.split(b"\n")
            rest = lines.pop()
            for line in lines:
                text, fresh = _shown(line, wanted, fresh)
                yield text
            if over:
                return
            time.sleep(_FOLLOW_SECONDS)


def last_words(path: Path) -> bytes:
    """Returns the end of a log, short enough for a termination message."""
    try:
        text = b"".join(read(path, Options(tail=_LAST_WORDS_LINES), lambda: True))
    except OSError:
        return b""
    return text[-_LAST_WORDS_BYTES:]


def _last(lines: Sequence[bytes], count: int) -> list[bytes]:
    """Returns the last lines; one that was logged in parts counts once."""
    kept: deque[list[bytes]] = deque(maxlen=count)
    parts: list[bytes] = []
    for line in lines:
        parts.append(line)
        if line.split(b" ", 2)[1] == b"F":
            kept.append(parts)
            parts = []
    if parts:
        kept.append(parts)
    return [part for whole in kept for part in whole]


def _shown(line: bytes, wanted: Options, begins: bool) -> tuple[bytes, bool]:
    stamp, tag, text = line.split(b" ", 2)
    whole = tag == b"F"
    if wanted.since is not None and datetime.datetime.fromisoformat(stamp.decode().replace("000Z", "+00:00")) < wanted.since:
        return b"", whole
    prefix = stamp + b" " if wanted.timestamps and begins else b""
    return prefix + text + (b"\n" if whole else b""), whole
