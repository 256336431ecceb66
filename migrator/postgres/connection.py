"""Opening a PostgreSQL database, and the `Database` that stands for it (architecture.md §2.1)."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
from psycopg import conninfo as psycopg_conninfo

from migrator import errors, registry, targets

# What executes, locks and looks into the catalogue is imported where it is used: most runs find nothing to do, and start faster without.
from migrator.address import addresses
from migrator.engines import LockPolicy, Options, import_beside, stay
from migrator.planning import history
from migrator.postgres import failures, history_tables
from migrator.postgres import history as tables
from migrator.postgres.pipelines import message, milliseconds
from migrator.postgres.session import Session

if TYPE_CHECKING:
    from migrator.engines import RestorePoint, SchemaCheck, Writer
    from migrator.planning import events, journal, plans, schema_comparison
    from migrator.planning.approvals import Approval
    from migrator.postgres.pipelines import Rows

_LONGEST_APPLICATION_NAME = 63  # bytes; the server cuts longer ones
_CHECK_CLIENT = "SET client_connection_check_interval = '1s'"
_CHECK_CLIENT_SINCE = 140000
"""client_connection_check_interval exists since PostgreSQL 14: a server whose client was killed ends the statement."""

_IDENTIFY = """SELECT pg_catalog.current_database(), pg_catalog.current_setting('server_version'),
  pg_catalog.current_setting('lock_timeout'), pg_catalog.current_setting('statement_timeout'), pg_catalog.pg_backend_pid(),
  EXISTS (SELECT FROM pg_catalog.pg_language WHERE lanname = 'plpgsql' AND pg_catalog.has_language_privilege(oid, 'USAGE'))"""

_SET_BY_POOLER = """SELECT 'SELECT pg_catalog.set_config(' || pg_catalog.quote_literal(name) || ', ' || pg_catalog.quote_literal(setting) || ', false)'
FROM pg_catalog.pg_settings WHERE source = 'session' AND name NOT LIKE 'transaction%'"""
"""What a pooler has set in the session that it hands on, in the client's name; RESET ALL takes it away. (What libpq asks for at login, it brings back.)"""


def connect(dbstring: str, options: Options) -> PostgresDatabase:
    """Opens a database by goose's DBSTRING (goose.md §7.1).

    Raises UsageError (DBSTRING, table name), LoginFailed, NotFound (`unknown-database`), Unavailable, TimedOut.
    """
    address = addresses.parse_postgres(dbstring)
    session = _open(address, options)
    try:
        database = _prepared(session, address, options)
    except BaseException:
        session.close()
        raise
    registry.register(database)
    return database


def _open(address: addresses.PostgresAddress, options: Options) -> Session:
    if address.service_file:
        os.environ["PGSERVICEFILE"] = address.service_file
    given = psycopg_conninfo.conninfo_to_dict(address.conninfo)
    chosen: dict[str, str | int] = {"application_name": application_name(options)}
    if not given.get("connect_timeout") and not os.environ.get("PGCONNECT_TIMEOUT"):
        chosen["connect_timeout"] = max(round(options.connect_timeout), 2)  # libpq takes whole seconds, and 1 as 2
    secrets = tuple(item for item in (address.password, os.environ.get("PGPASSWORD")) if item)
    try:
        conninfo = psycopg_conninfo.make_conninfo(address.conninfo, **chosen)
        return Session(psycopg.connect(conninfo, autocommit=True, prepare_threshold=None))
    except psycopg.OperationalError as error:
        raise failures.of_connect(str(error), address.hosts, address.database or "", secrets) from None
    except psycopg.Error as error:
        raise errors.UsageError(
            f"the address is not understood: {failures.said_without(str(error), secrets)}", code="bad-address", hint=failures.ENCODE
        ) from None


def application_name(options: Options) -> str:
    """Returns the name under which the run appears on the server: `greylag/<service>/<12 hex of the run id>`."""
    run = options.run_id.replace("-", "")[:12]
    room = _LONGEST_APPLICATION_NAME - len(f"greylag//{run}")
    service = "".join(character if character.isascii() and character.isprintable() else "?" for character in options.service)
    return f"greylag/{service[:room]}/{run}"


