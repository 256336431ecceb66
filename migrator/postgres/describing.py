"""What the catalogue says of every object, as text that means the same in every session, on every server of one major version (facts.md §4).

One query, put together from a branch per kind of object. Its text holds no OID, no database name and nothing that a session's settings would write
otherwise: it is read under `SETTINGS` only. What an extension brought, what the server keeps for itself and greylag's own tables are left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from migrator.planning import approvals, journal
from migrator.postgres.history_tables import DESCRIBED, FACTS, HistoryTables

SETTINGS = (
    "SELECT pg_catalog.set_config('search_path', '', true), pg_catalog.set_config('TimeZone', 'UTC', true),"
    " pg_catalog.set_config('DateStyle', 'ISO, YMD', true), pg_catalog.set_config('IntervalStyle', 'postgres', true),"
    " pg_catalog.set_config('extra_float_digits', '1', true), pg_catalog.set_config('quote_all_identifiers', 'off', true),"
    " pg_catalog.set_config('bytea_output', 'hex', true), pg_catalog.set_config('xmlbinary', 'base64', true),"
    " pg_catalog.set_config('lc_monetary', 'C', true)"
)
"""What the text of a default, a partition's bound or a foreign key depends on, for the open transaction only."""

FIRST_OWN = 16384
"""Objects with a smaller OID came with the server (FirstNormalObjectId)."""

LONGEST_TEXT = 8192
"""Characters of a function's text that are kept; of a longer one its digest and its beginning tell whether it is the same."""

COLUMNS = "classid, objid, sub, kind, identity, parent, definition, basis, owner, stamp"
"""The columns of every branch. `stamp` holds the ids of the transactions that wrote the catalogue rows from which the text is made: proof of who made it."""

_KINDS = (
    "CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' WHEN 'c' THEN 'type'"
    " WHEN 'S' THEN 'sequence' WHEN 'i' THEN 'index' WHEN 'I' THEN 'index' ELSE 'table' END"
)
_RELATION = "format('%I.%I', s.nspname, c.relname)"
_SCHEMA = "s.nspname !~ '^pg_' AND s.nspname <> 'information_schema'"
_OF_RELATION = f"JOIN pg_class AS c ON c.oid = {{}} JOIN pg_namespace AS s ON s.oid = c.relnamespace AND {_SCHEMA}"


def _no_member(catalogue: str, column: str) -> str:
    """Returns the SQL condition that an object is no part of an extension. (A hashed list is planned in a fifth of an anti-join's time, and planning is
    most of the cost.)"""
    return f"{column} NOT IN (SELECT objid FROM members WHERE classid = '{catalogue}'::regclass)"


def query(where: HistoryTables) -> str:
    """Returns the whole query; its rows are `COLUMNS` and, last, `state`: `invalid` or `waits` for an index that can't be used. To be run under `SETTINGS`."""
    return f"WITH {_prelude(where)} " + " UNION ALL ".join(_branches())


def with_now(where: HistoryTables) -> str:
    """Returns the query as the beginning of a longer one: `WITH … now AS (…)`."""
    return f"WITH {_prelude(where)}, now AS MATERIALIZED ({' UNION ALL '.join(_branches())})"


def _prelude(where: HistoryTables) -> str:
    own = ", ".join(_literal(name) for name in (FACTS, DESCRIBED, journal.TABLE, approvals.TABLE))
    return (
        "members AS MATERIALIZED (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),"
        " own AS MATERIALIZED (SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS s ON s.oid = c.relnamespace"
        f" WHERE c.relkind = 'r' AND (c.relname IN ({own}) OR s.nspname = {_literal(where.schema)} AND c.relname = {_literal(where.name)})),"
        " hidden AS MATERIALIZED (SELECT oid FROM own UNION ALL SELECT i.indexrelid FROM pg_index AS i JOIN own ON own.oid = i.indrelid"
        " UNION ALL SELECT d.objid FROM pg_depend AS d JOIN own ON own.oid = d.refobjid WHERE d.refclassid = 'pg_class'::regclass"
        " AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')),"
        " parents AS MATERIALIZED (SELECT i.inhrelid AS oid, string_agg(format('%I.%I', s.nspname, c.relname), ', ' ORDER BY i.inhseqno) AS names,"
        " string_agg(i.xmin::text, ' ' ORDER BY i.inhseqno) AS stamp FROM pg_inherits AS i"
        f" {_OF_RELATION.format('i.inhparent')} GROUP BY i.inhrelid)"
    )


