"""Facts of the schema compared with what is found (migrator.planning.schema_facts, schema_comparison)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from migrator.planning import schema_comparison, schema_environments, schema_facts
from migrator.planning.schema_comparison import Comparison, Schema
from migrator.planning.schema_facts import Note, SchemaFact
from migrator.postgres import describing, evidence, recording

TABLE = SchemaFact("table", "public.t", "public", owner="app", row="1259:1:0", stamp="10", server=180004, version=1)
COLUMN = SchemaFact("column", "public.t.a", "public.t", "integer NOT NULL", row="1259:1:1", stamp="10", server=180004, version=1)
INDEX = SchemaFact(
    "index", "public.t_a_idx", "public.t", "CREATE INDEX ON public.t USING btree (a)", row="1259:2:0", stamp="11", server=180004, version=2
)
VIEW = SchemaFact(
    "view",
    "public.v",
    "public",
    "SELECT t.a FROM public.t",
    "a integer FROM public.t.a",
    row="1259:3:0",
    stamp="12",
    server=150018,
    version=3,
)
RECORDED = (TABLE, COLUMN, INDEX)


def compared(*found: SchemaFact, recorded: tuple[SchemaFact, ...] = RECORDED, at_home: bool = True) -> Comparison:
    return Schema(recorded, found, at_home=at_home).compare()


def told(comparison: Comparison) -> list[tuple[str, str]]:
    return [(item.subject, item.state) for item in comparison.differences]


def renamed(fact: SchemaFact, old: str, new: str, **more: str) -> SchemaFact:
    values = {name: getattr(fact, name).replace(old, new) for name in ("identity", "parent", "definition")}
    return replace(fact, **{**values, **more})


def test_what_is_as_it_was_recorded_is_no_difference() -> None:
    assert compared(*RECORDED) == Comparison(checked=3)


def test_a_difference_names_object_expected_found_and_version() -> None:
    found = compared(TABLE, replace(COLUMN, definition="bigint NOT NULL", stamp="99"), INDEX)
    (difference,) = found.differences
    assert str(difference) == "column public.t.a: expected integer NOT NULL, found bigint NOT NULL (made by version 1)"
    assert recording.finding(difference).document() == {
        "subject": "column public.t.a",
        "state": "changed",
        "reason": "made by version 1",
        "expected": "integer NOT NULL",
        "found": "bigint NOT NULL",
        "version": 1,
    }


def test_of_a_dropped_table_its_columns_and_indexes_are_not_told_again() -> None:
    assert told(compared()) == [("table public.t", "missing")]


def test_a_renamed_table_is_told_once() -> None:
    moved = tuple(renamed(item, "public.t", "public.u") for item in (COLUMN, INDEX))
    assert told(compared(renamed(TABLE, "public.t", "public.u", stamp="99"), *moved)) == [("table public.t", "renamed")]


def test_text_that_changed_without_the_row_being_written_follows_from_anothers_rename() -> None:
    assert told(compared(TABLE, replace(COLUMN, definition="public.feeling"), INDEX)) == []


def test_in_a_copy_rows_and_stamps_prove_nothing() -> None:
    assert told(compared(TABLE, replace(COLUMN, definition="public.feeling"), INDEX, at_home=False)) == [("column public.t.a", "changed")]
    assert told(compared(*(replace(item, row="1:2:3", stamp="9", owner="other") for item in RECORDED), at_home=False)) == []


def test_a_column_that_no_version_made_changes_its_table_and_an_index_is_foreign() -> None:
    column = SchemaFact("column", "public.t.b", "public.t", "text", row="1259:1:2", stamp="99")
    index = SchemaFact("index", "public.t_b", "public.t", "CREATE INDEX ON public.t USING btree (b)", row="1259:9:0", stamp="99")
    table = SchemaFact("table", "public.other", "public", row="1259:8:0", stamp="99")
    of_other = SchemaFact("column", "public.other.a", "public.other", "text", row="1259:8:1", stamp="99")
    elsewhere = SchemaFact("table", "cron.job", "cron", row="1259:7:0", stamp="99")
    found = compared(*RECORDED, column, index, table, of_other, elsewhere)
    assert told(found) == [("column public.t.b", "unrecorded")]
    assert found.foreign == ("index public.t_b", "table public.other")


def test_a_partition_of_a_recorded_parent_is_its_own() -> None:
    parts = (
        SchemaFact("table", "public.t_1", "public.t", "PARTITION OF public.t DEFAULT", row="1259:5:0", stamp="99"),
        SchemaFact("column", "public.t_1.a", "public.t_1", "integer NOT NULL", row="1259:5:1", stamp="99"),
        SchemaFact("index", "public.t_1_a_idx", "public.t_1", "CREATE INDEX ON public.t_1 USING btree (a)", row="1259:6:0", stamp="99"),
    )
    assert compared(*RECORDED, *parts) == Comparison(checked=3)


def test_an_index_that_is_broken_is_invalid_and_one_that_waits_is_a_note() -> None:
    assert told(compared(TABLE, COLUMN, replace(INDEX, state="invalid"))) == [("index public.t_a_idx", "invalid")]
    waiting = compared(TABLE, COLUMN, replace(INDEX, state="waits"))
    assert told(waiting) == [] and "waits for an index of each partition" in waiting.notes[0]


def test_one_more_grantee_is_foreign_and_a_lost_grant_is_a_difference() -> None:
    grants = SchemaFact("privileges", "table public.t", "public.t", "reader: SELECT", row="1259:1:0", stamp="10", server=180004, version=1)
    recorded = (*RECORDED, grants)
    more = compared(*RECORDED, replace(grants, definition="reader: SELECT; writer: INSERT, SELECT"), recorded=recorded)
    assert told(more) == [] and more.foreign == ("table public.t: writer: INSERT, SELECT",)
    assert told(compared(*RECORDED, replace(grants, definition="writer: INSERT", stamp="99"), recorded=recorded)) == [
        ("table public.t", "changed")
    ]
    assert told(compared(*RECORDED, recorded=recorded)) == [("table public.t", "missing")]
    assert told(compared(*RECORDED, replace(grants, definition="PUBLIC: SELECT; reader: SELECT", stamp="99"), recorded=recorded)) == [
        ("table public.t", "changed")
    ]


def test_what_all_includes_in_a_later_major_version_is_no_difference() -> None:
    old = SchemaFact("privileges", "table public.t", "public.t", "reader: DELETE, SELECT", server=160014)
    new = replace(old, definition="reader: DELETE, MAINTAIN, SELECT", server=180004)
    assert schema_comparison.same(old, new) and not schema_comparison.same(replace(old, server=180000), new)


@pytest.mark.parametrize(
    ("found", "server", "equal"),
    [
        ("SELECT a FROM public.t", 160014, True),
        ("SELECT a FROM public.t", 150018, False),
        ("SELECT b FROM public.t", 160014, False),
    ],
)
def test_a_views_text_is_compared_as_far_as_major_versions_print_it_alike(found: str, server: int, equal: bool) -> None:
    basis = VIEW.basis if " a " in found else "b integer FROM public.t.b"
    assert schema_comparison.same(VIEW, replace(VIEW, definition=found, basis=basis, server=server)) is equal


def test_a_name_that_the_server_chose_may_be_another_in_another_environment() -> None:
    there = replace(INDEX, identity="public.t_a_idx1")
    found = schema_environments.compare(RECORDED, (TABLE, COLUMN, there))
    assert told(found) == [] and "t_a_idx1" in found.notes[0]
    named = replace(INDEX, identity="public.mine")
    assert told(schema_environments.compare(RECORDED, (TABLE, COLUMN, named))) == [
        ("index public.t_a_idx", "missing"),
        ("index public.mine", "unrecorded"),
    ]


def test_what_a_broken_run_noted_is_described_as_the_next_run_will() -> None:
    now = (replace(TABLE, stamp="20"), replace(COLUMN, identity="public.t.b", stamp="20"))
    notes = [Note(5, "up", frozenset({"20"}), frozenset({"1259:2"}))]
    facts = schema_facts.described(RECORDED, now, notes)
    assert [(item.identity, item.version) for item in facts] == [("public.t", 5), ("public.t.b", 5)]
    assert Schema(facts, now, at_home=True).compare() == Comparison(checked=2)


def test_each_catalogue_that_is_described_is_looked_at_for_the_ids_of_subtransactions() -> None:
    assert set(describing._RARE) <= set(evidence._WHOLE)
