"""Whether a role sees every row of the history: row-level security gives no error, it leaves rows out."""

from __future__ import annotations

from migrator import errors
from migrator.postgres import failures
from migrator.postgres.places import Place, quote
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


def require_all_rows(session: Session, where: Place) -> None:
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