def _branches() -> Iterator[str]:
    yield _relations()
    yield _views()
    yield _columns()
    yield _constraints()
    yield _of_domains()
    yield _hanging()
    yield _functions()
    yield _types()
    yield _schemas()
    yield _extensions()
    yield _comments()
    yield _privileges()
    yield _others()


# --- relations --------------------------------------------------------------------------------------------------------------------

_SEQUENCE = (
    "format('AS %s START %s INCREMENT %s MINVALUE %s MAXVALUE %s CACHE %s%s', format_type(q.seqtypid, NULL), q.seqstart, q.seqincrement,"
    " q.seqmin, q.seqmax, q.seqcache, CASE WHEN q.seqcycle THEN ' CYCLE' ELSE '' END)"
)

_INDEX = (
    "replace(pg_get_indexdef(c.oid), format(' INDEX %I ON ', c.relname), ' INDEX ON ')"
    " || CASE WHEN i.indisclustered THEN ' CLUSTER' ELSE '' END || CASE WHEN i.indisreplident THEN ' REPLICA IDENTITY' ELSE '' END"
)
"""An index's definition without its name, which the server may have chosen."""


def _relations() -> str:
    return (
        f"SELECT 'pg_class'::regclass::oid AS classid, c.oid AS objid, 0 AS sub, {_KINDS} AS kind, {_RELATION} AS identity,"
        " CASE WHEN c.relkind IN ('i', 'I') THEN format('%I.%I', ts.nspname, t.relname) WHEN c.relispartition THEN p.names"
        " ELSE quote_ident(s.nspname) END AS parent,"
        f" CASE WHEN c.relkind = 'S' THEN {_SEQUENCE} WHEN c.relkind IN ('i', 'I') THEN {_INDEX} ELSE concat_ws('; ',"
        "   CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED' END,"
        "   CASE WHEN c.relkind = 'p' THEN 'PARTITION BY ' || pg_get_partkeydef(c.oid) END,"
        "   CASE WHEN c.relispartition THEN concat('PARTITION OF ', p.names, ' ', pg_get_expr(c.relpartbound, c.oid))"
        "        WHEN p.names IS NOT NULL THEN concat('INHERITS (', p.names, ')') END,"
        "   CASE WHEN c.reloftype <> 0 THEN 'OF ' || format_type(c.reloftype, NULL) END,"
        "   'WITH (' || array_to_string(c.reloptions, ', ') || ')',"
        "   CASE WHEN c.relrowsecurity THEN 'ROW LEVEL SECURITY' END, CASE WHEN c.relforcerowsecurity THEN 'FORCE ROW LEVEL SECURITY' END,"
        "   CASE c.relreplident WHEN 'n' THEN 'REPLICA IDENTITY NOTHING' WHEN 'f' THEN 'REPLICA IDENTITY FULL'"
        "     WHEN 'i' THEN 'REPLICA IDENTITY USING INDEX' END,"
        "   (SELECT concat('SERVER ', f.srvname, ' OPTIONS (', array_to_string(ft.ftoptions, ', '), ')') FROM pg_foreign_table AS ft"
        "      JOIN pg_foreign_server AS f ON f.oid = ft.ftserver WHERE ft.ftrelid = c.oid)) END AS definition,"
        " '' AS basis, CASE WHEN c.relkind NOT IN ('i', 'I') THEN pg_get_userbyid(c.relowner) ELSE '' END AS owner,"
        " concat_ws(' ', c.xmin, i.xmin, q.xmin, p.stamp) AS stamp,"
        " CASE WHEN c.relkind = 'i' AND NOT (i.indisvalid AND i.indisready) THEN 'invalid' WHEN c.relkind = 'I' AND NOT i.indisvalid THEN 'waits'"
        " ELSE '' END AS state"
        f" FROM pg_class AS c JOIN pg_namespace AS s ON s.oid = c.relnamespace AND {_SCHEMA}"
        " LEFT JOIN pg_index AS i ON i.indexrelid = c.oid AND c.relkind IN ('i', 'I') LEFT JOIN pg_class AS t ON t.oid = i.indrelid"
        " LEFT JOIN pg_namespace AS ts ON ts.oid = t.relnamespace"
        " LEFT JOIN pg_sequence AS q ON q.seqrelid = c.oid AND c.relkind = 'S' LEFT JOIN parents AS p ON p.oid = c.oid"
        f" WHERE c.oid >= {FIRST_OWN} AND c.relkind IN ('r', 'p', 'f', 'c', 'S', 'i', 'I') AND c.oid NOT IN (SELECT oid FROM hidden)"
        f" AND {_no_member('pg_class', 'c.oid')} AND {_no_member('pg_class', 'i.indrelid')}"
        " AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = c.oid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x'))"
    )


