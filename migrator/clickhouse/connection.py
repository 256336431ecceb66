"""Opening a ClickHouse database, and the `Database` that stands for it (architecture.md §2.1)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from migrator import errors, registry, targets

# What executes and looks into the catalogue is imported where it is used: most runs find nothing to do, and start faster without.
from migrator.address import addresses
from migrator.clickhouse import failures, session
from migrator.clickhouse import history as tables
from migrator.clickhouse.lock import LEASE, Cell, ColumnName, MigrationLock, Times, label, prefix_of, short
from migrator.clickhouse.session import literal
from migrator.engines import Options, RestorePoint, SchemaCheck, Writer, import_beside
from migrator.goose import durations
from migrator.planning import events, history, journal

if TYPE_CHECKING:
    from migrator.planning import plans, schema_comparison
    from migrator.planning.approvals import Approval

_KEEPER_ENGINES = frozenset({"Replicated", "Shared"})
"""Engines of databases whose DDL is replicated by Keeper."""

_GUESSED = "the address names the native port {native}; greylag speaks HTTP and uses port {http} (name it with ?http_port=)"


def connect(dbstring: str, options: Options) -> ClickHouseDatabase:
    """Opens a database by goose's DBSTRING (goose.md §7.2).

    Parameters of greylag's own: `greylag_profile` (single, on_cluster, replicated) and `greylag_cluster`, else the database's engine decides;
    `greylag_lease`, the lock's lease.

    Raises UsageError (DBSTRING, table name, profile), LoginFailed, NotFound (`unknown-database`), Unavailable, TimedOut.
    """
    address = addresses.parse_clickhouse(dbstring)
    opened = session.connect(address, prefix_of(options.run_id), options.connect_timeout)
    try:
        if options.owner_role:
            opened.settings["role"] = options.owner_role
        profile, cluster = _profile(address, opened)
        opened.cluster = cluster
        where = tables.located(options.table, opened.database, profile, cluster)
        times = _times(address)
    except BaseException:
        opened.close()
        raise
    insisted = address.own.get("profile") == tables.Profile.SINGLE
    database = ClickHouseDatabase(opened, options, where, times, _notes(address, opened, profile), insisted=insisted)
    registry.register(database)
    return database


def _profile(address: addresses.ClickHouseAddress, opened: session.Session) -> tuple[tables.Profile, str]:
    named = address.own.get("profile", "")
    cluster = address.own.get("cluster", "")
    if named and named not in list(tables.Profile):
        raise errors.UsageError(
            f'greylag_profile can\'t be "{named}"', code="bad-profile", hint=f"profiles are {', '.join(tables.Profile)}"
        )
    if named:
        profile = tables.Profile(named)
    elif cluster:
        profile = tables.Profile.ON_CLUSTER
    else:
        profile = tables.Profile.REPLICATED if opened.database_engine in _KEEPER_ENGINES else tables.Profile.SINGLE
    if profile is tables.Profile.ON_CLUSTER and not cluster:
        raise errors.UsageError("the profile on_cluster needs a cluster's name", code="bad-profile", hint="add greylag_cluster=NAME")
    return profile, cluster


def _times(address: addresses.ClickHouseAddress) -> Times:
    lease = durations.parse(address.own["lease"]) if "lease" in address.own else LEASE
    if not 2 <= lease <= 600:
        raise errors.UsageError("greylag_lease must be from 2s to 600s", code="bad-lease", hint="leave it out for 15s")
    return Times(lease)


def _notes(address: addresses.ClickHouseAddress, opened: session.Session, profile: tables.Profile) -> list[events.Note]:
    notes = []
    for (host, http, guessed), (_, native) in zip(address.http_ports, address.hosts, strict=True):
        if guessed and opened.place == f"{host}:{http}":
            notes.append(events.Note("info", "http-port", _GUESSED.format(native=native, http=http)))
    if profile is not tables.Profile.SINGLE:
        notes.append(
            events.Note("warning", "experimental-profile", f"the profile {profile} is experimental: it is not proven on every server")
        )
    return notes


@contextlib.contextmanager
def _doing(what: str) -> Iterator[None]:
    try:
        yield
    except (failures.Refusal, failures.Lost) as failure:
        raise failures.of_server(failure, what) from None


class ClickHouseDatabase:
    """`engines.Database` for ClickHouse. `notes` is what a person should know about the connection; `lock` emits it. `insisted`: the address itself
    says that the history is one server's alone."""

    def __init__(
        self,
        opened: session.Session,
        options: Options,
        where: tables.HistoryTables,
        times: Times,
        notes: Sequence[events.Note],
        *,
        insisted: bool = False,
    ) -> None:
        self.notes = tuple(notes)
        self._session = opened
        self._options = options
        self._where = where
        self._times = times
        self._insisted = insisted
        self._lock: MigrationLock | None = None
        self._approval: Approval | None = None
        self._journal_is_new = False

    @property
    def engine(self) -> targets.Engine:
        """Returns ClickHouse."""
        return targets.Engine.CLICKHOUSE

    @property
    def name(self) -> str:
        """Returns the name of the connected database, as the server tells it."""
        return self._session.database

    @property
    def server_version(self) -> str:
        """Returns the server's version, such as 26.9.2.1."""
        return self._session.version

    def read_history(self) -> history.History:
        """Reads goose's rows and greylag's facts; writes nothing, also when no table exists."""
        with _doing("to read the history"):
            return tables.read(self._session, self._where)

    def read_outline(self) -> history.Outline | None:
        """Returns None: the history is read as a whole."""
        return None

    def read_journal(self) -> tuple[journal.Entry, ...]:
        """Returns the journal's entries that nothing has made void."""
        with _doing("to read the journal"):
            if journal.TABLE not in tables.existing(self._session, self._where):
                return ()
            return tuple(item.entry for item in tables.read_journal(self._session, self._where))

    def ensure_history(self) -> history.History:
        """Creates goose's table with row 0 and the side tables where they are absent, then reads."""
        with _doing("to create the history tables"):
            found = tables.existing(self._session, self._where)
            tables.ensure(self._session, self._where, found)
            self._journal_is_new = journal.TABLE not in found
            return tables.read(self._session, self._where, found | {self._where.name})  # what was just made holds nothing yet

    @contextlib.contextmanager
    def lock(self, listener: events.Listener) -> Iterator[None]:
        """Holds the migration lock; see `lock` for how, and for the proof."""
        import_beside("migrator.clickhouse.execution")  # the lock and the tables take longer
        for note in self.notes:
            listener(note)
        fenced = self._where.profile is not tables.Profile.REPLICATED
        by = label(self._options.service, self._options.applied_by)
        held = MigrationLock(self._session, self._cell(), short(self._options.run_id), by, fenced, self._times)
        with contextlib.ExitStack() as stack:
            with _doing("to take the migration lock"):
                stack.enter_context(held.holding(self._options.locks.migration_wait, listener))
            self._lock = held
            try:
                yield
            finally:
                self._lock = None

    def _cell(self) -> Cell:
        if self._where.profile is not tables.Profile.ON_CLUSTER:
            return ColumnName(self._session)
        from migrator.clickhouse.keeper import KeeperRow

        return KeeperRow(self._session)

    def identity(self) -> str:
        """Returns what tells this database from every other: its name and UUID. (The server's own UUID would differ from host to host of a cluster.)"""
        with _doing("to read the database's identity"):
            rows = self._session.rows(f"SELECT toString(uuid) FROM system.databases WHERE name = {literal(self._session.database)}")
        return f"clickhouse:{self._session.database}/{rows[0][0] if rows else ''}"

    def begin_approval(self, approval: Approval, steps: Sequence[plans.Step]) -> None:
        """Notes the approval as begun, or as used where nothing is left; see `clickhouse.approvals`."""
        from migrator.clickhouse import approvals

        run_id = self._options.run_id
        with self._held().using(), _doing("to note the approval"):
            if not steps:
                approvals.end(self._session, self._where, approval, run_id)
                return
            approvals.begin(self._session, self._where, approval, [step.version for step in steps], run_id)
        self._approval = approval

    def require_fit(self, plan: plans.Plan) -> None:
        """Refuses files that are written for a cluster where the address names none; see `topology`."""
        if self._where.profile is not tables.Profile.SINGLE or self._insisted:
            return
        from migrator.clickhouse import topology

        with _doing("to look at the servers' clusters"):
            topology.require_named(self._session, plan)

    def read_remarks(self, plan: plans.Plan) -> tuple[plans.Remark, ...]:
        """Returns what the run would warn of before it executes anything: failing mutations of the plan's tables, rights that only an accident needs."""
        if not plan.steps:
            return ()
        from migrator.clickhouse import outlook

        with _doing("to look at what the plan touches"):
            return outlook.read(self._session, plan.steps).remarks

    def execute(self, plan: plans.Plan, steps: Sequence[plans.Step], listener: events.Listener) -> None:
        """Executes steps in order under the lock; see `execution`.

        Raises StatementRejected, LockUnavailable, Unavailable, TimedOut, Interrupted, NeedsAnswer.
        """
        from migrator.clickhouse.execution import Execution
        from migrator.clickhouse.run import Run

        held = self._held()
        if plan.target.versioning and any(step.accepted for step in steps):
            with _doing("to add a column to the recorded facts"):
                tables.ensure_accepted(self._session, self._where)
        began = held.server_time(datetime.now(UTC))
        approval = self._approval if plan.target.versioning else None
        Execution(
            Run(self._session, self._where, held, self._options, plan, steps, listener, began, self._journal_is_new, approval)
        ).execute()

    def _held(self) -> MigrationLock:
        if self._lock is None:
            raise errors.LockUnavailable("this needs the migration lock", code="lock-lost", hint="call it inside `with database.lock(…)`")
        return self._lock

    def check_schema(self) -> SchemaCheck:
        """Compares the facts of the schema with what is found (on every replica), and looks for what is broken."""
        from migrator.clickhouse import catalog, recording

        with _doing("to read the facts of the schema"):
            found = recording.check(self._session, self._where)
            return catalog.with_ailments(self._session, found)

    def read_schema(self) -> schema_comparison.Schema:
        """Returns what is recorded of the schema and what is found."""
        from migrator.clickhouse import recording

        with _doing("to read the facts of the schema"):
            return recording.schema(self._session, self._where)

    def record_schema(self) -> str:
        """Makes what is there what is recorded."""
        from migrator.clickhouse import recording

        with _doing("to record what the catalogue says"):
            tables.ensure(self._session, self._where, tables.existing(self._session, self._where))
            return recording.record_all(self._session, self._where, self._options.run_id)

    def read_writers(self) -> tuple[Writer, ...]:
        """Returns who may write the tables beside this user and the administrators."""
        from migrator.clickhouse import grants

        with _doing("to read who may write the history"):
            if self._where.name not in tables.existing(self._session, self._where):
                return ()
            return grants.read(self._session, self._where)

    def read_accepted(self) -> dict[int, str]:
        """Returns what was accepted of lossy hazards, and why, by version."""
        with _doing("to read the recorded facts"):
            return {fact.version: fact.accepted for fact in tables.read(self._session, self._where).facts if fact.accepted}

    def read_down_text(self, version: int) -> bytes | None:
        """Returns the recorded file of an applied version."""
        with _doing("to read the recorded file"):
            return tables.down_text(self._session, self._where, version)

    def record_facts(self, facts: Sequence[history.Fact]) -> None:
        """Writes facts for rows that exist (baseline)."""
        if not facts:
            return
        with _doing("to record facts"):
            tables.ensure(self._session, self._where, tables.existing(self._session, self._where))
            self._session.command(tables.facts_statement(self._where, facts))

    def renumber(self, version: int, fact: history.Fact) -> None:
        """Records an applied version under the fact's number: first its row and fact, then the old row goes; a second call finishes a broken one."""
        with _doing("to record another number"):
            tables.ensure(self._session, self._where, tables.existing(self._session, self._where))
            self._session.command(tables.copy_statement(self._where, version, fact.version))
            self._session.command(tables.facts_statement(self._where, [fact]))
            self._session.command(tables.row_statement(self._where, version, targets.Direction.DOWN))

    def answer(self, version: int, index: int, *, done: bool) -> None:
        """Records a person's answer to a NeedsAnswer. Raises NotFound (`no-question`) when there is no such question."""
        from migrator.planning import questions

        with _doing("to record the answer"):
            found = tables.existing(self._session, self._where)
            if known := journal.TABLE in found:
                tables.ensure(self._session, self._where, found)
            journalled = tables.read_journal(self._session, self._where) if known else ()
            entries = [item.entry for item in journalled]
            open_entries = [
                item
                for item in journalled
                if item.entry.version == version
                and item.entry.index == index
                and journal.may_be_asked(entries, version, item.entry.direction, index)
            ]
            if not open_entries:
                raise questions.none_open(version, index)
            answered = tables.answered(open_entries[-1], journal.State.DONE if done else journal.State.NOT_DONE)
            self._session.command(tables.journal_statement(self._where, [answered]))

    def create_restore_point(self, name: str) -> RestorePoint:
        """Makes none: ClickHouse has no log to mark."""
        return RestorePoint(name, reason="ClickHouse has none: BACKUP DATABASE before the run is its like")

    def cancel(self) -> None:
        """Kills the run's statements on the server; safe from signal handlers and other threads."""
        self._session.cancel()

    def close(self) -> None:
        """Closes the connections."""
        registry.unregister(self)
        self._session.close()

    def __enter__(self) -> ClickHouseDatabase:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
