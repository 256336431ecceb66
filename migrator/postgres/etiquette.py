"""The time-outs that are sent around a migration's statements (promises.md §5): what `locks` decides, as SQL.

`lock_timeout` holds for one wait, but a statement may wait for several tables, and a transaction has several statements; whoever queues behind the
first lock waits for all of them. So what a transaction may wait is shared out: among the tables that a statement names, and to later
statements only what earlier ones have left.
"""

from __future__ import annotations

from migrator.planning import plans
from migrator.postgres import locks
from migrator.postgres.pipelines import milliseconds
from migrator.postgres.reading import readings
from migrator.postgres.reading.lock_classes import LockClass
from migrator.postgres.run import Run

_AUTOVACUUM_WAIT = 3.0
"""Seconds to wait for an autovacuum worker to be sent away: the server does that after deadlock_timeout, 1 s by default."""

_SINCE = "greylag.waiting_since"
"""A parameter of the transaction: when it asked for its first lock that stalls others."""

_CLOCK = "extract(epoch FROM pg_catalog.clock_timestamp())"


def seconds(value: float) -> str:
    """Returns a time-out as the server takes it; see `pipelines.milliseconds`."""
    return str(milliseconds(value))


def settings(run: Run, step: plans.Step) -> dict[int, list[str]]:
    """Returns the settings of a transactional step: SQL by the index (from 1) of the statement before which it is sent.

    The lock time-out begins with the first statement that stalls others and holds from there on; a file that sets lock_timeout itself is left alone.
    What the session has anyway is not sent, as long as no file has touched it.
    """
    touched = note_touches(run, step)
    found: dict[int, list[str]] = {}
    statement_timeout = run.timeouts(step, LockClass.NONE).statement
    if touched or statement_timeout != run.policy.statement_timeout:
        found[1] = [f"SET LOCAL statement_timeout = {seconds(statement_timeout)}"]
    reading = readings.of(step)
    if "lock_timeout" in reading.sets:
        return found
    blocking = [index for index, lock in enumerate(reading.locks, start=1) if lock.blocks]
    if blocking[:1] != [1] and touched:
        found.setdefault(1, []).append(f"SET LOCAL lock_timeout = {seconds(run.policy.session_lock_timeout)}")
    whole = run.timeouts(step, LockClass.EVERYONE).lock
    for index in blocking:
        share = locks.share(whole, reading.statements[index - 1].waits)
        text = f"SET LOCAL lock_timeout = {seconds(share)}" if index == blocking[0] or not whole else _rest(whole, share)
        found.setdefault(index, []).append(text)
    if whole and len(blocking) > 1:
        found[blocking[0]].append(f"SELECT pg_catalog.set_config('{_SINCE}', {_CLOCK}::text, true)")
    return found


def _rest(whole: float, share: float) -> str:
    """Sets what is left of the transaction's waiting time; by the server's clock."""
    # A file's own RESET ALL takes the parameter away; then nothing counts as used up: least() passes over NULL.
    elapsed = f"1000 * ({_CLOCK} - nullif(pg_catalog.current_setting('{_SINCE}', true), '')::double precision)"
    least, most = seconds(locks.least(whole)), seconds(share)
    rest = f"CASE WHEN {elapsed} > {seconds(locks.longest(whole))} THEN {most} ELSE greatest({least}, least({most}, {seconds(whole)} - {elapsed})) END"
    return f"SELECT pg_catalog.set_config('lock_timeout', ({rest})::integer::text, true)"


def note_touches(run: Run, step: plans.Step) -> bool:
    """Notes in the session whether this step may change its time-outs, and returns whether this step or an earlier one may."""
    session = run.session
    session.timeouts_touched = session.timeouts_touched or readings.of(step).touches
    return session.timeouts_touched


def assistance(table: str) -> list[str]:
    """Sends an autovacuum worker away before a strong lock is asked for: SHARE UPDATE EXCLUSIVE conflicts with it, but stalls no reader and no writer."""
    return [f"SET LOCAL lock_timeout = {seconds(_AUTOVACUUM_WAIT)}", f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE"]
