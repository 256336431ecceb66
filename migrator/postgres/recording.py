"""`greylag_fact`: what the catalogue said of each object that a version made; written when a run ends, read by `verify` (facts.md §2).

Two of its rows are no facts. `home` names the database in which rows and stamps of the others hold, and how far goose's table was described when the
last run ended. A `note` is what a Down has noted, whose own record is gone.
"""

from __future__ import annotations

from collections.abc import Sequence

from migrator.engines import Finding, SchemaCheck
from migrator.planning import schema_comparison, schema_facts
from migrator.postgres import describing, failures, restoring
from migrator.postgres.history_tables import HistoryTables
from migrator.postgres.pipelines import Message, Rows, message
from migrator.postgres.session import Session

CREATE = """CREATE TABLE IF NOT EXISTS {described} (
  version bigint,
  direction text NOT NULL,
  classid oid NOT NULL,
  objid oid NOT NULL,
  sub integer NOT NULL,
  kind text NOT NULL,
  identity text NOT NULL,
  parent text NOT NULL,
  definition text NOT NULL,
  basis text NOT NULL,
  owner text NOT NULL,
  stamp text NOT NULL,
  server integer NOT NULL
)"""

_INTERNAL = "('home', 'note')"
_KEY = "classid, objid, sub, kind"

_OWNERS = "('table', 'foreign table', 'view', 'materialized view', 'type', 'domain')"
_PARTS = "(" + ", ".join(f"'{kind}'" for kind in sorted(schema_facts.PARTS)) + ")"

_HOME = (
    "(SELECT pg_catalog.concat(d.oid, '.', a.attrelid, '.', a.xmin) FROM pg_catalog.pg_attribute AS a, pg_catalog.pg_database AS d"
    " WHERE d.datname = pg_catalog.current_database() AND a.attrelid = {table}::regclass AND a.attnum = 1)"
)
"""Tells this database from a copy: pg_dump, pg_upgrade and CREATE DATABASE … TEMPLATE each give the version table's first column another row."""


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _home(where: HistoryTables) -> str:
    return _HOME.format(table=_literal(where.table))


def creating(where: HistoryTables) -> list[Message]:
    """Returns the messages that create the table, and give the tables of an earlier greylag their new columns."""
    return [
        message(CREATE.format(described=where.described)),
        message(f"ALTER TABLE {where.facts} ADD COLUMN IF NOT EXISTS xids xid[], ADD COLUMN IF NOT EXISTS gone text[]"),
        message(f"ALTER TABLE {where.journal} ADD COLUMN IF NOT EXISTS xids xid[], ADD COLUMN IF NOT EXISTS gone text[]"),
        message(
            f"INSERT INTO {where.described} SELECT NULL, 'up', 0, 0, 0, 'home', {_home(where)}, '', coalesce((SELECT pg_catalog.max(row_id)"
            f" FROM {where.facts}), 0)::text, '', '', '', pg_catalog.current_setting('server_version_num')::integer"
            f" WHERE NOT EXISTS (SELECT FROM {where.described} WHERE kind = 'home')"
        ),
    ]


# --- describing -------------------------------------------------------------------------------------------------------------------


def _mark(where: HistoryTables) -> str:
    return f"(SELECT coalesce(pg_catalog.max(definition::bigint), 0) FROM {where.described} WHERE kind = 'home')"


def _notes(where: HistoryTables) -> str:
    """Returns the query for what was noted and isn't described yet: version, direction, xids, gone."""
    return (
        f"SELECT version, 'up' AS direction, xids, gone FROM {where.facts} WHERE xids IS NOT NULL AND row_id > {_mark(where)}"
        f" UNION ALL SELECT version, direction, definition::xid[], basis::text[] FROM {where.described} WHERE kind = 'note'"
    )


_LEFT_MARKS = (
    "SELECT concat('1259:', a.attrelid, ':', a.attnum) AS place FROM pg_attribute AS a JOIN written AS w ON w.xid = a.xmin::text"
    f" WHERE a.attisdropped AND a.attrelid >= {describing.FIRST_OWN}"
    " UNION ALL SELECT concat('1259:', k.conindid) FROM pg_constraint AS k JOIN written AS w ON w.xid = k.xmin::text WHERE k.conindid <> 0"
)
"""Finds what was removed although no lock tells of it: a dropped column stays as a row that is marked as dropped, and an index that was given to a
constraint (USING INDEX) is recorded with that constraint from then on."""


