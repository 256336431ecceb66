"""The one way to follow an object, a Job or a workload: it is read again and again until it has ended (kubernetes.md §1.5).

Why it is read and not watched (measured on the sandbox's real control plane, 1.37, with 20 Jobs followed at once; per follower and minute):

                                       watch (two streams of 10 s)         reading every 2 s
    requests                           12                                  60
    CPU of the API server and of etcd  2 ms                                170 ms: 0.3 % of one core
    a change is noticed after          0.001 s                             1 s, 2 s at most
    410, an expired resource version   lists anew; what lay between is     does not exist: every look reads the whole state
                                       lost
    an expired token                   the stream goes on with it, the     the next look is refused, or has the new token
                                       next one is refused
    a connection that is silently dead noticed after 20 s, by a time-out   noticed by the time-out of one request
    several kinds of object            one cache each, of different age:   read in the order that the verdict needs: a Job before its pods, a
                                       an old pod may seem to be gone      workload before and after its pods
    permissions                        list and watch of each kind         get or list
    code                               240 lines, two threads, a queue     this file

So a watch saves requests and one second, while a Job's own pauses are 10 s and more; and no decision can rest on a watch alone: a read would have to
follow it. Something that comes and goes between two reads is missed, such as a pod that was evicted and deleted. Nothing is concluded from not
having seen one (`job.running` asks the database).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from migrator import errors

Seen = TypeVar("Seen")
Sleep = Callable[[float], None]
Clock = Callable[[], float]

LONGEST_PAUSE = 10.0
"""Seconds between two reads while the API server does not answer: its own restart takes half a minute, and a step should not wait much longer than that."""

SPREAD = 0.2
"""Share of a pause that is random, so that those who follow many objects don't ask at the same moments."""

SETTLING = 15.0
"""Seconds in which a refusal is not trusted, counted from the last time that the server was away or that the same call was allowed. An API server that
has just started answers before its authorizer has read the Roles, and refuses what it will allow in a moment (seen with 1.37). Its absence may
have gone unnoticed, because the client repeats a refused connection by itself."""

FIRST_PAUSE = 0.25
"""Seconds before a single call is repeated; doubled each time."""

CALL_PATIENCE = 30.0
"""Seconds for which a single call is repeated while the API server is busy or away."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A read that got no answer, or an answer that is not to be trusted yet.

    Attributes:
        fault: the error. silent: seconds since the first of the reads in a row that got no answer.
    """

    fault: errors.GreylagError
    silent: float


def follow(
    look: Callable[[], Seen],
    *,
    every: float,
    limit: float = math.inf,
    sleep: Sleep = time.sleep,
    clock: Clock = time.monotonic,
) -> Iterator[Seen | Unanswered]:
    """Yields what each read returns, from now on; ends after the read at the limit.

    Args:
        look: reads the whole state; must be safe to repeat.
        every: seconds between two reads; doubled with each in a row that got no answer, up to `LONGEST_PAUSE`.
        limit: seconds until the last read. sleep, clock: time, for tests and for callers that have to wake up earlier.

    Raises what `look` raises, except Unavailable, and except a refusal (LoginFailed) that may come from an API server that has just started.
    """
    started = clock()
    unsettled: float | None = None  # the last time at which the server did not answer, or allowed the call
    silent_since: float | None = None
    faults = 0
    while True:
        found: Seen | Unanswered
        try:
            found = look()
            unsettled, silent_since, faults = clock(), None, 0
        except (errors.Unavailable, errors.LoginFailed) as error:
            now = clock()
            if isinstance(error, errors.Unavailable):
                unsettled = now
            elif unsettled is None or now - unsettled > SETTLING:
                raise
            silent_since = now if silent_since is None else silent_since
            faults += 1
            found = Unanswered(error, now - silent_since)
        yield found
        left = limit - (clock() - started)
        if left <= 0:
            return
        sleep(min(pause(every, faults), left))


def patiently(
    call: Callable[[], Seen],
    seconds: float = CALL_PATIENCE,
    *,
    every: float = FIRST_PAUSE,
    sleep: Sleep = time.sleep,
    clock: Clock = time.monotonic,
) -> Seen:
    """Returns what a call returns, and repeats it for these seconds while the API server is busy or away; the call must be safe to repeat.

    Raises what the call raises: a refusal at once, Unavailable when the time is over.
    """
    for found in follow(call, every=every, limit=seconds, sleep=sleep, clock=clock):
        if not isinstance(found, Unanswered):
            return found
        fault = found.fault
    raise fault


def pause(every: float, faults: int = 0) -> float:
    """Returns the seconds until the next read, with a random share, after `faults` reads in a row that got no answer."""
    seconds = min(every * 2.0 ** min(faults, 16), max(LONGEST_PAUSE, every))
    return seconds * random.uniform(1 - SPREAD, 1 + SPREAD)
