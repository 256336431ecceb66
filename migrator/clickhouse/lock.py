"""Mutual exclusion of runs on a server that has no locks (goose.md §8.3): one compare-and-swap, a lease, a fence.

**The swap.** The table `greylag_lock` has one column beside `lock`, and the *name* of that column is the lock's state:

    free
    held run=3f9c1a2b7d4e token=a1b2c3d4e5f6 until=1767225615000 since=1767225600000 by=auth-service ci@runner

The only transition is `ALTER TABLE greylag_lock DROP COLUMN old, ADD COLUMN new`. The server holds the table's alter lock from checking the columns
until the change is made, so of any number of swaps from one state exactly one succeeds; the others get code 10, "cannot find column … to drop". Every
change names the state that it replaces, so neither a slow release nor a late heartbeat can change a state that it did not read. The table's engine is
Null: it holds no data, and dropping it only frees the lock.

**The lease.** A held state ends at a time of the *server's* clock, `until`. The holder's heartbeat swaps in a later one every few seconds. A waiting run
may take over only when (a) the server's clock is past `until` plus the grace below, (b) no statement of the holder is in `system.processes`, and (c) it
has itself seen the state unchanged for two heartbeats, because a living holder's state changes even when the server's clock is set forward. If two runs
take over at once, both swap from the same old state: one wins, the other reads the new state and keeps waiting. A holder that was wrongly
considered dead finds its state gone, raises `lock-lost` and sends nothing more. With the default lease of 15 s, for a holder killed right after a heartbeat:

      0 s   the last heartbeat; the killed run's state stays
     15 s   the lease ends
     37 s   the grace has passed as well (2 × 10 s for the fence, 2 s more): a waiting run takes over, once none of the holder's statements runs

**The fence.** Could a holder that stood still (a paused machine) send one statement after another run took over? It checks its lease before each
statement, but may be paused between the check and the sending. Therefore everything that it does under the lock goes through one HTTP session, which
the server drops after τ = `Times.fence` seconds without use; and with `session_check=1` the server refuses a request for a dropped session (code
372). Let E be the end of the last lease. Both threads of a holder check the lease before they use the session. So the heartbeat's last use was decided
at or before E and arrives before E + τ (later, the session is gone), and a statement decided at or before E arrives before E + 2τ. A takeover
happens after E + 2τ and a margin for how punctually the server drops sessions. A statement that arrived in time and still runs is in
`system.processes`, and (b) waits for it. So no statement of the old holder begins after a takeover, whatever was paused. (A `replicated`
database is behind a balancer, where sessions don't hold; there only the lease and (b) remain.)

**What it does not do.** goose takes no lock, so nothing can exclude its command line. The lock's table is local to the server: the servers of a cluster
keep the state in Keeper instead (`keeper.KeeperRow`). `system.processes` shows a user without the right to see others' queries only that user's
own: all runs on one database should connect as one user.
"""

from __future__ import annotations

import contextlib
import random
import re
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from migrator import errors
from migrator.clickhouse import failures
from migrator.clickhouse.session import Session, literal, quote
from migrator.planning import events

TABLE = "greylag_lock"

LEASE = 15.0
"""Seconds; `greylag_lease` in the address chooses another. Most of what a run has to wait after a crash follows from it."""

_PUNCTUALITY = 2.0
"""Seconds; the server drops expired sessions about once a second."""


@dataclass(frozen=True, slots=True)
class Times:
    """The lease and what follows from it, in seconds."""

    lease: float = LEASE

    @property
    def heartbeat(self) -> float:
        """Returns the time between two renewals: three may fail before the lease ends."""
        return self.lease / 4

    @property
    def fence(self) -> int:
        """Returns the time after which the server drops an idle HTTP session: more than two heartbeats, which keep it in use."""
        return max(1, round(self.lease * 2 / 3))

    @property
    def grace(self) -> float:
        """Returns the time from the end of a lease until another run may take over."""
        return 2 * self.fence + _PUNCTUALITY


_MARGIN = 1 / 15
"""Part of the lease before its end at which a holder stops: the two clocks may run at slightly different rates."""

_POLL = (0.2, 1.0)
"""Seconds between two looks of a waiting run, at random between these, so that waiting runs don't look in step."""

_SAY_EVERY = 5.0
FREE = "free"
_NEVER = 1 << 62

