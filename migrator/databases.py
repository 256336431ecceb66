"""Chooses the engine: for opening a database, and for a plan's warnings. The only module that imports both engines (architecture.md §1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator import errors
from migrator.engines import Database, Finding, LockPolicy, Options, SchemaCheck, default_actor, stay
from migrator.targets import Engine

if TYPE_CHECKING:
    from migrator.planning.plans import Plan, Remark

__all__ = ["Database", "Finding", "LockPolicy", "Options", "SchemaCheck", "default_actor", "open_database", "stay", "warnings"]


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


def warnings(plan: Plan) -> tuple[Remark, ...]:
    """Returns warnings about the plan's upward steps for a database in use; there are none for ClickHouse. Raises nothing: a statement that can't be
    read is left to the server to refuse."""
    if not plan.steps or plan.engine is not Engine.POSTGRES:
        return ()
    from migrator.postgres.lint import examination

    return examination.examine(plan)
