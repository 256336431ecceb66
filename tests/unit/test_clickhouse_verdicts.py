"""The rule by which a statement's outcome is told, without a server: a small model of one stands in for it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.clickhouse import snapshots, verdicts, worlds
from migrator.clickhouse.reading import shapes, subjects
from migrator.clickhouse.snapshots import Mutation, Snapshot, Table
from migrator.clickhouse.worlds import Expected, Read, World
from migrator.planning.journal import Outcome

NAMES = ("a", "b", "c")
COLUMNS = ("x", "y", "z")


class Model:
    """A server of tables with columns, which counts what it makes and records mutations."""

    def __init__(self) -> None:
        self.tables: dict[str, tuple[str, frozenset[str]]] = {}
        self.mutations: dict[str, list[str]] = {}
        self.made = 0

    def execute(self, line: str) -> bool:
        """Executes a statement; whether it did."""
        words = line.split()
        if line.startswith("CREATE"):
            replaces, name = "REPLACE" in words, words[words.index("TABLE") + 1].removeprefix("d.")
            if name in self.tables and not replaces:
                return False
            self.made += 1
            uuid = f"{self.made}"
            self.tables[name] = (uuid, frozenset({"id"}))
            self.mutations[uuid] = []
        elif line.startswith("DROP"):
            return self.tables.pop(words[2].removeprefix("d."), None) is not None
        elif line.startswith("RENAME"):
            old, new = words[2].removeprefix("d."), words[4].removeprefix("d.")
            if old not in self.tables or new in self.tables:
                return False
            self.tables[new] = self.tables.pop(old)
        elif line.startswith("EXCHANGE"):
            old, new = words[2].removeprefix("d."), words[4].removeprefix("d.")
            if old not in self.tables or new not in self.tables or old == new:
                return False
            self.tables[old], self.tables[new] = self.tables[new], self.tables[old]
        else:
            name = words[2].removeprefix("d.")
            if name not in self.tables:
                return False
            uuid, columns = self.tables[name]
            altered = self.altered(columns, line)
            if altered is None:
                return False
            self.tables[name] = (uuid, altered)
            self.mutations[uuid] += [self.command(line)] if "UPDATE" in line else []
        return True

    @staticmethod
    def altered(columns: frozenset[str], line: str) -> frozenset[str] | None:
        column = re.search(r"COLUMN (\w+)", line)
        if column is None:
            return columns
        if ("ADD" in line) == (column[1] in columns):
            return None
        return columns | {column[1]} if "ADD" in line else columns - {column[1]}

    @staticmethod
    def command(line: str) -> str:
        return f"({line.split('(')[1].rstrip(')')})"

    @staticmethod
    def definition(columns: frozenset[str]) -> str:
        return f"CREATE TABLE d.t ({', '.join(sorted(columns))}) ENGINE = Log"

    def rehearse(self, definition: str | None, line: str) -> Expected:
        if definition is None:
            return Expected(self.definition(frozenset({"id"})))
        columns = self.altered(frozenset(re.findall(r"\w+", definition.split("(")[1].split(")")[0])), line)
        if columns is None:
            return Expected(refused="the column")
        return Expected(self.definition(columns), ((self.command(line),),) if "UPDATE" in line else ())

    def snapshot(self) -> Snapshot:
        tables = {("d", name): None for name in NAMES} | {
            ("d", name): Table(uuid, "Log", self.definition(columns)) for name, (uuid, columns) in self.tables.items()
        }
        mutations = {
            ("d", name): tuple(
                Mutation(f"mutation_{number}.txt", (text,), True)
                for number, text in enumerate(self.mutations[self.tables[name][0]], start=1)
            )
            if name in self.tables
            else ()
            for name in NAMES
        }
        return Snapshot(tables, {}, {}, mutations)


name = st.sampled_from(NAMES)
column = st.sampled_from(COLUMNS)
statement = st.one_of(
    name.map(lambda item: f"CREATE TABLE d.{item} (`id` Int8) ENGINE = Log"),
    name.map(lambda item: f"CREATE OR REPLACE TABLE d.{item} (`id` Int8) ENGINE = Log"),
    name.map(lambda item: f"DROP TABLE d.{item}"),
    st.tuples(name, name).map(lambda pair: f"RENAME TABLE d.{pair[0]} TO d.{pair[1]}"),
    st.tuples(name, name).map(lambda pair: f"EXCHANGE TABLES d.{pair[0]} AND d.{pair[1]}"),
    st.tuples(name, column).map(lambda pair: f"ALTER TABLE d.{pair[0]} (ADD COLUMN {pair[1]} Int8)"),
    st.tuples(name, column).map(lambda pair: f"ALTER TABLE d.{pair[0]} (DROP COLUMN {pair[1]})"),
    st.tuples(name, column).map(lambda pair: f"ALTER TABLE d.{pair[0]} (UPDATE id = {pair[1]} WHERE 1)"),
)


def read(line: str) -> Read:
    return Read(line, shapes.read(line, "d"), "d")


def judged(model: Model, before: Snapshot, done: list[str], line: str) -> verdicts.Judgement:
    world = worlds.of_snapshot(before)
    for item in done:
        world = worlds.after_done(world, read(item), model.rehearse)
    item = read(line)
    return verdicts.last_resort(item.shape, line, verdicts.decide(world, worlds.after(world, item, model.rehearse), model.snapshot(), item))


@settings(max_examples=300, deadline=None)
@given(st.lists(statement, max_size=6), st.lists(statement, max_size=6), statement, st.booleans())
def test_no_verdict_is_ever_wrong(earlier: list[str], run: list[str], line: str, executed: bool) -> None:
    """Whatever was there, whatever the run has done, whether the statement came through or not: the verdict is right, or it is a question."""
    model = Model()
    for item in earlier:
        model.execute(item)
    before = model.snapshot()
    done = [item for item in run if model.execute(item)]
    took_effect = executed and model.execute(line)
    verdict = judged(model, before, done, line)
    if verdict.outcome is Outcome.DONE:
        assert took_effect
    if verdict.outcome is Outcome.NOT_DONE and took_effect:
        assert verdict.repeat
        was = model.snapshot()
        model.execute(line)
        now = model.snapshot()
        assert [table and table.definition for table in was.tables.values()] == [
            table and table.definition for table in now.tables.values()
        ]
        assert was.mutations == now.mutations
    if verdict.outcome is Outcome.UNKNOWN:
        assert "EXCHANGE" in line or "OR REPLACE" in " ".join([line, *done]) or "EXCHANGE" in " ".join(done), "asked without need"


MODIFIED = "ALTER TABLE d.t (MODIFY COLUMN v UInt32)"
WAS = Table("1", "MergeTree", "CREATE TABLE d.t (`v` String) ENGINE = MergeTree ORDER BY tuple()")
WILL = replace(WAS, definition=WAS.definition.replace("String", "UInt32"))


def modified(*mutations: Mutation, table: Table | None = WILL, readable: bool = True) -> verdicts.Judgement:
    place = ("d", "t")
    world = worlds.of_snapshot(Snapshot({place: WAS}, {}, {}, {place: (Mutation("mutation_1.txt", (), True),)}))
    after = worlds.after(world, read(MODIFIED), lambda *_: Expected(WILL.definition, (("(MODIFY COLUMN `v` UInt32)",),)))
    now = Snapshot({place: table}, {}, {}, {place: mutations} if readable else None)
    return verdicts.decide(world, after, now, read(MODIFIED))


def test_change_of_a_type_is_done_when_its_mutation_is() -> None:
    assert modified(Mutation("mutation_2.txt", ("(MODIFY COLUMN `v` UInt32)",), True)).outcome is Outcome.DONE


def test_change_of_a_type_whose_mutation_fails_is_half_done() -> None:
    found = modified(Mutation("mutation_2.txt", ("(MODIFY COLUMN `v` UInt32)",), False, "Cannot parse"))
    assert (found.outcome, found.partly) == (Outcome.UNKNOWN, True)
    assert found.mutation is not None and found.mutation.fails
    assert "mutation_2.txt of d.t fails: Cannot parse" in found.evidence


def test_change_of_a_type_whose_mutation_was_killed_is_a_question() -> None:
    assert modified().outcome is Outcome.UNKNOWN


def test_older_mutation_that_fails_is_the_cause() -> None:
    older = Mutation("mutation_1.txt", ("(DELETE WHERE 1)",), False, "Cannot parse")
    found = modified(older, Mutation("mutation_2.txt", ("(MODIFY COLUMN `v` UInt32)",), False, "Cannot parse"))
    assert found.cause == older


@pytest.mark.parametrize(("table", "outcome"), [(WAS, Outcome.NOT_DONE), (WILL, Outcome.UNKNOWN), (None, Outcome.UNKNOWN)])
def test_without_a_right_to_the_mutations_only_the_definition_tells(table: Table | None, outcome: Outcome) -> None:
    assert modified(table=table, readable=False).outcome is outcome


def test_mutations_that_the_server_has_forgotten_are_a_question() -> None:
    line = "ALTER TABLE d.t (UPDATE v = 1 WHERE 1)"
    place = ("d", "t")
    world = replace(
        worlds.of_snapshot(Snapshot({place: WAS}, {}, {}, {place: ()})), registered={place: (("(UPDATE v = 1 WHERE 1)",),) * 150}
    )
    after = worlds.after(world, read(line), lambda *_: Expected(WAS.definition, (("(UPDATE v = 1 WHERE 1)",),)))
    kept = tuple(Mutation(f"mutation_{number}.txt", ("(UPDATE v = 1 WHERE 1)",), True) for number in range(52, 152))
    assert verdicts.decide(world, after, Snapshot({place: WAS}, {}, {}, {place: kept}), read(line)).outcome is Outcome.UNKNOWN


def test_nothing_is_told_where_nothing_was_recorded() -> None:
    line = "DROP TABLE d.t"
    found = verdicts.decide(World(), worlds.after(World(), read(line), lambda *_: Expected()), Snapshot({("d", "t"): None}), read(line))
    assert (found.outcome, found.evidence) == (Outcome.UNKNOWN, verdicts.NOTHING_RECORDED)


@pytest.mark.parametrize(
    ("line", "repeat"),
    [("TRUNCATE TABLE d.t", True), ("ALTER TABLE d.t (DROP PARTITION 1)", True), ("SELECT 1", False), ("GRANT SELECT ON d.t TO u", True)],
)
def test_what_may_be_executed_again_is_settled_without_the_catalogue(line: str, repeat: bool) -> None:
    found = verdicts.without_catalogue(shapes.read(line, "d"))
    assert found is not None and (found.outcome, found.repeat) == (Outcome.NOT_DONE, repeat)


def test_replacement_that_reads_what_it_replaces_is_not_repeated() -> None:
    line = "CREATE OR REPLACE TABLE d.t ENGINE = Memory AS SELECT * FROM d.t"
    unknown = verdicts.Judgement(Outcome.UNKNOWN, "")
    assert verdicts.last_resort(shapes.read(line, "d"), line, unknown) is unknown


@given(
    st.dictionaries(st.tuples(st.text(max_size=5), st.text(max_size=5)), st.none() | st.builds(Table, st.text(), st.text(), st.text())),
    st.dictionaries(st.text(max_size=5), st.none() | st.text()),
    st.none() | st.lists(st.text()),
)
def test_snapshot_is_read_back_as_it_was_written(
    tables: dict[tuple[str, str], Table | None], functions: dict[str, str | None], since: list[str] | None
) -> None:
    snapshot = Snapshot(tables, functions, {}, dict.fromkeys(tables, ()))
    assert snapshots.loaded(snapshots.dumped(snapshot, since)) == (snapshot, None if since is None else tuple(since))


@given(st.text())
def test_what_is_no_snapshot_is_none(text: str) -> None:
    assert snapshots.loaded(text) is None or text.strip().startswith("{")


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("-- one\nCREATE TABLE /* two */ t (a Int8)", {("db", "t")}),
        ("create table if not exists `a b`.t (a Int8) engine = Memory", {("a b", "t")}),
        ("RENAME TABLE a TO b, c.d TO e.f", {("db", "a"), ("db", "b"), ("c", "d"), ("e", "f")}),
        ("EXCHANGE TABLES a AND b", {("db", "a"), ("db", "b")}),
        ("CREATE TABLE a AS b.c", {("db", "a"), ("b", "c")}),
        ("DELETE FROM t WHERE 1", {("db", "t")}),
        ("CREATE INDEX i ON t (v) TYPE minmax", {("db", "t")}),
        ("INSERT INTO t VALUES (1)", set()),
        ("SELECT 1", set()),
    ],
)
def test_tables_of_a_statement_are_read_from_its_words(text: str, tables: set[tuple[str, str]]) -> None:
    assert subjects.of_texts([text], "db").tables == tables


def test_use_holds_for_what_follows_it() -> None:
    assert subjects.of_texts(["USE other;", "DROP TABLE t"], "db").tables == {("other", "t")}


@given(st.text())
def test_any_text_is_looked_at(text: str) -> None:
    subjects.of_texts([f"CREATE TABLE {text}", text], "db")
