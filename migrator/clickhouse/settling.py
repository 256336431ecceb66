"""Finds out whether a statement was executed whose run was broken off, or that the server refused on its way. Without evidence the outcome stays unknown.

The evidence, in this order: the statement still runs (`system.processes`), or its mutation does (`system.mutations`): wait. Then the query log by query
id, where it is kept: that the statement finished; of an INSERT also that it failed before it started, or never began. Then what was there before the run
(`snapshots`), what the statement would make of it (`rehearsing`), and what is there now, by one rule (`verdicts`). What remains open is a question for a
person.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from migrator.clickhouse import failures, rehearsing, snapshots, verdicts, worlds
from migrator.clickhouse.catalog import exists
from migrator.clickhouse.reading import canonical, readings, shapes, subjects
from migrator.clickhouse.reading.shapes import Sort
from migrator.clickhouse.session import Session, literal
from migrator.clickhouse.snapshots import Mutation, Snapshot, TableName
from migrator.clickhouse.verdicts import Judgement
from migrator.clickhouse.worlds import Read
from migrator.planning.journal import Outcome
from migrator.planning.objects import ObjectName

_POLL_SECONDS = 1.0
_CLOCK_SECONDS = 1
"""`create_time` and `event_time` count whole seconds."""

_TRACELESS = frozenset({Sort.INSERT, Sort.REPEATABLE})
"""Of these the query log's `ExceptionBeforeStart` is evidence: all that they do happens after their start is logged (clickhouse.md §4)."""


@dataclass(frozen=True)
class Case:
    """A statement whose outcome is to be found out.

    Args:
        text: as it was sent.
        query_id: under which it was sent.
        since: when its run began, by the server's clock.
        before: what the catalogue said when the run began; None where that isn't recorded.
        done: the texts of the run's statements before it, in order; each of them was executed.
        exact: whether `text` is known to the letter; ENVSUB may have put other values into it.
        started: when the journal said that it was begun, where it says so.
    """

    text: str
    query_id: str
    since: datetime
    before: Snapshot | None = None
    done: tuple[str, ...] = ()
    exact: bool = True
    started: datetime | None = None


def wait_until_ended(session: Session, prefix: str, tables: Iterable[ObjectName], since: datetime, deadline: float) -> bool:
    """Waits for what an earlier run left running: its statements, and mutations since then on the tables it worked on.

    Args:
        prefix: how the run's query ids begin.
        since: when the run began, by the server's clock.
        deadline: on the monotonic clock.

    Returns:
        Whether everything has ended; a mutation that fails over and over counts as ended, because it never will.
    """
    names = sorted({(table.schema or session.database, table.name) for table in tables})
    while session.running(prefix) or _mutations(session, names, since):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _mutations(session: Session, names: Sequence[tuple[str, str]], since: datetime) -> bool:
    if not names:
        return False
    tables = ", ".join(f"({literal(database)}, {literal(name)})" for database, name in names)
    (count,) = session.row(
        f"SELECT count() FROM {session.everywhere('system.mutations')} WHERE (database, table) IN ({tables}) AND NOT is_done"
        f" AND latest_fail_reason = '' AND create_time >= {_seconds(since)}"
    )
    return bool(int(count))


def _seconds(moment: datetime) -> str:
    return f"toDateTime({int(moment.timestamp()) - _CLOCK_SECONDS})"


def settle(session: Session, case: Case, *, refused: bool = False) -> Judgement:
    """Finds out whether a statement was executed. Call it when nothing of its run is running any more.

    Args:
        refused: whether the server has answered that it did not do it, or not to its end.

    Raises:
        failures.Refusal, failures.Lost.
    """
    line = canonical.line(session, case.text)
    if line is None:
        return _unreadable(session, case, refused=refused)
    shape = shapes.read(line, session.database)
    known = verdicts.without_catalogue(shape)
    if known is not None and not known.repeat:
        return known
    logged = None if refused and shape.sort is not Sort.INSERT else _from_query_log(session, case, shape.sort)
    if logged is not None and not (refused and logged.outcome is Outcome.DONE):
        return logged
    return verdicts.last_resort(shape, line, known or _from_catalogue(session, case, line))


def _unreadable(session: Session, case: Case, *, refused: bool) -> Judgement:
    if refused:
        return Judgement(Outcome.NOT_DONE, "the server can't read it, so it was not executed")
    logged = _from_query_log(session, case, Sort.INSERT if readings.head(case.text) == "INSERT" else Sort.OTHER)
    return logged or Judgement(Outcome.UNKNOWN, "the server can't read its text")


# --- the query log ----------------------------------------------------------------------------------------------------------------


