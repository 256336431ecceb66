"""A look into a PostgreSQL database that goose or greylag has worked on."""

from __future__ import annotations

import psycopg

from migrator.address import addresses


def query(url: str, text: str) -> list[tuple[object, ...]]:
    with psycopg.connect(addresses.parse_postgres(url).conninfo, autocommit=True) as connection:
        cursor = connection.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


def rows(url: str, name: str = "goose_db_version") -> list[tuple[object, ...]]:
    """The version table without ids and times; row 0 alone when it is absent, because greylag creates it later than goose does."""
    if query(url, f"SELECT to_regclass('{name}')")[0][0] is None:
        return [(0, True)]
    return query(url, f"SELECT version_id, is_applied FROM {name} ORDER BY id")


def objects(url: str) -> list[tuple[object, ...]]:
    """The user's tables."""
    return query(
        url,
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        " AND tablename NOT LIKE 'greylag_%' AND tablename NOT LIKE '%version%' ORDER BY 1, 2",
    )