def _describe(where: HistoryTables) -> str:
    """Returns the one statement that turns notes into facts.

    Of an object whose row one of the noted ids wrote the fact is made anew; the last writer is its version. A fact ends when its object was removed by
    a noted transaction. A fact of an object whose own rows nobody wrote gets the text that it has now: only names of others in it have changed.
    """
    same = " AND ".join(f"{{0}}.{column} = {{1}}.{column}" for column in ("classid", "objid", "sub", "kind"))
    return (
        f"{describing.with_now(where)}, noted AS MATERIALIZED ({_notes(where)}),"
        " written AS MATERIALIZED (SELECT x::text AS xid, n.version, n.direction, age(x) AS age FROM noted AS n, unnest(n.xids) AS x),"
        " removed AS MATERIALIZED (SELECT g AS place FROM noted AS n, unnest(n.gone) AS g"
        f"   UNION {_LEFT_MARKS}),"
        f" touched AS MATERIALIZED (SELECT DISTINCT ON (n.classid, n.objid, n.sub, n.kind) n.classid, n.objid, n.sub, n.kind, w.version, w.direction"
        "   FROM now AS n CROSS JOIN LATERAL unnest(string_to_array(n.stamp, ' ')) AS s(xid) JOIN written AS w ON w.xid = s.xid"
        "   ORDER BY n.classid, n.objid, n.sub, n.kind, w.age),"
        # a table that was there before, and that a version has changed, is recorded as that version left it
        " altered AS MATERIALIZED (SELECT n.identity, t.version, t.direction FROM touched AS t JOIN now AS n"
        f"   ON {same.format('n', 't')} WHERE t.sub = 0 AND t.kind IN {_OWNERS}"
        f"   AND (t.classid, t.objid, t.kind) NOT IN (SELECT classid, objid, kind FROM {where.described} WHERE sub = 0)),"
        " adopted AS MATERIALIZED (SELECT p.classid, p.objid, p.sub, p.kind, a.version, a.direction FROM altered AS a JOIN now AS p"
        f"   ON p.parent = a.identity WHERE p.kind IN {_PARTS}"
        "   AND (p.classid, p.objid, p.sub, p.kind) NOT IN (SELECT classid, objid, sub, kind FROM touched)),"
        # NO INHERIT deletes a row and leaves its mark on the columns alone
        " claimed AS MATERIALIZED (SELECT * FROM touched UNION ALL SELECT * FROM adopted"
        " UNION ALL SELECT DISTINCT ON (n.objid) n.classid, n.objid, 0, n.kind, t.version, t.direction"
        f"   FROM touched AS t JOIN {where.described} AS f ON f.classid = t.classid AND f.objid = t.objid AND f.sub = 0"
        "   JOIN now AS n ON n.classid = f.classid AND n.objid = f.objid AND n.kind = f.kind AND n.sub = 0 AND n.stamp <> f.stamp"
        "   WHERE t.kind = 'column' AND n.kind IN ('table', 'foreign table')"
        "   AND (n.classid, n.objid, 0, n.kind) NOT IN (SELECT classid, objid, sub, kind FROM touched)),"
        f" gone AS MATERIALIZED (SELECT f.ctid FROM {where.described} AS f WHERE f.kind NOT IN {_INTERNAL}"
        f"   AND NOT EXISTS (SELECT FROM now AS n WHERE {same.format('n', 'f')})"
        "   AND (concat(f.classid, ':', f.objid) IN (SELECT place FROM removed)"
        f"     OR f.kind = 'comment' AND EXISTS (SELECT FROM removed WHERE place = '{schema_facts.COMMENTS_REMOVED}')"
        "     OR f.kind = 'privileges' AND (f.classid, f.objid, f.sub) IN (SELECT classid, objid, sub FROM claimed WHERE kind <> 'comment')"
        "     OR concat(f.classid, ':', f.objid, ':', f.sub) IN (SELECT place FROM removed))),"
        f" replaced AS MATERIALIZED (SELECT f.ctid FROM {where.described} AS f JOIN claimed AS c ON {same.format('c', 'f')}"
        f"   UNION SELECT f.ctid FROM {where.described} AS f JOIN now AS n ON n.kind = f.kind AND n.identity = f.identity"
        f"   JOIN claimed AS c ON {same.format('c', 'n')}),"
        f" ended AS (DELETE FROM {where.described} WHERE ctid = ANY (ARRAY(SELECT ctid FROM gone UNION ALL SELECT ctid FROM replaced))),"
        f" refreshed AS (UPDATE {where.described} AS f SET identity = n.identity, parent = n.parent, definition = n.definition, basis = n.basis,"
        f"   owner = n.owner FROM now AS n WHERE {same.format('n', 'f')} AND f.stamp = n.stamp"
        "   AND (f.identity, f.parent, f.definition, f.basis, f.owner) IS DISTINCT FROM (n.identity, n.parent, n.definition, n.basis, n.owner)"
        f"   AND (f.classid, f.objid, f.sub, f.kind) NOT IN (SELECT {_KEY} FROM claimed))"
        f" INSERT INTO {where.described} SELECT c.version, c.direction, n.classid, n.objid, n.sub, n.kind, n.identity, n.parent, n.definition, n.basis,"
        " n.owner, n.stamp, current_setting('server_version_num')::integer"
        f" FROM now AS n JOIN claimed AS c ON {same.format('c', 'n')}"
    )


