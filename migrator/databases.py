"""`open_database`: picks an engine. The only module that imports the two engines (architecture.md §1)."""

from __future__ import annotations

from migrator import errors
from migrator.engines import Database, Finding, LockPolicy, Options, default_actor, stay

__all__ = ["Database", "Finding", "LockPolicy", "Options", "default_actor", "open_database", "stay"]


def open_database(driver: str, dbstring: str, options: Options | None = None) -> Database:
    """Opens a database by goose's DRIVER and DBSTRING (goose.md §7).

    Raises UsageError (driver unknown or DBSTRING not understood), LoginFailed, NotFound (no such database), Unavailable.
    """
    chosen = options or Options()
    if driver in ("postgres", "pgx"):
        from migrator.postgres import connection as postgres_connection

        return postgres_connection.connect(dbstring, chosen)
    if driver == "clickhouse":
        from migrator.clickhouse import connection as clickhouse_connection

        return clickhouse_connection.connect(dbstring, chosen)
    raise errors.UsageError(
        f'"{driver}": unknown dialect',
        code="unknown-driver",
        hint="greylag drives postgres (or pgx) and clickhouse",
    )