def _prepared(session: Session, address: addresses.PostgresAddress, options: Options) -> PostgresDatabase:
    """Asks who the server is, sets what every session is to have, and finds the history tables, in one round trip."""
    own_lock, own_statement = _own_timeouts(address, options.locks)
    opening = [f"SET ROLE {history_tables.quote(options.owner_role)}"] if options.owner_role else []
    if session.server_version >= _CHECK_CLIENT_SINCE:
        opening.append(_CHECK_CLIENT)
    closing = [] if own_lock else ["SET lock_timeout = 0"]
    if not own_statement:
        closing.append(f"SET statement_timeout = {milliseconds(options.locks.statement_timeout)}")
    while True:
        messages = [*map(message, opening), message(_IDENTIFY), message(history_tables.LOCATE, options.table), *map(message, closing)]
        try:
            answers = session.batch(messages)
            break
        except failures.ServerFailure as failure:
            if _CHECK_CLIENT in opening and failure.index == opening.index(_CHECK_CLIENT):
                opening.remove(_CHECK_CLIENT)  # a platform that can't watch sockets refuses it
                continue
            raise _unprepared(failure, options, located=failure.index == len(opening) + 1) from None
    name, version, lock_timeout, statement_timeout, pid, blocks = answers[len(opening)][0]
    policy = options.locks
    if own_lock:
        own = _seconds(lock_timeout or "0")
        policy = replace(policy, statement_lock_timeout=own, session_lock_timeout=own)
    if own_statement:
        policy = replace(policy, statement_timeout=_seconds(statement_timeout or "0"))
    where = history_tables.located(options.table, answers[len(opening) + 1])
    session.runs_blocks = blocks == "t"
    session.settings = (*opening, *closing)
    if pid != str(session.login_pid):
        session.settings += tuple(str(row[0]) for row in session.query(_SET_BY_POOLER))
    return PostgresDatabase(session, address, options, policy, name or "", version or "", where)


def _unprepared(failure: failures.ServerFailure, options: Options, *, located: bool) -> errors.GreylagError:
    if not located and options.owner_role and failure.sqlstate == failures.INVALID_PARAMETER and "role" in failure.message:
        return errors.NotFound(
            f"the role to take after login is not there: {failure.message}",
            code="role-missing",
            hint="correct -role, GREYLAG_ROLE or owner_role in fleet.yaml; or CREATE ROLE it, and GRANT it to the login",
        )
    if not located or failure.sqlstate == failures.INSUFFICIENT_PRIVILEGE:
        return failures.of_server(failure, "to prepare the session")
    return errors.UsageError(
        f"{options.table!r} is no table name: {failure.message}",
        code="bad-table",
        hint='write table, schema.table or "Quoted Name"; goose pastes it into SQL as it is',
    )


def _own_timeouts(address: addresses.PostgresAddress, given: LockPolicy) -> tuple[bool, bool]:
    """Tells whether the DBSTRING sets lock_timeout, and statement_timeout: the user's value (goose.md §7.1) replaces the run's default."""
    text = str(psycopg_conninfo.conninfo_to_dict(address.conninfo).get("options") or os.environ.get("PGOPTIONS", ""))
    usual = LockPolicy()
    return (
        "lock_timeout" in text and given.statement_lock_timeout == usual.statement_lock_timeout,
        "statement_timeout" in text and given.statement_timeout == usual.statement_timeout,
    )