def _finish(where: HistoryTables) -> list[Message]:
    """Says that everything noted is described."""
    return [
        message(f"DELETE FROM {where.described} WHERE kind = 'note'"),
        message(
            f"UPDATE {where.described} SET definition = coalesce((SELECT max(row_id) FROM {where.facts}), 0)::text, identity = {_home(where)},"
            " server = current_setting('server_version_num')::integer WHERE kind = 'home'"
        ),
    ]


_PLANNING = "SELECT pg_catalog.set_config('jit', 'off', true), pg_catalog.set_config('enable_nestloop', 'off', true)"
"""Compiling the query would cost ten times its execution; and how many objects there are is not known to the planner, which would go through them
once for each of them."""


def _settled(messages: Sequence[Message]) -> list[Message]:
    """Puts messages into one transaction under the fixed settings."""
    opening = [message("BEGIN"), message(describing.SETTINGS), message(_PLANNING)]
    return [*opening, *messages, message("COMMIT")]


def describe(session: Session, where: HistoryTables) -> None:
    """Describes what was noted since the last run that did. Raises what the connection raises; nothing is lost then: the next run does it."""
    try:
        session.batch([*restoring.messages(session), *_settled([message(_describe(where)), *_finish(where)])])
    except failures.ServerFailure as failure:
        session.rollback()
        raise failures.of_server(failure, "to read the catalogue") from None


def places(where: HistoryTables) -> str:
    """Returns SQL for the places of everything recorded: work that has already given up its locks may have removed any of it."""
    return (
        f"(SELECT pg_catalog.array_agg(DISTINCT f.classid || ':' || CASE WHEN f.sub > 0 THEN f.objid || ':' || f.sub ELSE f.objid::text END)"
        f" FROM {where.described} AS f WHERE f.objid <> 0)"
    )


def look(where: HistoryTables) -> Message:
    """Asks whether the facts are this database's, and whether event triggers watch it: one row, for `arrive`."""
    return message(
        f"SELECT coalesce((SELECT identity = {_home(where)} FROM {where.described} WHERE kind = 'home'), true),"
        " EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D')"
    )


def arrive(session: Session, where: HistoryTables, looked: Rows | None) -> bool:
    """Makes sure, before a run executes, that the facts are this database's. Returns whether the database has event triggers.

    Args:
        looked: the answer to `look`, where it was asked together with something else.
    """
    try:
        at_home, watched = (looked or session.batch([look(where)])[0])[0]
    except failures.ServerFailure as failure:
        raise failures.of_server(failure, "to read the facts of the schema") from None
    if at_home != "t":
        come_home(session, where)
    return watched == "t"


