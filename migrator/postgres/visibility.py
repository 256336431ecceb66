"""Whether a role sees the whole history: row-level security gives no error, it leaves rows out; another search_path leads to another schema."""

from __future__ import annotations

from migrator import errors
from migrator.planning import history
from migrator.postgres import failures
from migrator.postgres.history_tables import FACTS, HistoryTables, quote
from migrator.postgres.pipelines import message
from migrator.postgres.session import Session

_APPLIES = (
    "(0 = ANY (p.polroles) OR EXISTS (SELECT FROM pg_catalog.unnest(p.polroles) AS r WHERE r <> 0 AND pg_catalog.pg_has_role(r, 'USAGE')))"
)

_READS = f"p.polrelid = t.oid AND p.polcmd IN ('r', '*') AND {_APPLIES}"

_TRUE = "pg_catalog.pg_get_expr(p.polqual, p.polrelid) = 'true'"

_HIDING = f"""SELECT pg_catalog.quote_ident(t.relname), current_user, pg_catalog.pg_get_userbyid(t.relowner), pg_catalog.pg_has_role(t.relowner, 'USAGE'),
  (SELECT pg_catalog.string_agg(p.polname, ', ' ORDER BY p.polname) FROM pg_catalog.pg_policy AS p WHERE {_READS})
FROM (VALUES (1, pg_catalog.to_regclass($1)), (2, pg_catalog.to_regclass($2))) AS named(place, oid) JOIN pg_catalog.pg_class AS t ON t.oid = named.oid
WHERE pg_catalog.row_security_active(t.oid)
  AND (NOT EXISTS (SELECT FROM pg_catalog.pg_policy AS p WHERE {_READS} AND p.polpermissive AND {_TRUE})
    OR EXISTS (SELECT FROM pg_catalog.pg_policy AS p WHERE {_READS} AND NOT p.polpermissive AND NOT {_TRUE}))
ORDER BY named.place LIMIT 1"""
"""The first of the tables of which policies may leave rows out: no permissive policy for this role that says true, or a restrictive one that does not
(https://www.postgresql.org/docs/current/ddl-rowsecurity.html). The owner, too, is subject to FORCE ROW LEVEL SECURITY."""


def require_all_rows(session: Session, where: HistoryTables) -> None:
    """Raises PlanRefused (`rows-hidden`) where row-level security may hide rows of goose's table or of the facts from this role."""
    if not where.guarded:
        return
    try:
        rows = session.query(_HIDING, where.table, where.facts)
    except failures.ServerFailure as failure:
        raise failures.of_server(failure, f"to read the policies of {where.given}") from None
    if not rows:
        return
    name, role, owner, owns, policies = (item or "" for item in rows[0])
    table = f"{quote(where.schema)}.{name}"
    by = f"policies: {policies}" if policies else "no policy shows it any"
    own = (
        f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"
        if owns == "t"
        else f"connect as {owner}, or take its role (-role, owner_role in fleet.yaml)"
    )
    raise errors.PlanRefused(
        f"row-level security hides rows of {table} from {role} ({by}), so what is applied can't be known",
        code="rows-hidden",
        hint=f"the owner is {owner}: {own}; or ALTER ROLE {quote(role)} BYPASSRLS; or CREATE POLICY greylag ON {table} TO {quote(role)} "
        "USING (true) WITH CHECK (true)",
    )


_TWINS = f"""SELECT pg_catalog.quote_ident(n.nspname), pg_catalog.quote_ident(c.relname),
  coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass(pg_catalog.quote_ident(n.nspname) || '.{FACTS}'), 'SELECT'), false)
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relname = $1 AND c.relkind IN ('r', 'p') AND n.nspname <> $2 AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
  AND (SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute AS a
       WHERE a.attrelid = c.oid AND a.attname IN ('version_id', 'is_applied') AND NOT a.attisdropped) = 2
ORDER BY n.nspname LIMIT 50"""
"""Version tables of that name in other schemas. A role that may not read one can't have made it."""


def elsewhere(session: Session, where: HistoryTables) -> tuple[history.Elsewhere, ...]:
    """Returns the histories of the same name in other schemas, where the place has none; none when the user named the schema."""
    if where.named:
        return ()
    found = []
    try:
        for schema, name, recorded in session.query(_TWINS, where.name, where.schema):
            asked = [message(f"SELECT DISTINCT version_id FROM {schema}.{name} WHERE version_id > 0 AND is_applied")]
            if recorded == "t":
                asked.append(message(f"SELECT version, checksum FROM {schema}.{FACTS}"))
            versions, *facts = session.batch(asked)
            checksums = {int(version or 0): checksum or "" for version, checksum in (facts[0] if facts else [])}
            found.append(history.Elsewhere(f"{schema}.{name}", frozenset(int(row[0] or 0) for row in versions), checksums))
    except failures.ServerFailure as failure:
        raise failures.of_server(failure, f"to look for {where.given} in other schemas") from None
    return tuple(found)