_UNITS = {"us": 1e-6, "ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "": 0.001}


def _seconds(setting: str) -> float:
    """Returns a time-out as SHOW prints it ("1234ms", "5s", "2min", "0")."""
    found = re.fullmatch(r"(\d+)(us|ms|s|min|h|d|)", setting)
    return int(found[1]) * _UNITS[found[2]] if found else 0.0


class PostgresDatabase:
    """One PostgreSQL database, as `engines.Database` promises."""

    def __init__(
        self,
        session: Session,
        address: addresses.PostgresAddress,
        options: Options,
        policy: LockPolicy,
        name: str,
        version: str,
        where: history_tables.HistoryTables,
    ) -> None:
        self._session = session
        self._address = address
        self._options = options
        self._policy = policy
        self._name = name
        self._version = version
        self._where = where
        self._approval: Approval | None = None
        self._looked: Rows | None = None  # the answer to `recording.look`, from the reading of the history under the lock

    @property
    def engine(self) -> targets.Engine:
        return targets.Engine.POSTGRES

    @property
    def name(self) -> str:
        return self._name

    @property
    def server_version(self) -> str:
        return self._version

    def read_history(self) -> history.History:
        """Reads goose's rows and the facts; writes nothing."""
        return tables.read(self._session, self._where)

    def read_outline(self) -> history.Outline | None:
        """Returns the history in two aggregates; None when there is no table, or a row that is not applied."""
        return tables.read_outline(self._session, self._where)

    def read_journal(self) -> tuple[journal.Entry, ...]:
        """Returns the journal's entries; a migration that is finished has none."""
        from migrator.postgres import journal_rows

        return journal_rows.read_all(self._session, self._where)

    def ensure_history(self) -> history.History:
        """Creates goose's table with row 0 and greylag's, where absent, then reads."""
        from migrator.postgres import recording

        answers = tables.read_complete(self._session, self._where, recording.look(self._where))
        if answers is not None:
            found, (self._looked,) = answers
            return found
        tables.ensure(self._session, self._where)
        self._where = replace(self._where, complete=True)
        return tables.read(self._session, self._where)

    @contextlib.contextmanager
    def lock(self, listener: events.Listener) -> Iterator[None]:
        """Holds goose's advisory lock; see `postgres.lock`."""
        import_beside("migrator.postgres.execution", "migrator.postgres.restoring")  # the lock and the tables take longer
        from migrator.postgres import lock

        with lock.held(self._session, listener, self._policy.migration_wait, self._probe):
            yield

    def _probe(self) -> int:
        """Returns the backend that a second connection is given, inside a transaction, while ours is open; 0 where no transaction may begin."""
        other = _open(self._address, self._options)
        try:
            other.simple(b"BEGIN")
            return int(other.query("SELECT pg_catalog.pg_backend_pid()")[0][0] or 0)
        except errors.Unavailable:
            if other.parting is None or other.parting.sqlstate != failures.PROTOCOL_VIOLATION:
                raise
            return 0  # a pooler of statements; no PostgreSQL answers BEGIN like that
        finally:
            other.close()

    def identity(self) -> str:
        """Returns what tells this database from every other: the cluster's system identifier, where the role may read it, name and OID."""
        try:
            rows = self._session.query("SELECT system_identifier::text FROM pg_catalog.pg_control_system()")
        except failures.ServerFailure as failure:
            if failure.sqlstate != failures.INSUFFICIENT_PRIVILEGE:
                raise failures.of_server(failure, "to read the server's identifier") from None
            rows = [("",)]
        [(oid,)] = self._session.query("SELECT oid::text FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()")
        return f"postgres:{rows[0][0]}/{self._name}/{oid}"

    def begin_approval(self, approval: Approval, steps: Sequence[plans.Step]) -> None:
        """Notes the approval as begun, or as used where nothing is left; see `postgres.approvals`."""
        from migrator.postgres import approvals

        if not steps:
            approvals.end(self._session, self._where, approval)
            return
        approvals.begin(self._session, self._where, approval, [step.version for step in steps], self._options.run_id)
        self._approval = approval

    def require_fit(self, plan: plans.Plan) -> None:
        """Refuses nothing: a PostgreSQL database is one server."""

    def read_remarks(self, plan: plans.Plan) -> tuple[plans.Remark, ...]:
        """Returns nothing: whatever a file meets here rolls its transaction back."""
        return ()

    def execute(self, plan: plans.Plan, steps: Sequence[plans.Step], listener: events.Listener) -> None:
        """Executes steps in order; see `postgres.execution` and `postgres.autocommit`."""
        approval = self._approval.identity if self._approval and plan.target.versioning else ""
        last = steps[-1].version if steps else 0
        author = tables.Author(self._options.run_id, self._options.applied_by, plan.bundle, approval, last)
        from migrator.postgres import acceptances, execution, recording, restoring
        from migrator.postgres.run import Run
        from migrator.targets import Mode

        # without versioning nothing is recorded that another connection could go on from
        leave = self._options.leave if plan.target.versioning else stay
        watched = plan.target.versioning and recording.arrive(self._session, self._where, self._looked)
        self._looked = None
        if plan.target.versioning and any(step.accepted for step in steps):
            acceptances.prepare(self._session, self._where)
        run = Run(self._session, self._where, self._policy, author, listener, plan.target.versioning, leave, watched)
        try:
            for number, (mode, group) in enumerate(_grouped(steps, alone=leave is not stay)):
                if number:  # not before the first: every connection gets something done
                    run.boundary()
                if mode is Mode.TRANSACTION:
                    execution.execute(run, group)
                else:
                    from migrator.postgres import autocommit  # few runs have such a file, and it costs 10 ms

                    for step in group:
                        autocommit.execute(run, step)
        finally:
            if plan.target.versioning:
                self._describe(listener)
            elif not (self._session.closed or self._session.stopped):
                with contextlib.suppress(errors.GreylagError):
                    restoring.restore(self._session)

    def _describe(self, listener: events.Listener) -> None:
        """Describes what the run has made, also where it has failed. A description that can't be had is no failure of the run: what was noted stays,
        and the next run, or `verify`, describes it."""
        from migrator.planning import events
        from migrator.postgres import recording

        if self._session.closed or self._session.stopped:
            return
        try:
            recording.describe(self._session, self._where)
        except errors.Interrupted:
            return
        except errors.GreylagError as error:
            listener(events.Note("warning", "not-described", f"what this run made is noted and not described yet: {error.message}"))

    def check_schema(self) -> SchemaCheck:
        """Compares the facts of the schema with what is found."""
        from migrator.postgres import recording

        return recording.check(self._session, self._where)

    def read_schema(self) -> schema_comparison.Schema:
        """Returns what is recorded of the schema and what is found."""
        from migrator.postgres import recording

        return recording.read(self._session, self._where)

    def record_schema(self) -> str:
        """Makes what is there what is recorded."""
        from migrator.postgres import recording

        tables.ensure(self._session, self._where)
        return recording.record_all(self._session, self._where)

    def read_writers(self) -> tuple[Writer, ...]:
        """Returns who may write the tables beside their owner."""
        from migrator.postgres import grants

        return grants.writers(self._session, self._where)

    def read_accepted(self) -> dict[int, str]:
        """Returns what was accepted of lossy hazards, and why, by version."""
        from migrator.postgres import acceptances

        return acceptances.read(self._session, self._where)

    def read_down_text(self, version: int) -> bytes | None:
        """Returns the recorded file of an applied version."""
        return tables.read_content(self._session, self._where, version)

    def record_facts(self, facts: Sequence[history.Fact]) -> None:
        """Writes facts for rows that exist."""
        if facts:
            tables.ensure(self._session, self._where)
            tables.write_facts(self._session, self._where, facts)

    def renumber(self, version: int, fact: history.Fact) -> None:
        """Records an applied version under the fact's number, in one transaction."""
        tables.ensure(self._session, self._where)
        tables.renumber(self._session, self._where, version, fact)

    def answer(self, version: int, index: int, *, done: bool) -> None:
        """Records a person's answer to a NeedsAnswer: statement `index` (from 1) was executed, or it was not.

        Raises NotFound (`no-question`) when the journal holds no open question about it.
        """
        from migrator.planning import journal
        from migrator.postgres import journal_rows

        state = journal.State.DONE if done else journal.State.NOT_DONE
        journal_rows.answer(self._session, self._where, version, index, state, self._options.run_id)

    def create_restore_point(self, name: str) -> RestorePoint:
        """Calls `pg_create_restore_point`, if the role may."""
        from migrator.postgres import restore_points

        return restore_points.create(self._session, name)

    def cancel(self) -> None:
        """Cancels the running statement on the server; safe from signal handlers and other threads."""
        self._session.cancel()

    def close(self) -> None:
        """Ends the session."""
        registry.unregister(self)
        self._session.close()

    def __enter__(self) -> PostgresDatabase:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _grouped(steps: Sequence[plans.Step], *, alone: bool) -> Iterator[tuple[targets.Mode, list[plans.Step]]]:
    """Yields steps that are sent together: those of one mode, or each alone where there is to be a boundary behind it."""
    group: list[plans.Step] = []
    for step in steps:
        if group and (alone or step.mode is not group[0].mode):
            yield group[0].mode, group
            group = []
        group.append(step)
    if group:
        yield group[0].mode, group
