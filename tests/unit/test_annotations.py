"""How a migration file is split: goose's rules, one table each (goose.md §2). `tests/interop` compares with goose itself."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator import errors
from migrator.goose import annotations as migration_text
from migrator.goose import splitting
from migrator.goose.annotations import Substitution, masked
from tests.interop import parser_cases

UP = "-- +goose Up\n"


def texts(body: str | bytes, direction: str = "up", **env: str) -> list[str]:
    data = UP.encode() + (body.encode() if isinstance(body, str) else body)
    return [item.text for item in migration_text.parse(data, direction, env).statements]


def failure(text: str | bytes, direction: str = "up", **env: str) -> errors.ParseError:
    with pytest.raises(errors.ParseError) as caught:
        migration_text.parse(text, direction, env, path="migrations/1_x.sql")
    return caught.value


@pytest.mark.parametrize(
    "line",
    [
        "-- +goose Up", "--+goose Up", "-- +gooseUp", "-- Up +goose", "-- +goose Up --", "--\t+goose\tUp\t", "-- +goose up", "-- +goose UP",
        "-- +goose uP\r", "--\u00a0+goose\u2003Up", "-- +goose Up\u3000",
    ],
)  # fmt: skip
def test_every_spelling_of_an_annotation_that_goose_accepts_is_accepted(line: str) -> None:
    parsed = migration_text.parse(f"{line}\nSELECT 1;\n", "up", {})
    assert [item.text for item in parsed.statements] == ["SELECT 1;"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("-- +goose Up -- note", '"Up  note" not supported: invalid annotation'),
        ("-- +goose Up;", '"Up;" not supported: invalid annotation'),
        ("-- foo +goose Up", '"foo  Up" not supported: invalid annotation'),
        ("-- see +goose docs", '"see  docs" not supported: invalid annotation'),
        ("-- +goose NO  TRANSACTION", '"NO  TRANSACTION" not supported: invalid annotation'),
        ("-- +goose", "empty annotation"),
        ("-- +goose -- ", "empty annotation"),
        ("-- +goose Up +goose Up", "\"  Up +goose Up\" contains multiple '+goose' annotations: invalid annotation"),
        (" -- +goose Up", '" -- +goose Up" contains leading whitespace: invalid annotation'),
        ("\t-- +goose Up", '"\\t-- +goose Up" contains leading whitespace: invalid annotation'),
    ],
)
def test_a_comment_that_mentions_goose_and_is_no_annotation_is_an_error(line: str, reason: str) -> None:
    error = failure(f"-- note\n{line}\n")
    assert str(error).endswith(f": {reason}")
    assert str(error).startswith("failed to parse annotation line ")
    assert error.where == errors.Location("migrations/1_x.sql", 2)
    assert error.hint


def test_the_long_s_of_unicode_folds_like_go_does() -> None:
    assert texts("-- +goose \u017ftatementBegin\na;\nb\n-- +goose StatementEnd\n") == ["a;\nb"]


def test_the_mark_of_goose_is_found_in_lower_case_only() -> None:
    assert "unexpected state 0" in str(failure("-- +GOOSE UP\nSELECT 1;\n"))
    assert texts("SELECT 1; -- +goose Down\nSELECT 2;\n") == ["SELECT 1; -- +goose Down", "SELECT 2;"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("END; -- c\nSELECT 2;", ["END; -- c", "SELECT 2;"]),
        ("END ;\nSELECT 2;", ["END ;", "SELECT 2;"]),
        ("SELECT 1;--c\nSELECT 2;", ["SELECT 1;--c\nSELECT 2;"]),
        ("SELECT 1; /* c */\nSELECT 2;", ["SELECT 1; /* c */\nSELECT 2;"]),
        ("SELECT 1; # c\nSELECT 2;", ["SELECT 1; # c\nSELECT 2;"]),
        ("VALUES ('a -- b');\nSELECT 2;", ["VALUES ('a -- b');\nSELECT 2;"]),
        ("SELECT 1; SELECT 2;", ["SELECT 1; SELECT 2;"]),
        (";", [";"]),
        ("SELECT 1;\u00a0\u2003\nSELECT 2;", ["SELECT 1;", "SELECT 2;"]),
        ("SELECT 1;\x1c\nSELECT 2;", ["SELECT 1;\x1c\nSELECT 2;"]),
        ("/* c */\nSELECT 1;", ["/* c */\nSELECT 1;"]),
        ("-- dropped\n\nSELECT\n-- kept\n\n1; -- kept\n-- dropped\n", ["SELECT\n-- kept\n\n1; -- kept"]),
        ("SELECT 'a;\nb';", ["SELECT 'a;", "b';"]),
        ("SELECT 1;\n\n\n", ["SELECT 1;"]),
        ("", []),
    ],
)
def test_a_line_ends_a_statement_where_goose_says_so(body: str, expected: list[str]) -> None:
    assert texts(body) == expected


def test_only_a_newline_splits_lines_and_one_carriage_return_before_it_is_dropped() -> None:
    assert texts(b"SELECT\r\n1;\r\nSELECT\r2;\r\n") == ["SELECT\n1;", "SELECT\r2;"]
    assert texts(b"SELECT '\r\r\n';\r\n") == ["SELECT '\r\n';"]
    assert texts("SELECT\u20281;\u0085\n") == ["SELECT\u20281;"]


def test_bytes_that_are_no_text_pass_through() -> None:
    parsed = migration_text.parse(UP.encode() + b"SELECT '\xff\x00\xed\xa0\x80';\n")
    assert parsed.statements[0].text.encode("utf-8", "surrogateescape") == b"SELECT '\xff\x00\xed\xa0\x80';"


def test_text_and_its_bytes_are_parsed_alike() -> None:
    body = UP + "SELECT '\u20ac \udcff';\n"
    assert migration_text.parse(body) == migration_text.parse(body.encode("utf-8", "surrogateescape"))


def test_blocks_keep_semicolons_and_sections_are_told_apart() -> None:
    begin, end = "-- +goose StatementBegin\n", "-- +goose StatementEnd\n"
    body = f"{begin}-- within\na;\n\nb;\n{end}c;\n-- +goose Down\nd;\n{begin}e;f\n{end}"
    assert texts(body) == ["a;\n\nb;", "c;"]
    assert texts(body, "down") == ["d;", "e;f"]


@pytest.mark.parametrize("where", ["first", "between", "within", "last"])
def test_no_transaction_counts_wherever_it_stands(where: str) -> None:
    note = "-- +goose NO TRANSACTION\n"
    place = {name: note if name == where else "" for name in ("first", "between", "within", "last")}
    text = f"{place['first']}{UP}SELECT 1;\n{place['between']}SELECT\n{place['within']}2;\n-- +goose Down\n{place['last']}"
    for direction in ("up", "down"):
        assert migration_text.parse(text, direction).use_transaction is False
    assert [item.text for item in migration_text.parse(text).statements] == ["SELECT 1;", "SELECT\n2;"]
    assert migration_text.parse(UP).use_transaction is True


def test_an_empty_block_swallows_the_next_line_as_in_goose() -> None:
    block = "-- +goose StatementBegin\n-- only a comment\n-- +goose StatementEnd\n"
    assert texts(f"{block}SELECT 1;\nSELECT 2;\n") == ["", "SELECT 2;"]
    assert texts(f"{block}CREATE TABLE t (\n  a int\n);\n") == ["", "a int\n);"]


def test_statements_know_their_lines() -> None:
    body = "\n-- c\nSELECT 1;\n\nCREATE TABLE t (\n  a int\n); -- c\n  \n SELECT 2;\n-- +goose StatementBegin\n\nDO $$\n;\n$$;\n\n-- +goose StatementEnd\n"
    found = migration_text.parse(UP + body).statements
    assert [(item.first_line, item.last_line) for item in found] == [(4, 4), (6, 8), (10, 10), (13, 15)]
    assert found[1].line_of(found[1].text.index("a int")) == 7


def test_lines_stay_right_behind_an_annotation_inside_a_statement() -> None:
    found = migration_text.parse(UP + "SELECT\n  1,\n-- +goose NO TRANSACTION\n  2,\n  3;\n").statements[0]
    assert found.text == "SELECT\n  1,\n  2,\n  3;"
    assert (found.first_line, found.last_line) == (2, 6)
    assert [found.line_of(found.text.index(digit)) for digit in "123"] == [3, 5, 6]


def test_lines_stay_right_behind_a_value_of_several_lines() -> None:
    text = "-- +goose ENVSUB ON\n" + UP + "SELECT $MANY,\n  2;\nSELECT 3;\n"
    first, second = migration_text.parse(text, env={"MANY": "'a\nb\nc'"}).statements
    assert first.text == "SELECT 'a\nb\nc',\n  2;"
    assert (first.first_line, first.last_line, second.first_line) == (3, 4, 5)
    assert first.line_of(first.text.index("2")) == 4
    assert first.line_of(first.text.index("c'")) == 3


def test_source_is_the_text_of_the_file_and_substitutions_are_known() -> None:
    text = UP + "-- +goose ENVSUB ON\nALTER ROLE app\n  PASSWORD '${PASSWORD}' -- $NOTE\n;\nSELECT 1;\n"
    first, second = migration_text.parse(text, env={"PASSWORD": "hunter2", "NOTE": "x"}).statements
    assert first.text == "ALTER ROLE app\n  PASSWORD 'hunter2' -- x\n;"
    assert first.source == "ALTER ROLE app\n  PASSWORD '${PASSWORD}' -- $NOTE\n;"
    assert first.substitutions == (Substitution("PASSWORD", "hunter2"), Substitution("NOTE", "x"))
    assert second.source == second.text
    assert second.substitutions == ()


def test_a_value_that_ends_with_a_semicolon_ends_the_statement() -> None:
    assert texts("-- +goose ENVSUB ON\nSELECT ${LAST}\nSELECT 2;\n", LAST="1;") == ["SELECT 1;", "SELECT 2;"]


def test_errors_do_not_quote_substituted_values_unless_asked() -> None:
    text = UP + "-- +goose ENVSUB ON\nSELECT '${SECRET}'\n"
    error = failure(text, SECRET="hunter2")
    assert "${SECRET}" in str(error)
    assert "hunter2" not in error.describe()
    with pytest.raises(errors.ParseError, match="hunter2"):
        migration_text.parse(text, env={"SECRET": "hunter2"}, reveal=True)
    message = UP + "-- +goose ENVSUB ON\nSELECT ${MISSING?ask for $SECRET}\n"
    assert "$MISSING: ask for ${SECRET}:" in str(failure(message, SECRET="hunter2"))
    early = "-- +goose ENVSUB ON\nSELECT '${SECRET}'\n"
    assert "hunter2" not in failure(early, SECRET="hunter2").describe()


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("syntax error near hunter2", {"P": "hunter2"}, "syntax error near ${P}"),
        ("aXbXc", {"S": "X"}, "aXbXc"),
        ("a X b", {"S": "X"}, "a ${S} b"),
        ("abcdef and abcd", {"SHORT": "abcd", "LONG": "abcdef"}, "${LONG} and ${SHORT}"),
        ("nothing", {"E": "", "B": "  "}, "nothing"),
        ("LINE 2: second line", {"M": "first line\nsecond line"}, "LINE 2: ${M}"),
        ("'it''s me'", {"Q": "it's me"}, "'${Q}'"),
        ("P value", {"P": "value", "V": "P"}, "${V} ${P}"),
    ],
)
def test_masking_replaces_values_by_their_names(text: str, values: dict[str, str], expected: str) -> None:
    assert masked(text, [Substitution(name, value) for name, value in values.items()]) == expected


@given(st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_every_line_of_a_statement_is_found_in_the_file_where_it_says(seed: int) -> None:
    case = parser_cases.cases(1, seed)[0]
    try:
        statements = migration_text.parse(case.file, case.direction, {}).statements
    except errors.ParseError:
        return
    lines = [line.removesuffix(b"\r") for line in case.file.split(b"\n")]
    for item in statements:
        assert 1 <= item.first_line <= item.last_line <= len(lines)
        if item.text != item.source or not item.text:
            continue
        offset = 0
        for part in item.text.split("\n"):
            assert part.encode("utf-8", "surrogateescape") in lines[item.line_of(offset) - 1]
            offset += len(part) + 1


def test_a_large_file_is_split_without_copying_it_line_by_line() -> None:
    rows = b"(1234567890, 'some text of a row', 'more'),\n" * 200_000
    data = UP.encode() + b"INSERT INTO t VALUES\n" + rows + b"(0, '', '');\nSELECT 1;\n"
    tracemalloc.start()
    try:
        count = sum(1 for _ in splitting.Splitter("up", {}).split(data))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 2
    assert peak < 1.5 * len(data)


def test_shuffled_sections_never_leak_into_the_other_direction() -> None:
    chance = random.Random(7)
    for _ in range(200):
        ups = [f"SELECT {chance.randrange(100)};" for _ in range(chance.randrange(4))]
        downs = [f"DROP {chance.randrange(100)};" for _ in range(chance.randrange(4))]
        text = UP + "\n".join(ups) + "\n-- +goose Down\n" + "\n".join(downs)
        assert [item.text for item in migration_text.parse(text).statements] == ups
        assert [item.text for item in migration_text.parse(text, "down").statements] == downs