def _views() -> str:
    """Returns the query for views with their columns and what they depend on: a view's text differs between major versions, these don't (facts.md §4)."""
    return (
        f"SELECT 'pg_class'::regclass::oid, c.oid, 0, {_KINDS}, {_RELATION}, quote_ident(s.nspname),"
        " concat_ws('; ', 'WITH (' || array_to_string(c.reloptions, ', ') || ')', btrim(rtrim(pg_get_viewdef(c.oid), ';'))),"
        " concat(a.columns, ' FROM ', (SELECT string_agg(DISTINCT format('%I.%I', rs.nspname, r.relname) ||"
        "   coalesce('.' || quote_ident(ra.attname), ''), ', ') FROM pg_depend AS d JOIN pg_class AS r ON r.oid = d.refobjid"
        "   JOIN pg_namespace AS rs ON rs.oid = r.relnamespace"
        "   LEFT JOIN pg_attribute AS ra ON ra.attrelid = r.oid AND ra.attnum = d.refobjsubid AND d.refobjsubid > 0"
        "   WHERE d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass AND r.oid <> c.oid)),"
        " pg_get_userbyid(c.relowner), concat_ws(' ', c.xmin, w.xmin, a.stamp), ''"
        f" FROM pg_class AS c JOIN pg_namespace AS s ON s.oid = c.relnamespace AND {_SCHEMA}"
        " LEFT JOIN pg_rewrite AS w ON w.ev_class = c.oid AND w.rulename = '_RETURN'"
        " CROSS JOIN LATERAL (SELECT string_agg(concat(quote_ident(x.attname), ' ', format_type(x.atttypid, x.atttypmod),"
        "     ' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid)), ', ' ORDER BY x.attnum) AS columns,"
        "   string_agg(concat_ws(' ', x.xmin, d.xmin), ' ' ORDER BY x.attnum) AS stamp FROM pg_attribute AS x"
        "   LEFT JOIN pg_attrdef AS d ON d.adrelid = x.attrelid AND d.adnum = x.attnum WHERE x.attrelid = c.oid AND x.attnum > 0) AS a"
        f" WHERE c.oid >= {FIRST_OWN} AND c.relkind IN ('v', 'm') AND {_no_member('pg_class', 'c.oid')}"
    )


