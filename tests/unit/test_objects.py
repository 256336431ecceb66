"""What must exist after all effects (migrator.planning.objects.fold)."""

from __future__ import annotations

from migrator.planning.objects import Action, Effect, Kind, ObjectName, fold

TABLE = ObjectName(Kind.TABLE, "", "users")
INDEX = ObjectName(Kind.INDEX, "", "users_email", "users")
COLUMN = ObjectName(Kind.COLUMN, "", "email", "users")


def created(*names: ObjectName) -> list[Effect]:
    return [Effect(Action.CREATE, name) for name in names]


def test_what_was_created_must_exist() -> None:
    assert fold(created(TABLE, INDEX)) == {TABLE, INDEX}


def test_dropping_a_table_takes_what_belongs_to_it() -> None:
    assert fold([*created(TABLE, INDEX, COLUMN), Effect(Action.DROP, TABLE)]) == frozenset()


def test_dropping_an_index_leaves_its_table() -> None:
    assert fold([*created(TABLE, INDEX), Effect(Action.DROP, INDEX)]) == {TABLE}


def test_renaming_a_table_moves_what_belongs_to_it() -> None:
    people = ObjectName(Kind.TABLE, "", "people")
    assert fold([*created(TABLE, COLUMN), Effect(Action.RENAME, TABLE, people)]) == {
        people,
        ObjectName(Kind.COLUMN, "", "email", "people"),
    }


def test_dropping_a_schema_takes_everything_in_it() -> None:
    inside = ObjectName(Kind.TABLE, "app", "users")
    schema = ObjectName(Kind.SCHEMA, "", "app")
    assert fold([*created(schema, inside, TABLE), Effect(Action.DROP, schema)]) == {TABLE}


def test_created_again_after_a_drop_exists() -> None:
    assert fold([*created(TABLE), Effect(Action.DROP, TABLE), *created(TABLE)]) == {TABLE}


def test_a_drop_that_does_not_name_the_table_finds_the_index() -> None:
    assert fold([*created(TABLE, INDEX), Effect(Action.DROP, ObjectName(Kind.INDEX, "", "users_email"))]) == {TABLE}


def test_dropping_a_column_leaves_an_equal_name_of_another_table() -> None:
    other = ObjectName(Kind.COLUMN, "", "email", "people")
    assert fold([*created(COLUMN, other), Effect(Action.DROP, COLUMN)]) == {other}


def test_clickhouse_drops_a_view_with_drop_table() -> None:
    view = ObjectName(Kind.MATERIALIZED_VIEW, "db", "per_day")
    assert fold([*created(view), Effect(Action.DROP, ObjectName(Kind.TABLE, "db", "per_day"))]) == frozenset()
