"""A service's database under Argo CD, on either engine: its migrations, what it has applied, and one that waits until a test lets it go on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from tests.cluster.job_stage import GATE, gate


class Database(Protocol):
    """What a story asks of its database."""

    engine: str
    login: dict[str, str]

    @property
    def name(self) -> str:
        """The database's."""

    def table(self, number: int, *, gated: bool = False) -> str:
        """The text of a migration that makes a table, and waits at the gate where it is gated."""

    def versions(self) -> list[int]:
        """The versions in goose's table; [] where there is none."""

    def gate(self) -> contextlib.AbstractContextManager[object]:
        """Closes the gate for as long as the context lasts."""

    def waiting(self) -> int:
        """How many statements wait at the gate."""

    def left(self) -> str:
        """What is there, while the gate is closed, of a migration that was interrupted at it."""


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL database; the gate is an advisory lock."""

    login: dict[str, str] = field(repr=False)
    url: str = field(repr=False)
    sql: Callable[[str], str]
    engine: str = "postgres"

    @property
    def name(self) -> str:
        return self.login["database"]

    def table(self, number: int, *, gated: bool = False) -> str:
        wait = f"SELECT pg_advisory_xact_lock({GATE});\n" if gated else ""
        return f"-- +goose Up\nCREATE TABLE t{number} (id bigint);\n{wait}-- +goose Down\nDROP TABLE t{number};\n"

    def versions(self) -> list[int]:
        if self.sql("SELECT to_regclass('goose_db_version') IS NOT NULL").strip() != "t":
            return []
        return [int(line) for line in self.sql("SELECT version_id FROM goose_db_version WHERE version_id > 0 ORDER BY 1").split()]

    def gate(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.closing(gate(self.url))

    def waiting(self) -> int:
        return int(self.sql(f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = {GATE}"))

    def left(self) -> str:
        return "its statement is still there" if self.waiting() else "rolled back"


@dataclass(frozen=True)
class ClickHouse:
    """A ClickHouse database; the gate is a table whose merges are stopped, so that a mutation of it waits."""

    login: dict[str, str] = field(repr=False)
    sql: Callable[[str], str]
    engine: str = "clickhouse"

    @property
    def name(self) -> str:
        return self.login["database"]

    def table(self, number: int, *, gated: bool = False) -> str:
        wait = f"ALTER TABLE t1 UPDATE note = 't{number}' WHERE id = 1;\n" if gated else ""
        return (
            f"-- +goose Up\nCREATE TABLE t{number} (id UInt64, note String) ENGINE = MergeTree ORDER BY id;\n{wait}"
            f"-- +goose Down\nDROP TABLE t{number};\n"
        )

    def versions(self) -> list[int]:
        if self.sql("EXISTS TABLE goose_db_version").strip() != "1":
            return []
        return [int(line) for line in self.sql("SELECT version_id FROM goose_db_version WHERE version_id > 0 ORDER BY 1").split()]

    @contextlib.contextmanager
    def gate(self) -> Iterator[None]:
        self.sql("INSERT INTO t1 VALUES (1, '')")  # a mutation of nothing is done at once
        self.sql(f"SYSTEM STOP MERGES {self.name}.t1")
        try:
            yield
        finally:
            self.sql(f"SYSTEM START MERGES {self.name}.t1")

    def waiting(self) -> int:
        return int(self.sql("SELECT count() FROM system.mutations WHERE database = currentDatabase() AND NOT is_done"))

    def left(self) -> str:
        return "its mutation goes on by itself" if self.waiting() else "nothing is left of it"