_HELD = re.compile(r"held run=(?P<run>\w+) token=(?P<token>\w+) until=(?P<until>\d+) since=(?P<since>\d+) by=(?P<by>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Holder:
    """A state in which somebody holds the lock; times in milliseconds of the server's clock."""

    run: str
    token: str
    until: int
    since: int
    by: str

    def __str__(self) -> str:
        return f"held run={self.run} token={self.token} until={self.until} since={self.since} by={self.by}"

    def describe(self) -> str:
        """Names the holder for a person."""
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.since / 1000))
        return f"{self.by} (run {self.run}) since {since}"


def is_free(state: str) -> bool:
    """Tells whether nobody holds the lock in this state."""
    return state == FREE or state.startswith(f"{FREE} ")


def parse(state: str) -> Holder | None:
    """Returns the holder in a state; None for a free lock. What can't be read (a later version's state) is a holder whose lease never ends."""
    if is_free(state):
        return None
    found = _HELD.fullmatch(state)
    if found is None:
        return Holder("unknown", "", _NEVER, 0, f"somebody unknown ({state[:100]!r})")
    return Holder(found["run"], found["token"], int(found["until"]), int(found["since"]), found["by"])


class Cell(Protocol):
    """A place that holds a state and can swap it."""

    def prepare(self) -> None:
        """Makes the place if it isn't there."""
        ...

    def read(self) -> tuple[str | None, int]:
        """Returns the state (None when the place is gone) and the server's clock in milliseconds."""
        ...

    def swap(self, old: str, new: str) -> bool:
        """Replaces `old` by `new` if it is the state; whether it was."""
        ...


@dataclass
class ColumnName:
    """The state as the name of a column: for one server, and for Replicated databases (whose DDL log serialises the ALTERs)."""

    session: Session

    @property
    def _table(self) -> str:
        return f"{quote(self.session.database)}.{TABLE}"

    def prepare(self) -> None:
        """Makes the table if it isn't there."""
        comment = "greylag's migration lock; the name of the second column says who holds it"
        self.session.command(
            f"CREATE TABLE IF NOT EXISTS {self._table} (lock UInt8, {FREE} UInt8) ENGINE = Null COMMENT {literal(comment)}"
        )

    def read(self) -> tuple[str | None, int]:
        """Returns the state (None when the table is gone) and the server's clock in milliseconds."""
        now, names = self.session.row(
            "SELECT toUnixTimestamp64Milli(now64(3)), (SELECT groupArray(name) FROM system.columns"
            f" WHERE database = {literal(self.session.database)} AND table = '{TABLE}' AND name != 'lock')"
        )
        return (str(names[0]) if names else None), int(now)

    def swap(self, old: str, new: str) -> bool:
        """Replaces `old` by `new` if it is the state; whether it was."""
        try:
            self.session.command(f"ALTER TABLE {self._table} DROP COLUMN {quote(old)}, ADD COLUMN {quote(new)} UInt8")
        except failures.Refusal as refusal:
            if refusal.code in (failures.NO_SUCH_COLUMN, failures.UNKNOWN_TABLE):
                return False
            return self._settled(new, refusal)
        except failures.Lost as lost:
            return self._settled(new, lost)
        return True

    def _settled(self, new: str, error: failures.Refusal | failures.Lost) -> bool:
        """Tells from the state itself, after an unclear answer, that the swap was made: no two swaps write the same state. Else raises the error."""
        state, _ = self.read()
        if state == new and new != FREE:
            return True
        raise error


