"""What a row of the benchmarks has at hand: servers, goose, a folder, and how long to run."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.databases.clickhouse import ClickHouseServer
from sandbox.databases.postgres import PostgresServer


@dataclass
class Result:
    """Lines for the page's table, and notes below it."""

    table: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Bench:
    """One benchmark session."""

    folder: Path
    postgres: PostgresServer
    clickhouse: ClickHouseServer
    goose: str
    rounds: int
    blocker_seconds: float
    say: Callable[[str], None]
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def database(self, port: int | None = None) -> str:
        """A fresh PostgreSQL database; the URL goes through `port` when one is given (a proxy)."""
        name = f"bench_{next(self._numbers)}"
        self.postgres.create_database(name)
        url = self.postgres.superuser_url(name)
        return url.replace(f":{self.postgres.port}/", f":{port}/") if port else url

    def clickhouse_database(self) -> tuple[str, str]:
        """A fresh ClickHouse database; returns greylag's URL (with the HTTP port) and goose's (the native one alone)."""
        name = f"bench_{next(self._numbers)}"
        ours = self.clickhouse.create_database(name)
        return ours, self.clickhouse.native_url("admin", self.clickhouse.admin_password, name)

    def greylag(self, directory: Path, driver: str, url: str, *verb: str) -> list[str]:
        """The command line of greylag, as an image runs it."""
        return [sys.executable, "-m", "migrator.cli", "-env", "none", "-dir", str(directory), driver, url, *(verb or ("up",))]

    def goose_command(self, directory: Path, driver: str, url: str, *verb: str) -> list[str]:
        """goose's command line for the same work."""
        return [self.goose, "-env", "none", "-dir", str(directory), driver, url, *(verb or ("up",))]

    def environment(self) -> dict[str, str]:
        """The process environment without anything that would steer either tool."""
        return {name: value for name, value in os.environ.items() if not name.startswith(("GOOSE_", "GREYLAG_", "PG"))}
