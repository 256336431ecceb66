"""Where goose's version table and greylag's three tables are: found once, when the session begins.

Every statement of greylag's own names its tables with their schema. A migration may then say `SET search_path` or be a pg_dump that empties it:
goose's own INSERT fails after that (goose#859), ours doesn't, while later statements of the file see the setting exactly as they would with
goose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from migrator.planning import approvals, journal

FACTS = "greylag_migration"
DESCRIBED = "greylag_fact"
"""What the catalogue said of each object that a version made (`schema_facts`)."""


@dataclass(frozen=True, slots=True)
class HistoryTables:
    """goose's version table and greylag's three: their names, quoted, with the schema.

    Attributes:
        given: the version table as the user wrote it; goose pastes it unquoted.
        schema: empty when none was given and no schema of the search path exists.
        name: the version table's own name.
        complete: all four were there when the session began.
        guarded: row-level security applies to this role on goose's table or the facts.
        named: the user gave the schema, too.
    """

    given: str
    schema: str
    name: str
    complete: bool = False
    guarded: bool = False
    named: bool = False

    @property
    def table(self) -> str:
        return self._quoted(self.name)

    @property
    def facts(self) -> str:
        return self._quoted(FACTS)

    @property
    def described(self) -> str:
        return self._quoted(DESCRIBED)

    @property
    def journal(self) -> str:
        return self._quoted(journal.TABLE)

    @property
    def approvals(self) -> str:
        return self._quoted(approvals.TABLE)

    def _quoted(self, name: str) -> str:
        return f"{quote(self.schema)}.{quote(name)}"


def quote(name: str) -> str:
    """Returns an identifier in double quotes."""
    return '"' + name.replace('"', '""') + '"'


LOCATE = f"""SELECT coalesce(n.nspname, (pg_catalog.parse_ident($1))[array_length(pg_catalog.parse_ident($1), 1) - 1], pg_catalog.current_schema()),
  coalesce(c.relname, (pg_catalog.parse_ident($1))[array_length(pg_catalog.parse_ident($1), 1)]),
  pg_catalog.to_regclass(pg_catalog.quote_ident(n.nspname) || '.{FACTS}') IS NOT NULL
    AND pg_catalog.to_regclass(pg_catalog.quote_ident(n.nspname) || '.{journal.TABLE}') IS NOT NULL
    AND pg_catalog.to_regclass(pg_catalog.quote_ident(n.nspname) || '.{DESCRIBED}') IS NOT NULL,
  coalesce(pg_catalog.row_security_active(found.oid), false)
    OR coalesce(pg_catalog.row_security_active(pg_catalog.to_regclass(pg_catalog.quote_ident(n.nspname) || '.{FACTS}')), false),
  array_length(pg_catalog.parse_ident($1), 1) > 1
FROM (SELECT pg_catalog.to_regclass($1) AS oid) AS found
LEFT JOIN pg_catalog.pg_class AS c ON c.oid = found.oid LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"""
"""Finds the table as goose's unquoted SQL would: through the whole search path; else where CREATE TABLE would put it."""


def located(given: str, rows: Sequence[Sequence[str | None]]) -> HistoryTables:
    """Reads the answer to LOCATE."""
    schema, name, complete, guarded, named = rows[0]
    return HistoryTables(given, schema or "", name or given, complete == "t", guarded == "t", named == "t")