def _columns() -> str:
    return (
        "SELECT 'pg_class'::regclass::oid, c.oid, a.attnum::integer, 'column', format('%I.%I.%I', s.nspname, c.relname, a.attname),"
        f" {_RELATION}, concat_ws(' ', format_type(a.atttypid, a.atttypmod),"
        "   CASE WHEN a.attcollation <> t.typcollation THEN 'COLLATE ' || a.attcollation::regcollation END,"
        "   CASE WHEN a.attnotnull THEN 'NOT NULL' END,"
        "   CASE WHEN a.attgenerated <> '' THEN format('GENERATED ALWAYS AS (%s) %s', pg_get_expr(d.adbin, d.adrelid),"
        "       CASE a.attgenerated WHEN 's' THEN 'STORED' ELSE 'VIRTUAL' END)"
        "     WHEN d.adbin IS NOT NULL THEN 'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid) END,"
        "   CASE a.attidentity WHEN 'a' THEN 'GENERATED ALWAYS AS IDENTITY' WHEN 'd' THEN 'GENERATED BY DEFAULT AS IDENTITY' END,"
        "   CASE WHEN a.attstorage <> t.typstorage THEN 'STORAGE ' || a.attstorage::text END,"
        "   CASE WHEN a.attcompression <> '' THEN 'COMPRESSION ' || a.attcompression::text END,"
        "   'WITH (' || array_to_string(a.attoptions, ', ') || ')', 'OPTIONS (' || array_to_string(a.attfdwoptions, ', ') || ')'),"
        " '', '', concat_ws(' ', a.xmin, d.xmin), ''"
        f" FROM pg_attribute AS a {_OF_RELATION.format('a.attrelid')} JOIN pg_type AS t ON t.oid = a.atttypid"
        " LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
        f" WHERE a.attrelid >= {FIRST_OWN} AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f', 'c')"
        f" AND c.oid NOT IN (SELECT oid FROM hidden) AND {_no_member('pg_class', 'c.oid')}"
    )


# --- what hangs on relations --------------------------------------------------------------------------------------------------------


def _constraints() -> str:
    """Returns the query for constraints with the index that belongs to them.

    Those of NOT NULL count as the column's (PostgreSQL 18 alone has rows for them); the copies that foreign keys have at partitions are left out, as
    each version names and numbers them differently.
    """
    return (
        "SELECT 'pg_constraint'::regclass::oid, k.oid, 0, 'constraint', format('%I.%I.%I', s.nspname, c.relname, k.conname),"
        f" {_RELATION}, concat(pg_get_constraintdef(k.oid),"
        " CASE WHEN i.indisclustered THEN ' CLUSTER' END, CASE WHEN i.indisreplident THEN ' REPLICA IDENTITY' END,"
        " ' WITH (' || array_to_string(x.reloptions, ', ') || ')'), '', '', concat_ws(' ', k.xmin, i.xmin, x.xmin),"
        " CASE WHEN i.indisvalid AND i.indisready THEN '' WHEN x.relkind = 'i' THEN 'invalid' WHEN x.relkind = 'I' THEN 'waits' ELSE '' END"
        f" FROM pg_constraint AS k {_OF_RELATION.format('k.conrelid')}"
        " LEFT JOIN pg_index AS i ON i.indexrelid = k.conindid AND k.contype IN ('p', 'u', 'x') LEFT JOIN pg_class AS x ON x.oid = i.indexrelid"
        f" WHERE k.oid >= {FIRST_OWN} AND k.contype NOT IN ('n', 't') AND NOT (k.contype = 'f' AND k.conparentid <> 0)"
        f" AND c.oid NOT IN (SELECT oid FROM hidden) AND {_no_member('pg_class', 'c.oid')}"
    )


def _of_domains() -> str:
    return (
        "SELECT 'pg_constraint'::regclass::oid, k.oid, 0, 'constraint', format('%I.%I.%I', s.nspname, t.typname, k.conname),"
        " format('%I.%I', s.nspname, t.typname), pg_get_constraintdef(k.oid), '', '', k.xmin::text, ''"
        f" FROM pg_constraint AS k JOIN pg_type AS t ON t.oid = k.contypid JOIN pg_namespace AS s ON s.oid = t.typnamespace AND {_SCHEMA}"
        f" WHERE k.oid >= {FIRST_OWN} AND k.contypid <> 0 AND k.contype <> 'n' AND {_no_member('pg_type', 't.oid')}"
    )


