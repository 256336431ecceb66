"""The migration lock: goose's own advisory lock, polled on the connection that migrates (goose.md §8; architecture.md §2.3).

**Taking it.** `SELECT pg_try_advisory_lock(4097083626)` answers at once, true or false. The key is that of goose's session locker, so greylag and a
goose Provider exclude each other. While the answer is false, the run reports the holder and asks again after 0.2 s, then more slowly, up to 2 s, until
its patience ends:

    run A   pg_try_advisory_lock → true     migrates …                          pg_advisory_unlock
    run B   pg_try_advisory_lock → false    "held by pid 4711 (…)"              … → true: plans again, finds nothing to do

It polls and never blocks in pg_advisory_lock: a session that blocks there holds a snapshot, and a CREATE INDEX CONCURRENTLY of the holder waits for
that snapshot, which is a deadlock (postgresql.md §4).

**Keeping it.** The lock belongs to the server's session. It needs no renewal, and a killed run loses it as soon as the server notices that the
connection is gone.

**Proving it.** A pooler that hands out server connections per transaction would break this: the lock would stay with a connection that another client
gets next. So after taking the lock, `_prove` checks that the next statement runs in the session that holds it. If the login reported another pid than
the backend has, a pooler is in between; then a second connection must get another backend while ours stays the same, otherwise PlanRefused
(`transaction-pooler`).
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator

from migrator import errors
from migrator.planning import events
from migrator.postgres import failures
from migrator.postgres.session import Session

KEY = 4097083626
"""crc32 of "goose": the key of goose's session locker, so that greylag and a goose Provider exclude each other."""

_FIRST_DELAY = 0.2
_LONGEST_DELAY = 2.0
_SAY_AGAIN_SECONDS = 10.0
"""A waiting run repeats its message this often; a change of the holder is told at once."""

_HOLDER = f"""SELECT a.pid, a.application_name, a.usename, coalesce(a.client_addr::text, 'local'),
  pg_catalog.date_trunc('second', a.backend_start), a.state
FROM pg_catalog.pg_locks AS l LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.classid = 0 AND l.objid = {KEY} AND l.objsubid = 1 AND l.granted
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"""

_PROOF = f"""SELECT pg_catalog.pg_backend_pid(), count(*) FROM pg_catalog.pg_locks
WHERE locktype = 'advisory' AND classid = 0 AND objid = {KEY} AND objsubid = 1 AND granted AND pid = pg_catalog.pg_backend_pid()"""


@contextlib.contextmanager
def held(session: Session, listener: events.Listener, patience: float, probe: Callable[[], int]) -> Iterator[None]:
    """Holds the migration lock.

    Args:
        patience: seconds to wait for another run before LockUnavailable.
        probe: opens a second connection, begins a transaction and tells its backend's pid, 0 when none may begin; called only when the login's pid
            is not the backend's.

    Raises:
        LockUnavailable: another run holds it; the message names the holder. PlanRefused (`transaction-pooler`): the session isn't one's own.
    """
    started = time.monotonic()
    pid = _acquire(session, listener, patience, started)
    try:
        _prove(session, pid, probe)
        listener(events.LockAcquired(time.monotonic() - started))
        yield
    finally:
        _release(session)


def _acquire(session: Session, listener: events.Listener, patience: float, started: float) -> str:
    delay = _FIRST_DELAY
    said, said_at = "", 0.0
    while True:
        try:
            taken, pid = session.query(f"SELECT pg_catalog.pg_try_advisory_lock({KEY}), pg_catalog.pg_backend_pid()")[0]
            if taken == "t":
                return pid or ""
            holder = _holder(session)
        except failures.ServerFailure as failure:
            raise failures.of_server(failure, "to take the migration lock") from None
        now = time.monotonic()
        if holder != said or now - said_at >= _SAY_AGAIN_SECONDS:
            listener(events.LockWaiting(holder, now - started))
            said, said_at = holder, now
        if now - started >= patience:
            raise errors.LockUnavailable(
                f"another run holds the migration lock: {holder}; gave up after {now - started:.0f} s",
                hint="wait for that run to end; a session that is stuck can be ended with SELECT pg_terminate_backend(pid)",
            )
        session.pause(min(delay * random.uniform(0.75, 1.25), max(patience - (now - started), 0.0)))
        delay = min(delay * 1.5, _LONGEST_DELAY)


def _holder(session: Session) -> str:
    rows = session.query(_HOLDER)
    if not rows:
        return "a session that has just ended"
    pid, application, user, client, since, state = rows[0]
    if pid is None:
        return "a session that can't be seen (another database's role)"
    return f"pid {pid} ({application or 'no application_name'}, user {user}, from {client}), connected since {since}, {state or 'state not visible'}"


def _prove(session: Session, pid: str, probe: Callable[[], int]) -> None:
    """Proves that the lock is where the next statement will be executed."""
    try:
        again, locks = session.query(_PROOF)[0]
        own = again == pid and locks == "1"
        if own and str(session.login_pid) != pid:
            # A pooler is in between. It pools transactions if a second connection gets our backend while ours is open, and statements if no
            # transaction may begin.
            other = probe()
            own = bool(other) and str(other) != pid and session.query(_PROOF)[0][0] == pid
    except failures.ServerFailure as failure:
        raise failures.of_server(failure, "to check the migration lock") from None
    if not own:
        raise errors.PlanRefused(
            "the connection is not a session of its own: a pooler hands out its connections per transaction or statement, so no lock holds",
            code="transaction-pooler",
            hint="give the server's direct address (or a port of the pooler with pool_mode=session)",
        )


def _release(session: Session) -> None:
    if session.closed:
        return
    with session.cleaning():
        try:
            session.rollback()
            session.query(f"SELECT pg_catalog.pg_advisory_unlock({KEY})")
        except (failures.ServerFailure, errors.GreylagError):
            session.close()  # the lock goes with the session
