"""Who may write what is recorded: the owner of goose's table and of greylag's, and nobody else.

Whoever may write a history may have a file skipped, or applied again: what is applied, verified and promoted rests on these rows. Commonly
`ALTER DEFAULT PRIVILEGES … GRANT INSERT, UPDATE, DELETE ON TABLES` gives the application's role every table that the owner makes, these, too. So all
but SELECT (which `greylag wait` needs) is revoked in the transaction that makes them, by what the catalogue then says of them.
(https://www.postgresql.org/docs/current/sql-alterdefaultprivileges.html)
"""

from __future__ import annotations

from collections.abc import Sequence

from migrator.engines import Writer
from migrator.postgres import failures
from migrator.postgres.history_tables import HistoryTables
from migrator.postgres.pipelines import Message, message
from migrator.postgres.session import Session

MAY_BE_GIVEN = "EXISTS (SELECT FROM pg_catalog.pg_default_acl) OR EXISTS (SELECT FROM pg_catalog.pg_event_trigger)"
"""Whether a new table can be anybody's but its owner's: without these it is not, so that nothing need be asked."""

_TABLES = "(SELECT c.oid, c.relowner FROM pg_catalog.unnest($1::text[]) AS named JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass(named))"

_GIVEN = f"""SELECT o.oid, o.relkind, n.nspname, o.relname, a.grantee, pg_catalog.string_agg(DISTINCT a.privilege_type, ', ') AS privileges
FROM {_TABLES} AS t
JOIN pg_catalog.pg_class AS o ON o.oid = t.oid OR o.relkind = 'S' AND EXISTS (SELECT FROM pg_catalog.pg_depend AS d
  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = o.oid AND d.refobjid = t.oid AND d.deptype IN ('a', 'i'))
JOIN pg_catalog.pg_namespace AS n ON n.oid = o.relnamespace,
LATERAL (SELECT * FROM pg_catalog.aclexplode(o.relacl) UNION ALL SELECT e.* FROM pg_catalog.pg_attribute AS c, pg_catalog.aclexplode(c.attacl) AS e
  WHERE c.attrelid = o.oid) AS a
WHERE a.grantee <> o.relowner AND a.privilege_type <> 'SELECT'
GROUP BY o.oid, o.relkind, n.nspname, o.relname, a.grantee"""
"""What others than the owner have been given of the tables, their columns and their sequences, SELECT apart."""

_ROLE = "CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) END"

_REVOKE = (
    "pg_catalog.format('REVOKE %s ON %s %I.%I FROM %s CASCADE', privileges, CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,"
    f" nspname, relname, {_ROLE})"
)

_MAY = "pg_catalog.format('%s on %I', privileges, relname)"

_POWERFUL = "SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolsuper OR EXISTS (SELECT FROM t WHERE pg_catalog.pg_has_role(r.oid, t.relowner, 'MEMBER'))"
"""Superusers, and who is or may become the owner."""

_WRITERS = f"""WITH t AS MATERIALIZED {_TABLES}, powerful AS MATERIALIZED ({_POWERFUL}), given AS ({_GIVEN})
SELECT {_ROLE}, {_MAY}, {_REVOKE} FROM given WHERE grantee NOT IN (SELECT oid FROM powerful)
UNION ALL
SELECT DISTINCT pg_catalog.quote_ident(r.rolname), 'INSERT, UPDATE, DELETE, as a member of pg_write_all_data',
  pg_catalog.format('REVOKE pg_write_all_data FROM %I', r.rolname)
FROM pg_catalog.pg_auth_members AS m JOIN pg_catalog.pg_roles AS r ON r.oid = m.member JOIN pg_catalog.pg_roles AS g ON g.oid = m.roleid
WHERE g.rolname = 'pg_write_all_data' AND r.oid NOT IN (SELECT oid FROM powerful) AND EXISTS (SELECT FROM t)
UNION ALL
SELECT pg_catalog.quote_ident(r.rolname), pg_catalog.format('DROP, as the owner of schema %I', n.nspname),
  (SELECT pg_catalog.format('ALTER SCHEMA %I OWNER TO %I', n.nspname, pg_catalog.pg_get_userbyid(min(relowner))) FROM t)
FROM (SELECT DISTINCT c.relnamespace FROM t JOIN pg_catalog.pg_class AS c USING (oid)) AS s JOIN pg_catalog.pg_namespace AS n ON n.oid = s.relnamespace
JOIN pg_catalog.pg_roles AS o ON o.oid = n.nspowner
JOIN pg_catalog.pg_roles AS r ON r.oid = CASE o.rolname WHEN 'pg_database_owner'
  THEN (SELECT datdba FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) ELSE o.oid END
WHERE r.oid NOT IN (SELECT oid FROM powerful)
ORDER BY 1, 2"""


def revocations(tables: Sequence[str]) -> Message:
    """Returns the question for the statements that take from others than the owner what they were given of tables; one statement a row."""
    return message(f"SELECT {_REVOKE} FROM ({_GIVEN}) AS given ORDER BY 1", _array(tables))


def writers(session: Session, where: HistoryTables) -> tuple[Writer, ...]:
    """Returns who may write what is recorded and is neither a superuser nor the owner, nor may become it; none where there are no tables. Members of a
    role may what it may, and are not named. Writes nothing."""
    try:
        rows = session.query(_WRITERS, _array((where.table, where.facts, where.journal, where.described, where.approvals)))
    except failures.ServerFailure as failure:
        raise failures.of_server(failure, f"to read who may write {where.given}") from None
    return tuple(Writer(name or "", may or "", remedy or "") for name, may, remedy in rows)


def _array(names: Sequence[str]) -> str:
    """Writes names as PostgreSQL reads an array of them."""
    return "{" + ",".join('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names) + "}"