_TRIGGER = "pg_get_triggerdef(x.oid) || CASE x.tgenabled WHEN 'D' THEN ' DISABLED' WHEN 'R' THEN ' ENABLED REPLICA' WHEN 'A' THEN ' ENABLED ALWAYS' ELSE '' END"
_RULE = "pg_get_ruledef(x.oid) || CASE x.ev_enabled WHEN 'D' THEN ' DISABLED' WHEN 'R' THEN ' ENABLED REPLICA' WHEN 'A' THEN ' ENABLED ALWAYS' ELSE '' END"
_POLICY = (
    "concat_ws(' ', CASE WHEN NOT x.polpermissive THEN 'AS RESTRICTIVE' END, 'FOR ' || CASE x.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT'"
    " WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,"
    " 'TO ' || (SELECT string_agg(CASE WHEN role = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END, ', ' ORDER BY 1)"
    " FROM unnest(x.polroles) AS role), 'USING (' || pg_get_expr(x.polqual, x.polrelid) || ')',"
    " 'WITH CHECK (' || pg_get_expr(x.polwithcheck, x.polrelid) || ')')"
)


def _hanging() -> str:
    """Returns the query for triggers, rules and policies."""
    each = (
        ("pg_trigger", "trigger", "tgname", "tgrelid", _TRIGGER, "NOT x.tgisinternal AND x.tgparentid = 0"),
        ("pg_rewrite", "rule", "rulename", "ev_class", _RULE, "x.rulename <> '_RETURN'"),
        ("pg_policy", "policy", "polname", "polrelid", _POLICY, "true"),
    )
    rows = " UNION ALL ".join(
        f"SELECT '{catalogue}'::regclass::oid AS classid, x.oid, '{kind}' AS kind, x.{name} AS name, x.{relation} AS relation,"
        f" {definition} AS definition, x.xmin::text AS stamp FROM {catalogue} AS x"
        f" WHERE x.oid >= {FIRST_OWN} AND {condition} AND {_no_member(catalogue, 'x.oid')}"
        for catalogue, kind, name, relation, definition, condition in each
    )
    return (
        f"SELECT x.classid, x.oid, 0, x.kind, format('%I.%I.%I', s.nspname, c.relname, x.name), {_RELATION}, x.definition, '', '', x.stamp, ''"
        f" FROM ({rows}) AS x {_OF_RELATION.format('x.relation')}"
        f" WHERE c.oid NOT IN (SELECT oid FROM hidden) AND {_no_member('pg_class', 'c.oid')}"
    )


# --- what stands in a schema --------------------------------------------------------------------------------------------------------


def _functions() -> str:
    text = "pg_get_functiondef(p.oid)"
    kept = (
        f"CASE WHEN length({text}) <= {LONGEST_TEXT} THEN {text}"
        f" ELSE concat('sha256 ', encode(sha256(convert_to({text}, 'UTF8')), 'hex'), ': ', left({text}, 400), ' …') END"
    )
    aggregate = (
        "(SELECT format('AGGREGATE %s(%s) SFUNC %s STYPE %s', g.aggkind, pg_get_function_arguments(p.oid), g.aggtransfn::regprocedure,"
        " format_type(g.aggtranstype, NULL)) FROM pg_aggregate AS g WHERE g.aggfnoid = p.oid)"
    )
    return (
        "SELECT 'pg_proc'::regclass::oid, p.oid, 0, CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,"
        " format('%I.%I(%s)', s.nspname, p.proname, replace(oidvectortypes(p.proargtypes), ', ', ',')), quote_ident(s.nspname),"
        f" CASE WHEN p.prokind = 'a' THEN {aggregate} ELSE {kept} END, '', pg_get_userbyid(p.proowner), p.xmin::text, ''"
        f" FROM pg_proc AS p JOIN pg_namespace AS s ON s.oid = p.pronamespace AND {_SCHEMA}"
        f" WHERE p.oid >= {FIRST_OWN} AND {_no_member('pg_proc', 'p.oid')}"
        " AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')"
    )


