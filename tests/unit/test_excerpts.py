"""What errors show of a file."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from migrator.goose import annotations, excerpts


def test_a_line_of_a_file_is_underlined_below_the_lines_before_it() -> None:
    assert excerpts.of_lines(["a\n", "\tb\n"], "\tc d\n", 10) == " 8 | a\n 9 | \tb\n10 | \tc d\n   | \t^^^"


def test_control_characters_and_odd_bytes_keep_their_columns() -> None:
    assert excerpts.of_lines([], "a\x1b[31m\udcffz", 1) == "1 | a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}z\n  | ^^^^^^^^"


@given(st.text(alphabet="ab ;\n\t'é\udcff", max_size=80), st.integers(0, 90))
def test_every_place_of_a_statement_has_its_line_in_the_file(text: str, offset: int) -> None:
    content = f"-- +goose Up\n-- +goose StatementBegin\nSELECT {text};\n-- +goose StatementEnd\n"
    statement = annotations.parse(content.encode("utf-8", "surrogateescape"), "up", {}).statements[0]
    found = excerpts.position_of(statement, min(offset, len(statement.text)))
    line = content.split("\n")[found.line - 1]
    assert found.column is not None and found.column <= len(line) + 1
    shown = excerpts.excerpt(statement, found).splitlines()
    assert any(item.startswith(f"{found.line} |") for item in shown)
    assert sum(set(item.partition("|")[2].strip()) == {"^"} and item.startswith(" ") for item in shown) >= 1