def come_home(session: Session, where: HistoryTables) -> None:
    """Ties the facts of a restored copy to the rows that their objects have here; of what was noted elsewhere and not described nothing is known."""
    try:
        tie = (
            f"{describing.with_now(where)} UPDATE {where.described} AS f SET classid = n.classid, objid = n.objid, sub = n.sub,"
            " stamp = CASE WHEN n.definition = f.definition AND n.kind <> 'privileges' THEN n.stamp ELSE '' END"
            " FROM now AS n WHERE n.kind = f.kind AND n.identity = f.identity"
        )
        forget = f"UPDATE {where.facts} SET xids = NULL, gone = NULL WHERE row_id > {_mark(where)}"
        untie = f"UPDATE {where.described} SET objid = 0, stamp = '' WHERE kind NOT IN {_INTERNAL}"
        session.batch(_settled([message(untie), message(tie), message(forget), *_finish(where)]))
    except failures.ServerFailure as failure:
        session.rollback()
        raise failures.of_server(failure, "to read the catalogue") from None


def record_all(session: Session, where: HistoryTables) -> str:
    """Makes what is there what is recorded (baseline): what no version made, and what was changed since, belongs to no version; the rest keeps its own.

    Returns what there is to say about it.
    """
    before = read(session, where).compare()
    take = (
        f"{describing.with_now(where)}, kept AS MATERIALIZED (SELECT f.ctid, n.classid, n.objid, n.sub, n.kind FROM {where.described} AS f"
        " JOIN now AS n ON n.kind = f.kind AND n.identity = f.identity AND n.definition = f.definition),"
        f" ended AS (DELETE FROM {where.described} WHERE kind <> 'home' AND ctid <> ALL (ARRAY(SELECT ctid FROM kept))),"
        f" tied AS (UPDATE {where.described} AS f SET classid = n.classid, objid = n.objid, sub = n.sub, parent = n.parent, basis = n.basis,"
        "   owner = n.owner, stamp = n.stamp, server = current_setting('server_version_num')::integer FROM now AS n JOIN kept AS k"
        "   ON k.classid = n.classid AND k.objid = n.objid AND k.sub = n.sub AND k.kind = n.kind WHERE f.ctid = k.ctid)"
        f" INSERT INTO {where.described} SELECT NULL, 'up', n.classid, n.objid, n.sub, n.kind, n.identity, n.parent, n.definition, n.basis, n.owner,"
        f" n.stamp, current_setting('server_version_num')::integer FROM now AS n WHERE ({_KEY}) NOT IN (SELECT {_KEY} FROM kept)"
    )
    proven = f"UPDATE {where.facts} SET xids = '{{}}' WHERE xids IS NULL"
    try:
        session.batch(_settled([message(take), message(proven), *_finish(where)]))
        count = session.query(f"SELECT pg_catalog.count(*) FROM {where.described} WHERE kind NOT IN {_INTERNAL}")[0][0]
    except failures.ServerFailure as failure:
        session.rollback()
        raise failures.of_server(failure, "to record what the catalogue says") from None
    changed = f"; {len(before.differences)} difference(s) count as they are now" if before.differences else ""
    return f"recorded {count} object(s) of the schema{changed}"


# --- reading ------------------------------------------------------------------------------------------------------------------------


_MOVED = frozenset({"XX000", failures.UNDEFINED_TABLE, "42704", "42883"})
"""What the server says when another session drops an object while its definition is read ("cache lookup failed"): the functions that write definitions
look at the newest catalogue, not at the query's."""

_MOST_TRIES = 3


def read(session: Session, where: HistoryTables) -> schema_comparison.Schema:
    """Reads the recorded facts and the schema as found. Writes nothing: what a broken run noted and did not describe is described in memory.

    Raises LoginFailed (no SELECT on the tables) and what the connection raises.
    """
    tried = 0
    while True:
        tried += 1
        try:
            return _read(session, where)
        except failures.ServerFailure as failure:
            session.rollback()
            if failure.sqlstate not in _MOVED or tried == _MOST_TRIES:
                raise failures.of_server(failure, "to read the facts of the schema") from None


def check(session: Session, where: HistoryTables) -> SchemaCheck:
    """Compares what is recorded with what is found, as `engines.Database.check_schema` promises."""
    schema = read(session, where)
    found = schema.compare()
    return SchemaCheck(
        findings=tuple(map(finding, found.differences)),
        checked=found.checked,
        foreign=found.foreign,
        notes=found.notes,
        unproven=schema.unproven,
    )