def _types() -> str:
    return (
        "SELECT 'pg_type'::regclass::oid, t.oid, 0, CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END, format('%I.%I', s.nspname, t.typname),"
        " quote_ident(s.nspname), CASE t.typtype WHEN 'e' THEN format('ENUM (%s)', e.labels)"
        "  WHEN 'd' THEN concat_ws(' ', format_type(t.typbasetype, t.typtypmod),"
        "    CASE WHEN t.typcollation <> b.typcollation THEN 'COLLATE ' || t.typcollation::regcollation END,"
        "    CASE WHEN t.typnotnull THEN 'NOT NULL' END, 'DEFAULT ' || coalesce(pg_get_expr(t.typdefaultbin, 0), t.typdefault))"
        "  WHEN 'r' THEN (SELECT concat('RANGE OF ', format_type(g.rngsubtype, NULL)) FROM pg_range AS g WHERE g.rngtypid = t.oid)"
        "  ELSE concat('BASE ', t.typlen) END, '', pg_get_userbyid(t.typowner), concat_ws(' ', t.xmin, e.stamp), ''"
        f" FROM pg_type AS t JOIN pg_namespace AS s ON s.oid = t.typnamespace AND {_SCHEMA} LEFT JOIN pg_type AS b ON b.oid = t.typbasetype"
        " LEFT JOIN LATERAL (SELECT string_agg(quote_literal(l.enumlabel), ', ' ORDER BY l.enumsortorder) AS labels,"
        "   string_agg(l.xmin::text, ' ' ORDER BY l.enumsortorder) AS stamp FROM pg_enum AS l WHERE l.enumtypid = t.oid) AS e ON t.typtype = 'e'"
        f" WHERE t.oid >= {FIRST_OWN} AND (t.typtype IN ('d', 'e', 'r') OR t.typtype = 'b' AND t.typcategory <> 'A')"
        f" AND {_no_member('pg_type', 't.oid')}"
    )


def _schemas() -> str:
    return (
        "SELECT 'pg_namespace'::regclass::oid, s.oid, 0, 'schema', quote_ident(s.nspname), '', '', '', pg_get_userbyid(s.nspowner), s.xmin::text, ''"
        f" FROM pg_namespace AS s WHERE {_SCHEMA} AND s.oid >= {FIRST_OWN} AND {_no_member('pg_namespace', 's.oid')}"
    )


def _extensions() -> str:
    return (
        "SELECT 'pg_extension'::regclass::oid, e.oid, 0, 'extension', quote_ident(e.extname), '', concat('SCHEMA ', quote_ident(s.nspname)), '', '',"
        f" e.xmin::text, '' FROM pg_extension AS e JOIN pg_namespace AS s ON s.oid = e.extnamespace WHERE e.oid >= {FIRST_OWN}"
    )


def _comments() -> str:
    """Returns the query for comments on relations and their columns, constraints, functions, types and schemas; those of other objects by the server's
    own words."""
    return (
        "SELECT d.classoid, d.objoid, d.objsubid, 'comment', concat(o.type, ' ', o.identity),"
        " CASE WHEN d.objsubid > 0 THEN d.objoid::regclass::text WHEN d.classoid IN ('pg_constraint'::regclass, 'pg_trigger'::regclass,"
        "   'pg_policy'::regclass, 'pg_rewrite'::regclass)"
        " THEN '' ELSE o.identity END, d.description, '', '', d.xmin::text, ''"
        " FROM pg_description AS d CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) AS o"
        f" WHERE d.objoid >= {FIRST_OWN} AND (d.classoid, d.objoid) NOT IN (SELECT classid, objid FROM members)"
        f" AND {_visible('d.objoid')}"
    )


# --- privileges -------------------------------------------------------------------------------------------------------------------