@dataclass
class MigrationLock:
    """The lock of one run. `holding` is its context manager; `require` is asked before every statement."""

    session: Session
    cell: Cell
    run: str
    by: str
    fenced: bool = True
    times: Times = Times()
    broke: Holder | None = None  # whose expired lease this run took over

    def __post_init__(self) -> None:
        self._state: Holder | None = None
        self._deadline = 0.0
        self._stop = threading.Event()
        self._clock = 0.0  # seconds by which the server's clock is ahead of this machine's
        self._mutex = threading.Lock()  # one user of the HTTP session at a time: the server refuses a second one (code 373)

    @contextlib.contextmanager
    def holding(self, wait: float, listener: events.Listener) -> Iterator[None]:
        """Waits for the lock, keeps it alive, gives it back.

        Args:
            wait: seconds to wait at most.

        Raises:
            LockUnavailable: somebody held it all that time.
        """
        waited = self._acquire(wait, listener)
        listener(events.LockAcquired(waited))
        self._stop.clear()
        heart = threading.Thread(target=self._beat, name="greylag-heartbeat", daemon=True)
        try:
            heart.start()
            if self.fenced:
                self.session.begin(f"{self.session.prefix}{self._token}", self.times.fence)
            yield
        finally:
            self._stop.set()
            heart.join(self.times.heartbeat)
            self.session.end()
            self._release()

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """Encloses every statement of the run: checks the lease, then keeps the HTTP session for this thread."""
        with self._mutex:
            self.require()
            yield

    def require(self) -> None:
        """Raises LockUnavailable (`lock-lost`) when the lease has ended, or may have, without being renewed."""
        if self._state is None or time.monotonic() > self._deadline:
            raise errors.LockUnavailable(
                "this run lost its migration lock: its lease could not be renewed in time",
                code="lock-lost",
                hint="the machine or the network stood still; run the same command again: it looks up what was done",
            )

    def server_time(self, moment: datetime) -> datetime:
        """Returns a moment of this machine's clock on the server's, as it was when the lock was taken."""
        return moment + timedelta(seconds=self._clock)

    # --- taking it ----------------------------------------------------------------------------------------------------------------

    def _acquire(self, wait: float, listener: events.Listener) -> float:
        started = said = time.monotonic()
        self._token = secrets.token_hex(6)
        first = True
        watched: tuple[str | None, float] = (None, started)
        while True:
            before = time.monotonic()
            state, now = self.cell.read()
            if state is None:
                self.cell.prepare()
                state = FREE  # or whatever another run made of it meanwhile: then the swap fails
            holder = parse(state)
            if state != watched[0]:
                watched = (state, before)
            silent = before - watched[1] >= 2 * self.times.heartbeat
            if (holder is None or (silent and self._abandoned(holder, now))) and self._take(state, now, before):
                self.broke = holder
                return time.monotonic() - started
            waited = time.monotonic() - started
            if holder is not None and (first or time.monotonic() - said >= _SAY_EVERY):
                listener(events.LockWaiting(holder.describe(), waited))
                first, said = False, time.monotonic()
            if waited >= wait:
                raise self._unavailable(holder, waited)
            time.sleep(min(random.uniform(*_POLL), max(0.0, wait - waited)))

    def _take(self, state: str, now: int, before: float) -> bool:
        mine = Holder(self.run, self._token, now + round(self.times.lease * 1000), now, self.by)
        if not self.cell.swap(state, str(mine)):
            return False
        self._state, self._deadline = mine, before + self.times.lease * (1 - _MARGIN)
        self._clock = now / 1000 - time.time()
        return True

    def _abandoned(self, holder: Holder, now: int) -> bool:
        if now <= holder.until + self.times.grace * 1000:
            return False
        return not self.session.running(prefix_of(holder.run))

    def _unavailable(self, holder: Holder | None, waited: float) -> errors.LockUnavailable:
        who = holder.describe() if holder else "another run"
        return errors.LockUnavailable(
            f"the migration lock is held by {who}; gave up after {waited:.0f} s",
            hint=f"wait for that run; if its process is gone, the lock frees itself {self.times.lease + self.times.grace:.0f} s after its last sign of life,"
            " once none of its statements runs any more",
        )

    # --- keeping it ---------------------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        while not self._stop.wait(self.times.heartbeat):
            with contextlib.suppress(failures.Refusal, failures.Lost):  # the next beat tries again; the deadline stops the run
                if not self._renew():
                    return
                self._touch()

    def _renew(self) -> bool:
        before = time.monotonic()
        mine = self._state
        state, now = self.cell.read()
        if mine is None or state != str(mine):
            self._state = None
            return False
        later = Holder(mine.run, mine.token, now + round(self.times.lease * 1000), mine.since, mine.by)
        if not self.cell.swap(str(mine), str(later)):
            self._state = None
            return False
        self._state, self._deadline = later, before + self.times.lease * (1 - _MARGIN)
        return True

    def _touch(self) -> None:
        """Keeps the HTTP session in use while the run is busy elsewhere; a running statement keeps it by itself."""
        if self.session.fence and self._mutex.acquire(blocking=False):
            try:
                if time.monotonic() <= self._deadline:
                    self.session.touch()
            finally:
                self._mutex.release()

    def _release(self) -> None:
        mine, self._state = self._state, None
        if mine is not None:
            with contextlib.suppress(failures.Refusal, failures.Lost):  # then the lease ends by itself
                self.cell.swap(str(mine), FREE)


def short(run_id: str) -> str:
    """Returns a run's id as query ids and the lock show it: its first twelve letters and digits."""
    return re.sub(r"[^A-Za-z0-9]", "", run_id)[:12] or "run"


def prefix_of(run_id: str) -> str:
    """Returns the prefix of a run's query ids."""
    return f"greylag-{short(run_id)}-"


def label(service: str, applied_by: str) -> str:
    """Names the lock's holder in characters that may stand in a column's name."""
    return re.sub(r"[^\w@.,:/+ -]", "_", f"{service} {applied_by}")[:200]
