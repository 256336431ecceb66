"""`${VAR}` as goose expands it: every form of goose.md §2.6, errors included."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.goose import envsub

ENV = {"A": "alpha", "EMPTY": "", "B": "beta", "A_b": "longer", "U": "\u00e9\u20ac", "\u00e9t\u00e9": "summer", "D": "$A", "N1": "one"}


def expand(line: str) -> str:
    return envsub.interpolate(line.encode("utf-8", "surrogateescape"), ENV).line.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("$A", "alpha"), ("${A}", "alpha"), ("x${A}y", "xalphay"), ("$A_b", "longer"), ("${A}_b", "alpha_b"), ("$N1", "one"), ("$UNSET.", "."),
        ("${UNSET}", ""), ("${UNSET:-w}", "w"), ("${EMPTY:-w}", "w"), ("${A:-w}", "alpha"), ("${UNSET-w}", "w"), ("${EMPTY-w}", ""),
        ("${UNSET:-${EMPTY:-$B}}", "beta"), ("${UNSET:-a ${B} c}", "a beta c"), ("${EMPTY:--:{}}", "-:{}"), ("${A?m}", "alpha"), ("${EMPTY?m}", ""),
        ("${A:1}", "lpha"), ("${A:1:2}", "lp"), ("${A: -2}", "ha"), ("${A: -2:1}", "h"), ("${A:0:-1}", "alph"), ("${A:9}", ""), ("${A: -9}", "alpha"),
        ("${A:1:-9}", ""), ("${A:0:99}", "alpha"), ("${A: +1 }", "lpha"), ("$$", "$"), ("$$A", "$A"), ("\\$A", "$A"), ("\\\\$A", "\\\\alpha"),
        ("$(date)", "$(date)"), ("cost: 5$", "cost: 5$"), ("$", "$"), ("\\", "\\"), ("a\\nb", "a\\nb"), ("$\u00e9t\u00e9", "summer"), ("$D", "$A"),
        ("${UNSET:-\\}}", "\\}"), ("${UNSET:-$$}", "$"), ("${U:1}", "\udca9\u20ac"), ("no dollar", "no dollar"), ("", ""),
        ("\udcff", "\ufffd"), ("a\udce9\udc82b", "a\ufffd\ufffdb"), ("$A\udcff", "alpha\ufffd"), ("\ufffd$B", "\ufffdbeta"),
    ],
)  # fmt: skip
def test_forms_expand_as_in_goose(line: str, expected: str) -> None:
    assert expand(line) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("$1", "Expected identifier to start with a letter, got 1"),
        ("$.x", "Expected identifier to start with a letter, got ."),
        ("$'", "Expected identifier to start with a letter, got '"),
        ("a $ b", "Expected identifier to start with a letter, got  "),
        ("$_A", "Expected identifier to start with a letter, got _"),
        ("${ A }", "Expected identifier to start with a letter, got  "),
        ("${}", "Expected identifier to start with a letter, got }"),
        ("$\udcff", "Expected identifier to start with a letter, got \ufffd"),
        ("${", "Expected identifier to start with a letter, got \ufffd"),
        ("${A=x}", "Expected an operator, got ="),
        ("${A", "Expected an operator, got \ufffd"),
        ("${A:-x", "Expected brace expansion to end with }, got \ufffd"),
        ("${A:1:2", "Expected brace expansion to end with }, got \ufffd"),
        ("${A:?m}", 'Unable to parse offset: strconv.Atoi: parsing "?m": invalid syntax'),
        ("${A:+x}", 'Unable to parse offset: strconv.Atoi: parsing "+x": invalid syntax'),
        ("${A:}", 'Unable to parse offset: strconv.Atoi: parsing "": invalid syntax'),
        ("${A:1:b}", 'Unable to parse length: strconv.Atoi: parsing "b": invalid syntax'),
        ("${A:9223372036854775808}", 'Unable to parse offset: strconv.Atoi: parsing "9223372036854775808": value out of range'),
        ("${UNSET?}", "$UNSET: not set"),
        ("${UNSET?ask $B}", "$UNSET: ask beta"),
        ("${UNSET?a ${GONE?b}}", "$GONE: b"),
        ("$UNSET ${A?} $1", "Expected identifier to start with a letter, got 1"),
    ],
)
def test_bad_flow_mistakes_are_named_as_the_library_names_them(line: str, message: str) -> None:
    with pytest.raises(envsub.ExpansionError) as caught:
        expand(line)
    assert str(caught.value) == message


def test_what_was_put_in_is_told_and_defaults_of_the_file_are_not() -> None:
    found = envsub.interpolate(b"$A ${UNSET:-word $B} ${A:1:2} $GONE", ENV)
    assert found.line == b"alpha word beta lp "
    assert found.substitutions == (("A", "alpha"), ("B", "beta"), ("A", "lp"), ("GONE", ""))


def test_values_in_an_error_can_be_kept_out() -> None:
    with pytest.raises(envsub.ExpansionError, match=r"^\$UNSET: ask \$\{B\}$"):
        envsub.interpolate(b"$A ${UNSET?ask $B}", ENV, reveal=False)


def test_a_line_may_nest_as_deep_as_it_is_long() -> None:
    depth = 50_000
    assert envsub.interpolate(b"${X:-" * depth + b"word" + b"}" * depth, {}).line == b"word"
    with pytest.raises(envsub.ExpansionError, match=r"^\$X: not set$"):
        envsub.interpolate(b"${X?" * depth + b"}" * depth, {})


@given(st.binary(max_size=60).filter(lambda data: b"$" not in data))
def test_a_line_without_a_dollar_keeps_all_its_text(line: bytes) -> None:
    text = line.decode("utf-8", "surrogateescape")
    expected = "".join("\ufffd" if "\udc80" <= character <= "\udcff" else character for character in text)
    assert envsub.interpolate(line, {}).line == expected.encode()


@given(st.text(alphabet="abAB_19 .;'\\", max_size=30), st.text(max_size=20).filter(lambda text: text.isprintable()))
def test_a_value_is_put_in_as_it_stands_and_never_expanded_again(around: str, value: str) -> None:
    quiet = around.replace("\\", "")
    found = envsub.interpolate(f"{quiet}${{NAME}}{quiet}".encode(), {"NAME": value})
    assert found.line.decode() == f"{quiet}{value}{quiet}"