def _privileges() -> str:
    """Returns the query for the privileges of others than the owner, whose name differs between environments. An object with the default privileges has
    no row."""
    rows = " UNION ALL ".join(
        f"SELECT '{catalogue}'::regclass::oid AS classid, {oid} AS oid, {sub} AS sub, {acl} AS acl, {letter} AS letter, {owner} AS owner, x.xmin"
        f" FROM {source} WHERE {oid} >= {FIRST_OWN} AND {acl} IS NOT NULL"
        for catalogue, source, oid, sub, acl, letter, owner in (
            (
                "pg_class",
                "pg_class AS x",
                "x.oid",
                "0",
                "x.relacl",
                "CASE x.relkind WHEN 'S' THEN 's'::\"char\" ELSE 'r' END",
                "x.relowner",
            ),
            (
                "pg_class",
                "pg_attribute AS x JOIN pg_class AS c ON c.oid = x.attrelid AND NOT x.attisdropped",
                "c.oid",
                "x.attnum::integer",
                "x.attacl",
                "'c'",
                "c.relowner",
            ),
            ("pg_proc", "pg_proc AS x", "x.oid", "0", "x.proacl", "'f'", "x.proowner"),
            ("pg_type", "pg_type AS x", "x.oid", "0", "x.typacl", "'T'", "x.typowner"),
            ("pg_namespace", "pg_namespace AS x", "x.oid", "0", "x.nspacl", "'n'", "x.nspowner"),
        )
    )
    granted = (
        "(SELECT coalesce(string_agg(line, '; ' ORDER BY line), 'nobody') FROM (SELECT concat(CASE WHEN g.grantee = 0 THEN 'PUBLIC'"
        " ELSE quote_ident(pg_get_userbyid(g.grantee)) END, ': ', string_agg(g.privilege_type || CASE WHEN g.is_grantable THEN '*' ELSE '' END, ', '"
        " ORDER BY g.privilege_type)) AS line FROM aclexplode({}) AS g WHERE g.grantee <> a.owner GROUP BY g.grantee) AS grantees)"
    )
    return (
        "SELECT a.classid, a.oid, a.sub, 'privileges', concat(a.type, ' ', a.identity),"
        " CASE WHEN a.sub > 0 THEN a.oid::regclass::text ELSE a.identity END, a.lines, '', '', a.xmin::text, ''"
        f" FROM (SELECT a.*, o.type, o.identity, {granted.format('a.acl')} AS lines, {granted.format('acldefault(a.letter, a.owner)')} AS usual"
        f" FROM ({rows}) AS a CROSS JOIN LATERAL pg_identify_object(a.classid, a.oid, a.sub) AS o"
        f" WHERE {_visible('a.oid')} AND (a.classid, a.oid) NOT IN (SELECT classid, objid FROM members)) AS a"
        " WHERE a.lines <> a.usual"
    )


def _visible(oid: str) -> str:
    """Returns the SQL condition that an identified object belongs to the files: it is neither the server's nor greylag's."""
    return f"coalesce(o.schema, '') !~ '^pg_' AND o.schema IS DISTINCT FROM 'information_schema' AND {oid} NOT IN (SELECT oid FROM hidden)"


# --- the rest ---------------------------------------------------------------------------------------------------------------------

_RARE = {
    "pg_statistic_ext": "pg_get_statisticsobjdef(x.oid)",
    "pg_event_trigger": "concat('ON ', x.evtevent, ' EXECUTE ', x.evtfoid::regprocedure, ' ', x.evtenabled)",
    "pg_publication": "concat_ws(' ', CASE WHEN x.puballtables THEN 'FOR ALL TABLES' END, CASE WHEN x.pubinsert THEN 'insert' END,"
    " CASE WHEN x.pubupdate THEN 'update' END, CASE WHEN x.pubdelete THEN 'delete' END, CASE WHEN x.pubtruncate THEN 'truncate' END)",
    "pg_collation": "''",
    "pg_cast": "''",
    "pg_operator": "''",
    "pg_opclass": "''",
    "pg_opfamily": "''",
    "pg_conversion": "''",
    "pg_ts_config": "''",
    "pg_ts_dict": "''",
    "pg_foreign_server": "''",
    "pg_foreign_data_wrapper": "''",
    "pg_language": "''",
    "pg_default_acl": "''",
}
"""Catalogues whose objects are rare: that each is there is recorded, and of some their definition too."""


def _others() -> str:
    rows = " UNION ALL ".join(
        f"SELECT '{catalogue}'::regclass::oid AS classid, x.oid, {definition} AS definition, x.xmin FROM {catalogue} AS x WHERE x.oid >= {FIRST_OWN}"
        for catalogue, definition in _RARE.items()
    )
    return (
        "SELECT x.classid, x.oid, 0, o.type, o.identity, coalesce(quote_ident(o.schema), ''), x.definition, '', '', x.xmin::text, ''"
        f" FROM ({rows}) AS x CROSS JOIN LATERAL pg_identify_object(x.classid, x.oid, 0) AS o"
        " WHERE (x.classid, x.oid) NOT IN (SELECT classid, objid FROM members)"
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