def finding(difference: schema_comparison.Difference) -> Finding:
    """Returns the difference as `verify` tells it."""
    return Finding(difference.subject, difference.state, difference.author, difference.expected, difference.found, difference.version)


def _read(session: Session, where: HistoryTables) -> schema_comparison.Schema:
    names = (where.table, where.facts, where.described)
    there = session.query("SELECT " + ", ".join(f"pg_catalog.to_regclass(${number}) IS NOT NULL" for number in (1, 2, 3)), *names)[0]
    if there != ("t", "t", "t"):  # an older greylag, goose, or nobody
        applied = session.query(f"SELECT DISTINCT version_id FROM {where.table} WHERE version_id > 0 ORDER BY 1") if there[0] == "t" else []
        return schema_comparison.Schema((), (), at_home=False, unproven=tuple(int(row[0] or 0) for row in applied), complete=False)
    answers = session.batch(
        [
            message("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
            message(describing.SETTINGS),
            message(_PLANNING),
            message(f"SELECT version, direction, {describing.COLUMNS}, server FROM {where.described} WHERE kind NOT IN {_INTERNAL}"),
            message(f"{describing.query(where)}"),
            message(f"SELECT identity = {_home(where)} FROM {where.described} WHERE kind = 'home'"),
            message(f"SELECT n.version, n.direction, n.xids::text[]::text, n.gone::text FROM ({_notes(where)}) AS n"),
            message(f"WITH written AS (SELECT x::text AS xid FROM ({_notes(where)}) AS n, unnest(n.xids) AS x) {_LEFT_MARKS}"),
            message(
                f"SELECT f.version FROM {where.facts} AS f JOIN {where.table} AS t ON t.id = f.row_id AND t.version_id = f.version WHERE f.xids IS NULL"
            ),
            message(f"SELECT DISTINCT version_id FROM {where.table} WHERE is_applied"),
            message("COMMIT"),
        ]
    )
    recorded, found, home, notes, marks, unproven, applied = answers[3:10]
    at_home = bool(home) and home[0][0] == "t"
    known = tuple(_recorded(row) for row in recorded)
    now = tuple(_found(row, session.server_version) for row in found)
    undescribed = tuple(_note(row) for row in notes)
    removed = schema_facts.Note(0, "", frozenset(), frozenset(row[0] or "" for row in marks))
    missing = {int(row[0] or 0) for row in unproven}
    if not at_home:
        missing |= {note.version for note in undescribed if note.direction == "up"}
        undescribed = ()
    return schema_comparison.Schema(
        recorded=schema_facts.described(known, now, (*undescribed, removed)) if undescribed else known,
        found=now,
        at_home=at_home,
        unproven=tuple(sorted(missing)),
        undescribed=tuple(sorted({note.version for note in undescribed})),
        applied=frozenset(int(row[0] or 0) for row in applied),
    )


def _recorded(row: Sequence[str | None]) -> schema_facts.SchemaFact:
    version, direction, classid, objid, sub, kind, identity, parent, definition, basis, owner, stamp, server = row
    return schema_facts.SchemaFact(
        kind=kind or "",
        identity=identity or "",
        parent=parent or "",
        definition=definition or "",
        basis=basis or "",
        owner=owner or "",
        row="" if objid == "0" else f"{classid}:{objid}:{sub}",
        stamp=stamp or "",
        server=int(server or 0),
        version=None if version is None else int(version),
        direction=direction or "",
    )


def _found(row: Sequence[str | None], server: int) -> schema_facts.SchemaFact:
    *described, state = row
    fact = _recorded([None, "up", *described, str(server)])
    return schema_facts.in_state(fact, state or "")


def _note(row: Sequence[str | None]) -> schema_facts.Note:
    version, direction, xids, gone = (item or "" for item in row)
    return schema_facts.Note(int(version), direction, frozenset(_items(xids)), frozenset(_items(gone)))


def _items(array: str) -> list[str]:
    """Returns the items of an array's text; none of ours needs quotes."""
    return [item.strip('"') for item in array.strip("{}").split(",") if item]
