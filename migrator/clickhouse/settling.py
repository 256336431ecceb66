"""Finds out whether a statement was executed whose run was broken off. Without evidence the outcome stays unknown; nothing is guessed.

The evidence, in this order: the statement still runs (`system.processes`), or its mutation does (`system.mutations`): wait. Then the query log by
query id, where it is kept: the only witness for INSERT. Then the catalogue: the object is there, or gone, as the statement would leave it. What
remains open is a question for a person.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from datetime import datetime

from migrator.clickhouse import failures
from migrator.clickhouse.catalog import exists
from migrator.clickhouse.reading import shapes
from migrator.clickhouse.session import Session, literal
from migrator.planning.journal import Outcome, Verdict
from migrator.planning.objects import Action, Effect, Kind, ObjectName

_POLL_SECONDS = 1.0
_CLOCK_SECONDS = 1
"""`metadata_modification_time` and `create_time` count whole seconds."""


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


def settle(session: Session, line: str | None, query_id: str, since: datetime) -> Verdict:
    """Finds out whether a statement was executed. Call it when nothing of its run is running any more.

    Args:
        line: the statement's canonical form; None where the server can't read it.
        query_id: under which it was sent, if it was.
        since: when its run began, by the server's clock.
    """
    shape = shapes.read(line, session.database) if line else shapes.Shape(shapes.Sort.OTHER)
    if line and shape.sort in (shapes.Sort.REPEATABLE, shapes.Sort.SESSION):
        return Verdict(Outcome.NOT_DONE, "it leaves the same state however often it runs")
    logged = _from_query_log(session, query_id, since)
    if logged is not None:
        return logged
    verdict = _from_catalogue(session, shape, since)
    if verdict.outcome is Outcome.UNKNOWN and shape.conditional and not shape.fills:
        return Verdict(Outcome.NOT_DONE, "it says IF EXISTS or IF NOT EXISTS: running it again changes nothing")
    return verdict


def _from_catalogue(session: Session, shape: shapes.Shape, since: datetime) -> Verdict:
    if shape.sort is shapes.Sort.CREATE:
        return _settle_create(session, shape, since)
    if shape.sort is shapes.Sort.DROP:
        return _settle_drop(session, shape)
    if shape.sort is shapes.Sort.RENAME:
        return _settle_rename(session, shape)
    if shape.sort is shapes.Sort.ALTER:
        return _settle_alter(session, shape, since)
    return Verdict(Outcome.UNKNOWN, "the catalogue keeps no trace of such a statement")


def _from_query_log(session: Session, query_id: str, since: datetime) -> Verdict | None:
    """Returns what the query log says, where the server keeps one and this user may read it. That nothing is logged proves nothing."""
    with contextlib.suppress(failures.Refusal):  # not allowed, or no log; entries of a while ago were flushed by the server itself
        session.command("SYSTEM FLUSH LOGS")
    try:
        rows = session.rows(
            f"SELECT type, written_rows FROM {session.everywhere('system.query_log')} WHERE query_id = {literal(query_id)}"
            f" AND event_time >= {_seconds(since)} AND type != 'QueryStart' ORDER BY event_time_microseconds DESC LIMIT 1"
        )
    except failures.Refusal:
        return None
    if not rows:
        return None
    if rows[0][0] == "QueryFinish":
        return Verdict(Outcome.DONE, "the query log says that it finished")
    if rows[0][0] == "ExceptionBeforeStart":
        return Verdict(Outcome.NOT_DONE, "the query log says that it failed before it started")
    return None  # it failed after it had started: the catalogue tells what it left


def _settle_create(session: Session, shape: shapes.Shape, since: datetime) -> Verdict:
    subject = shape.subject
    if subject is None:
        return Verdict(Outcome.UNKNOWN, "its name can't be read")
    there = exists(session, subject)
    if there is None:
        return Verdict(Outcome.UNKNOWN, f"{subject} exists on some replicas only")
    if not there or subject.kind in (Kind.DATABASE, Kind.FUNCTION):
        return Verdict(Outcome.DONE if there else Outcome.NOT_DONE, f"{subject} {'exists' if there else 'does not exist'}")
    rows = session.rows(
        "SELECT engine, toUnixTimestamp(metadata_modification_time) FROM system.tables"
        f" WHERE database = {literal(subject.schema)} AND name = {literal(subject.name)}"
    )
    if not rows:
        return Verdict(Outcome.NOT_DONE, f"{subject} does not exist")
    engine, modified = str(rows[0][0]), int(rows[0][1])
    if shape.fills:
        return Verdict(Outcome.UNKNOWN, f"{subject} exists, but whether all of its data was written can't be seen")
    if modified < int(since.timestamp()) - _CLOCK_SECONDS:
        return Verdict(Outcome.NOT_DONE, f"{subject} is older than that run")
    if not _looks_like(session, subject, shape, engine):
        return Verdict(Outcome.UNKNOWN, f"{subject} exists, but with other columns or another engine than the statement says")
    return Verdict(Outcome.DONE, f"{subject} exists since that run, with the statement's columns")


def _looks_like(session: Session, subject: ObjectName, shape: shapes.Shape, engine: str) -> bool:
    if shape.engine and engine.removeprefix("Shared").removeprefix("Replicated") != shape.engine.removeprefix("Shared").removeprefix(
        "Replicated"
    ):
        return subject.kind is not Kind.TABLE
    rows = session.rows(f"SELECT name FROM system.columns WHERE database = {literal(subject.schema)} AND table = {literal(subject.name)}")
    return set(shape.columns) <= {str(row[0]) for row in rows}


def _settle_drop(session: Session, shape: shapes.Shape) -> Verdict:
    subjects = {(effect.subject.schema, effect.subject.name): effect.subject for effect in reversed(shape.effects)}.values()
    there = {item: exists(session, item) for item in subjects}
    present = [item for item, found in there.items() if found is not False]
    named = ", ".join(str(item) for item in (present or subjects))
    if not present:
        return Verdict(Outcome.DONE, f"{named} is gone")
    if all(there.values()):
        return Verdict(Outcome.NOT_DONE, f"{named} still exists")
    return Verdict(Outcome.UNKNOWN, f"only some of its objects are gone, or only on some replicas: {named} still exists")


def _settle_rename(session: Session, shape: shapes.Shape) -> Verdict:
    moves = [effect for effect in shape.effects if effect.subject.kind in (Kind.TABLE, Kind.DATABASE)]
    olds = [effect.subject for effect in moves]
    news = [effect.renamed for effect in moves if effect.renamed]
    if shape.replaces or set(olds) & set(news):
        return Verdict(Outcome.UNKNOWN, "the names are the same before and after")
    old_there = [exists(session, item) for item in olds]
    new_there = [exists(session, item) for item in news]
    if all(found is False for found in old_there) and all(new_there):
        return Verdict(Outcome.DONE, "the new names exist, the old ones don't")
    if all(old_there) and all(found is False for found in new_there):
        return Verdict(Outcome.NOT_DONE, "the old names exist, the new ones don't")
    return Verdict(Outcome.UNKNOWN, "some old and some new names exist")


def _settle_alter(session: Session, shape: shapes.Shape, since: datetime) -> Verdict:
    verdicts = [_settle_command(session, shape, command, since) for command in shape.commands]
    telling = [verdict for verdict in verdicts if verdict is not None]
    if not telling:
        return Verdict(Outcome.NOT_DONE, "it leaves the same state however often it runs")
    outcomes = {verdict.outcome for verdict in telling}
    if len(outcomes) == 1:
        return Verdict(telling[0].outcome, "; ".join(verdict.evidence for verdict in telling))
    return Verdict(Outcome.UNKNOWN, "; ".join(verdict.evidence for verdict in telling))


def _settle_command(session: Session, shape: shapes.Shape, command: shapes.AlterCommand, since: datetime) -> Verdict | None:
    """Returns the verdict on one command of an ALTER; None when running it again makes no difference."""
    if shapes.repeats(command):
        return None
    if command.effect is not None:
        return _settle_part(session, command.effect)
    if command.mutates and shape.subject is not None:
        return _settle_mutation(session, shape.subject, command, since)
    return Verdict(Outcome.UNKNOWN, f"the catalogue keeps no trace of {command.words}")


def _settle_part(session: Session, effect: Effect) -> Verdict:
    there = exists(session, effect.subject)
    if there is None:
        return Verdict(Outcome.UNKNOWN, f"{effect.subject} exists on some replicas only")
    if effect.action is Action.CREATE:
        return Verdict(Outcome.DONE if there else Outcome.NOT_DONE, f"{effect.subject} {'exists' if there else 'does not exist'}")
    if effect.action is Action.DROP:
        return Verdict(Outcome.NOT_DONE if there else Outcome.DONE, f"{effect.subject} {'still exists' if there else 'is gone'}")
    renamed = effect.renamed is not None and bool(exists(session, effect.renamed))
    if there == renamed:
        return Verdict(Outcome.UNKNOWN, f"{effect.subject} and {effect.renamed} {'both exist' if there else 'are both absent'}")
    return Verdict(Outcome.DONE if renamed else Outcome.NOT_DONE, f"{effect.renamed if renamed else effect.subject} exists")


def _settle_mutation(session: Session, table: ObjectName, command: shapes.AlterCommand, since: datetime) -> Verdict:
    """Settles a mutation from `system.mutations`: the server records it there before anything else happens, and keeps the last hundred."""
    killed = "is_killed" if _knows_killed(session) else "0"
    rows = session.rows(
        f"SELECT command, is_done, {killed}, latest_fail_reason, mutation_id FROM {session.everywhere('system.mutations')}"
        f" WHERE database = {literal(table.schema)} AND table = {literal(table.name)} AND create_time >= {_seconds(since)}"
    )
    ours = [row for row in rows if _same_words(str(row[0]), command.text)]
    if not ours:
        if rows or not exists(session, table):
            return Verdict(Outcome.UNKNOWN, f"{table} has other mutations since that run, and none with these words")
        return Verdict(Outcome.NOT_DONE, f"{table} has had no mutation since that run began")
    if all(int(row[1]) and not int(row[2]) for row in ours):
        return Verdict(Outcome.DONE, "its mutation is finished")
    return Verdict(Outcome.UNKNOWN, f"its mutation fails: {str(ours[-1][3])[:300]}")


def kill_failed_mutations(session: Session, line: str | None, since: datetime) -> list[str]:
    """Kills the mutations of a statement that the server gave up waiting for because they fail (code 341): it would try them for ever, and every later
    mutation of the table would fail with them. Returns their ids."""
    shape = shapes.read(line, session.database) if line else None
    if shape is None or shape.subject is None or not any(command.mutates for command in shape.commands):
        return []
    where = f"database = {literal(shape.subject.schema)} AND table = {literal(shape.subject.name)}"
    rows = session.rows(
        f"SELECT mutation_id, command FROM system.mutations WHERE {where} AND NOT is_done AND latest_fail_reason != ''"
        f" AND create_time >= {_seconds(since)}"
    )
    ids = sorted({str(row[0]) for row in rows if any(_same_words(str(row[1]), command.text) for command in shape.commands)})
    for mutation in ids:
        session.command(f"KILL MUTATION WHERE {where} AND mutation_id = {literal(mutation)} SYNC")
    return ids


def _knows_killed(session: Session) -> bool:
    (count,) = session.row("SELECT count() FROM system.columns WHERE database = 'system' AND table = 'mutations' AND name = 'is_killed'")
    return bool(int(count))


def _same_words(stored: str, written: str) -> bool:
    def squeezed(text: str) -> str:
        return "".join(text.replace("`", "").split()).removeprefix("(").removesuffix(")")

    return squeezed(stored) == squeezed(written)
