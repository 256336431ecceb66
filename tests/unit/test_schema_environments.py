"""Schemas of two environments, told in digests and compared (migrator.planning.schema_environments)."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from migrator.planning.schema_comparison import Schema
from migrator.planning.schema_environments import WITHHELD, Digested, Environments, Substitutions, compare_digested, digest, digested, read
from migrator.planning.schema_facts import COLUMN_ORDER, SchemaFact

TABLE = SchemaFact("table", "public.t", "public", version=1)
COLUMN = SchemaFact("column", "public.t.a", "public.t", "text DEFAULT 'quiet word'::text", version=2)
INDEX = SchemaFact("index", "public.t_a_idx", "public.t", "CREATE INDEX ON public.t USING btree (a)", version=2)
VIEW = SchemaFact("view", "public.v", "public", " SELECT t.a FROM public.t", "a text FROM public.t.a", version=3)
RECORDED = (TABLE, COLUMN, INDEX, VIEW)
NOTHING = Substitutions()


def told(
    *found: SchemaFact,
    recorded: tuple[SchemaFact, ...] = RECORDED,
    server: str = "18.4",
    given: Substitutions = NOTHING,
    bundle: str = "b1",
) -> Digested:
    return digested(Schema(recorded, found, at_home=True), bundle, "postgres", server, given)


def compared(ours: Digested, theirs: Digested) -> Environments:
    there = read(json.loads(json.dumps(theirs.rows())))  # as Prefect's API gives it back
    assert there is not None
    return compare_digested(ours, there, "release", "dev")


def test_two_environments_of_the_same_files_are_alike() -> None:
    assert compared(told(*RECORDED), told(*RECORDED)) == Environments(compared=4)


def test_no_definition_is_told_and_another_bundle_has_other_digests() -> None:
    rows = told(*RECORDED).rows()
    assert "quiet word" not in json.dumps(rows) and "SELECT" not in json.dumps(rows)
    assert {row["digest"] for row in rows}.isdisjoint(row["digest"] for row in told(*RECORDED, bundle="b2").rows()[1:])
    assert digest(json.loads(json.dumps(rows))) == told(*RECORDED).digest != told(*RECORDED[:3]).digest


def test_an_object_that_no_version_made_is_named_with_its_environment() -> None:
    index = SchemaFact("index", "public.by_hand", "public.t", "CREATE INDEX ON public.t USING btree (b)")
    table = SchemaFact("table", "public.scratch", "public")
    column = SchemaFact("column", "public.scratch.a", "public.scratch", "integer")
    found = compared(told(*RECORDED), told(*RECORDED, index, table, column))
    assert found.differences == (
        "index public.by_hand: in dev alone (no version made it)",
        "table public.scratch: in dev alone (no version made it)",
    )
    assert compared(told(*RECORDED, index, table), told(*RECORDED)).differences[0] == (
        "index public.by_hand: in release alone (no version made it)"
    )
    assert compared(told(*RECORDED, index), told(*RECORDED, index)).differences == ()


def test_what_was_altered_by_hand_and_then_recorded_by_baseline_is_a_difference() -> None:
    altered = replace(COLUMN, definition="character varying(9)", version=None)
    found = compared(told(*RECORDED), told(TABLE, altered, INDEX, VIEW, recorded=(TABLE, altered, INDEX, VIEW)))
    assert found.differences == ("column public.t.a: not the same in dev and release (made by version 2)",)


def test_a_table_that_is_missing_is_told_once_with_the_version_that_made_it() -> None:
    found = compared(told(*RECORDED), told(VIEW, recorded=(VIEW,)))
    assert found.differences == ("table public.t: in release alone (made by version 1)",)


def test_grants_and_partitions_are_each_environments_own() -> None:
    grants = SchemaFact("privileges", "table public.t", "public.t", "reader: SELECT", version=1)
    part = SchemaFact("table", "public.t_1", "public.t", "PARTITION OF public.t DEFAULT")
    of_part = SchemaFact("column", "public.t_1.a", "public.t_1", "text")
    assert compared(told(*RECORDED), told(*RECORDED, grants, part, of_part, recorded=(*RECORDED, grants))).differences == ()


def test_a_name_that_the_server_chose_may_be_another() -> None:
    other = replace(INDEX, identity="public.t_a_idx1")
    found = compared(told(*RECORDED), told(TABLE, COLUMN, other, VIEW, recorded=(TABLE, COLUMN, other, VIEW)))
    assert found.differences == () and "t_a_idx1" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "basis", "server", "alike"),
    [
        (" SELECT a FROM t", VIEW.basis, "15.18", True),
        (" SELECT a FROM t", VIEW.basis, "18.1", False),
        (" SELECT another text", VIEW.basis, "15.18", True),
        (" SELECT b FROM t", "b text FROM public.t.b", "15.18", False),
    ],
)
def test_a_view_is_compared_as_far_as_major_versions_print_it_alike(text: str, basis: str, server: str, alike: bool) -> None:
    view = replace(VIEW, definition=text, basis=basis)
    found = compared(told(*RECORDED), told(TABLE, COLUMN, INDEX, view, server=server))
    assert (found.differences == ()) is alike


def test_what_files_with_envsub_made_or_name_has_no_digest() -> None:
    given = Substitutions.of(
        {
            2: b"-- +goose Up\nALTER TABLE t ADD a text;",
            3: b"-- +goose Up\n-- +goose envsub on\nCREATE VIEW v AS SELECT '${WHERE}';",
            5: b"-- +goose ENVSUB ON\n-- +goose Up\nALTER TABLE T ALTER a SET DEFAULT '${WORD}';",
        }
    )
    rows = {str(row["object"]): row["digest"] for row in told(*RECORDED, given=given).rows()}
    assert rows["public.t.a"] == rows["public.v"] == rows["public.t_a_idx"] == WITHHELD
    elsewhere = (replace(TABLE, definition="UNLOGGED"), replace(COLUMN, definition="text DEFAULT 'other'::text"), INDEX, VIEW)
    assert compared(told(*RECORDED, given=given), told(*elsewhere, given=given)).differences == ()
    assert compared(told(*RECORDED, given=given), told(TABLE, COLUMN, INDEX, given=given)).differences == (
        "view public.v: in release alone (made by version 3)",
    )
    untouched = SchemaFact("table", "public.other", "public", "UNLOGGED", version=7)
    assert told(untouched, recorded=(untouched,), given=given).objects[0].definition != WITHHELD


def test_the_order_of_columns_is_told_where_the_columns_are_the_same() -> None:
    order = SchemaFact(COLUMN_ORDER, "t.*", "t", "a, b", version=1)
    swapped, more = replace(order, definition="b, a"), replace(order, definition="a, b, c")
    table, column = SchemaFact("table", "t", version=1), SchemaFact("column", "t.c", "t", "String")
    assert compared(told(table, order, recorded=(table, order)), told(table, swapped, recorded=(table, order))).differences == (
        "order of the columns of t: not the same in dev and release (made by version 1)",
    )
    assert compared(told(table, order, recorded=(table, order)), told(table, more, column, recorded=(table, order))).differences == (
        "column t.c: in dev alone (no version made it)",
    )


def test_another_bundle_and_versions_without_facts_are_not_compared() -> None:
    assert "at bundle b2 alone" in compared(told(*RECORDED), told(*RECORDED, bundle="b2")).incomparable
    unproven = digested(Schema((), (), at_home=False, unproven=(1,)), "b1", "postgres", "18.4", NOTHING)
    assert "dev has not recorded" in compared(told(*RECORDED), unproven).incomparable
    older = digested(Schema((), (), at_home=False, complete=False), "b1", "postgres", "18.4", NOTHING)
    assert "greylag baseline" in compared(older, told(*RECORDED)).incomparable


@pytest.mark.parametrize("rows", [[], [{"result": "nothing"}], [{"kind": "table"}], [{"kind": "bundle", "basis": "x", "version": 0}]])
def test_rows_that_are_something_else_are_read_as_nothing(rows: list[dict[str, object]]) -> None:
    assert read(rows) is None
