"""The links from fleet.yaml to the database's history: each is looked at where it is, and none is inferred from another."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from pydantic import SecretStr

from deployments.doctor.findings import Finding, Look, broken, sound, unknown
from migrator import databases, errors, house_rules, verification
from migrator.house import sections
from migrator.planning import files, planner
from migrator.targets import Target as Wanted
from migrator.targets import Verb
from tasks import database_url, migration
from tasks.credentials import Credentials, LifetimeWatcher, fetch
from tasks.fleet.models import Target
from tasks.settings import Settings

_TCP_SECONDS = 3.0
_LOCK_SECONDS = 0.0  # it is asked once: a doctor waits for nobody
_TELLING = house_rules.Settings(on=("H05", "H06"))
"""The rules whose breach stops a deployment somewhere: a body that goose cuts, and another environment's database."""


class DatabaseLinks:
    """The links of one target; what one link has found is what the next one needs."""

    def __init__(self, target: Target, settings: Settings) -> None:
        self.target = target
        self.settings = settings
        self._stack = contextlib.ExitStack()
        self._credentials: Credentials | None = None
        self._url = SecretStr("")
        self._database: databases.Database | None = None

    def __enter__(self) -> DatabaseLinks:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def version(self) -> int:
        """The version of the secret that was read; 0 where it has none, and before it was read."""
        return self._credentials.version if self._credentials else 0

    def chain(self) -> list[tuple[str, Look]]:
        """Returns the links in their order."""
        return [
            ("fleet entry", self._fleet_entry),
            ("migration files", self._files),
            ("credentials", self._fetch),
            ("URL", self._encode),
            ("DNS", self._resolve),
            ("TCP", self._connect),
            ("login and database", self._log_in),
            ("privileges", self._privileges),
            ("lock", self._lock),
            ("history", self._history),
        ]

    def _fleet_entry(self) -> Iterator[Finding]:
        target = self.target
        yield sound(
            "fleet entry",
            f"fleet.yaml: {target.engine} database {target.database}, files in {target.directory}, credentials from {target.secret}",
        )

    def _files(self) -> Iterator[Finding]:
        migrations = files.load(self.target.directory)
        sources = [sections.Source(item.path, item.read()) for item in migrations.migrations if item.kind == "sql"]
        for found in databases.examine_files(sources, self.target.engine, _TELLING):
            yield broken("migration files", f"{found.place}: {found.message}", cause=found.rule.name, hint=found.rule.hint)
            return
        yield sound("migration files", f"{len(migrations.migrations)} read and parsed, bundle {migrations.digest()[:12]}")

    def _fetch(self) -> Iterator[Finding]:
        watcher = self._stack.enter_context(LifetimeWatcher(self.target, self.settings))
        self._credentials = fetch(self.target, watcher=watcher)
        yield sound("credentials", f"read from {self.target.secret}")

    def _found(self) -> Credentials:
        assert self._credentials is not None, "the link before this one has read them"
        return self._credentials

    def _encode(self) -> Iterator[Finding]:
        self._url = database_url.encode(self._found(), self.target)
        yield sound("URL", f"every part percent-encoded; database {self._found().database}, as fleet.yaml says")

    def _resolve(self) -> Iterator[Finding]:
        host = self._found().host
        try:
            addresses = sorted({str(item[4][0]) for item in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
        except OSError as problem:
            yield broken(
                "DNS",
                f"{host} has no address: {problem.strerror or problem}",
                cause="host-unknown",
                hint=f"correct `host` in {self.target.secret}, or look from where the run is started: a cluster's names end with .svc",
            )
            return
        yield sound("DNS", f"{host} is {', '.join(addresses[:3])}")

    def _connect(self) -> Iterator[Finding]:
        host, port = self._found().host, self._found().port
        try:
            socket.create_connection((host, port), timeout=_TCP_SECONDS).close()
        except OSError as problem:
            yield broken(
                "TCP",
                f"{host}:{port} doesn't answer: {problem.strerror or problem}",
                cause="port-closed",
                hint=f"is the server up, `port` in {self.target.secret} right, and the way open (NetworkPolicy, firewall)?",
            )
            return
        yield sound("TCP", f"{host}:{port} accepts a connection")

    def _log_in(self) -> Iterator[Finding]:
        patient = self.settings.model_copy(update={"lock_wait_seconds": _LOCK_SECONDS})
        database = self._stack.enter_context(migration.opened(self.target, self._url, patient))
        self._database = database
        yield sound("login and database", f"{database.server_version}, database {self._found().database}, user {self._found().username}")

    def _opened(self) -> databases.Database:
        assert self._database is not None, "the link before this one has opened it"
        return self._database

    def _privileges(self) -> Iterator[Finding]:
        try:
            others = self._opened().read_writers()
        except errors.LoginFailed as error:
            yield unknown("privileges", f"who may write the history can't be read: {error.message}")
            return
        if others:
            names = ", ".join(sorted({item.name for item in others})[:3])
            yield unknown("privileges", f"others may write the history: {names}; `greylag privileges` prints what takes it back")
            return
        yield sound("privileges", "the history's tables are written by their owner alone")

    def _lock(self) -> Iterator[Finding]:
        if not self._opened().read_history().rows:
            yield unknown("lock", "not asked: this database has no history yet")
            return
        with self._opened().lock(lambda _: None):
            pass
        yield sound("lock", "free: taken, and given back at once")

    def _history(self) -> Iterator[Finding]:
        migrations = files.load(self.target.directory)
        history = self._opened().read_history()
        found = verification.verify(self._opened(), migrations)
        pending = len(found.pending)
        if history.rows and not pending:
            found.raise_for_failure()
        elif pending:
            planner.plan(
                migrations, history, Wanted(Verb.UP), env=migration.substitutions(self.target, self._found()), engine=self._opened().engine
            )
        said = f"at version {found.current}, {found.checked} object(s) as recorded" if not pending else f"{pending} version(s) to apply"
        yield sound("history", said)