def _from_query_log(session: Session, case: Case, sort: Sort) -> Judgement | None:
    """Returns what the query log says, where the server keeps one and this user may read it."""
    flushed = False
    with contextlib.suppress(failures.Refusal):  # not allowed, or no log; entries of a while ago were flushed by the server itself
        session.command("SYSTEM FLUSH LOGS")
        flushed = True
    log = session.everywhere("system.query_log")
    try:
        rows = session.rows(
            f"SELECT type FROM {log} WHERE query_id = {literal(case.query_id)} AND event_time >= {_seconds(case.since)}"
            " ORDER BY event_time_microseconds DESC, type DESC LIMIT 1"
        )
        if not rows:
            return _never_began(session, case, log) if flushed else None
    except failures.Refusal:
        return None
    if rows[0][0] == "QueryFinish":
        return Judgement(Outcome.DONE, "the query log says that it finished")
    if rows[0][0] == "ExceptionBeforeStart" and sort in _TRACELESS:
        return Judgement(Outcome.NOT_DONE, "the query log says that it failed before it started")
    return None  # it began: the catalogue tells what it left


def _never_began(session: Session, case: Case, log: str) -> Judgement | None:
    """Returns the verdict on a statement that isn't logged though what the same session did just before is: the row that says it was begun.

    The server writes the log in order, and loses what isn't written when it dies: so it must have been up since then.
    """
    if case.started is None or "log_queries" in case.text:
        return None
    journal_id = case.query_id[: case.query_id.index("-", len("greylag-")) + 1] + "journal"
    moment = f"fromUnixTimestamp64Micro({round(case.started.timestamp() * 1e6)})"
    (noted, up) = session.row(
        f"SELECT count(), any(uptime()) > dateDiff('second', {moment}, now()) + {_CLOCK_SECONDS} FROM {log} WHERE query_id = {literal(journal_id)}"
        f" AND type = 'QueryFinish' AND event_time >= {_seconds(case.since)} AND event_time_microseconds >= {moment} - INTERVAL 1 MILLISECOND"
    )
    if int(noted) and int(up):
        return Judgement(Outcome.NOT_DONE, "the query log has the run's work up to it, and not it")
    return None


# --- the catalogue ----------------------------------------------------------------------------------------------------------------


def _from_catalogue(session: Session, case: Case, line: str) -> Judgement:
    if case.before is None:
        return Judgement(Outcome.UNKNOWN, verdicts.NOTHING_RECORDED)
    chain = _chain(session, case, line)
    if chain is None:
        return Judgement(Outcome.UNKNOWN, "what the run did before it can't be read")
    read = chain[-1]
    about = subjects.of_shape(read.shape)
    if not about:
        return Judgement(Outcome.UNKNOWN, "the catalogue keeps no trace of such a statement")
    now = snapshots.read(session, about).snapshot
    world = worlds.of_snapshot(case.before)
    with rehearsing.Stage(session) as stage:
        for earlier in chain[:-1]:
            if earlier.shape.sort is Sort.SESSION:
                _set(stage, earlier.line)
            else:
                world = worlds.after_done(world, earlier, stage.rehearse)
        found = verdicts.decide(world, worlds.after(world, read, stage.rehearse), now, read, exact=case.exact)
    return _everywhere(session, read, found)


def _everywhere(session: Session, read: Read, found: Judgement) -> Judgement:
    """Returns the verdict, or none where a cluster's replicas differ in what ON CLUSTER made or dropped."""
    subject = read.shape.subject
    of_cluster = bool(read.shape.cluster and session.cluster) and read.shape.sort in (Sort.CREATE, Sort.DROP)
    if of_cluster and subject is not None and found.outcome is not Outcome.UNKNOWN and exists(session, subject) is None:
        return Judgement(Outcome.UNKNOWN, f"{subject} exists on some replicas only")
    return found


def _set(stage: rehearsing.Stage, line: str) -> None:
    if line.split(" ", 1)[0].upper() in ("SET", "USE"):
        with contextlib.suppress(failures.Refusal):
            stage.execute(line)


def _chain(session: Session, case: Case, line: str) -> list[Read] | None:
    """Reads the statements of the run that bear on this one, and this one as the last. None where one can't be read."""
    texts = [text for text in case.done if readings.head(text) in subjects.LOOKED_AT | {"SET"}]
    lines = canonical.canonical(session, texts) if texts else []
    if None in lines:
        return None
    database, chain = session.database, list[Read]()
    for item in (*lines, line):
        database = subjects.used(item or "", database)
        chain.append(Read(item or "", shapes.read(item or "", database), database))
    wanted = subjects.of_shape(chain[-1].shape)
    kept = [chain[-1]]
    for read in reversed(chain[:-1]):
        about = subjects.of_shape(read.shape)
        if read.shape.sort is Sort.SESSION or about.touches(wanted):
            wanted = wanted | about
            kept.append(read)
    return kept[::-1]


# --- mutations --------------------------------------------------------------------------------------------------------------------


def kill(session: Session, table: TableName, mutation: Mutation) -> None:
    """Kills a mutation that fails: the server would try it for ever, and every later mutation of the table would wait behind it.

    Raises:
        failures.Refusal, failures.Lost.
    """
    where = f"database = {literal(table[0])} AND table = {literal(table[1])} AND mutation_id = {literal(mutation.mutation_id)}"
    session.command(f"KILL MUTATION WHERE {where} SYNC")
