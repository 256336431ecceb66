"""Go's `%q` and Go's numbers; `tests/interop` compares them with Go itself."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.goose import goquote, gounicode


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("SELECT 1;", '"SELECT 1;"'), ("", '""'), ('say "x"', '"say \\"x\\""'), ("a\\b", '"a\\\\b"'), ("\a\b\f\n\r\t\v", '"\\a\\b\\f\\n\\r\\t\\v"'),
        ("\x00\x1b\x7f", '"\\x00\\x1b\\x7f"'), ("caf\u00e9 \u6f22", '"caf\u00e9 \u6f22"'), ("\u00a0\u00ad\u200b\ufeff", '"\\u00a0\\u00ad\\u200b\\ufeff"'),
        ("\U0001f600", '"\U0001f600"'), ("\U000e0001", '"\\U000e0001"'), ("\ufffd", '"\ufffd"'), (b"\xff\xc3", '"\\xff\\xc3"'), ("\udcff", '"\\xff"'),
        ("\u2028\u3000", '"\\u2028\\u3000"'), ("\u0cf3\U00031350", '"\u0cf3\U00031350"'), ("\u0897\U0002ebf0", '"\\u0897\\U0002ebf0"'),
    ],
)  # fmt: skip
def test_text_is_quoted_as_go_quotes_it(text: str | bytes, quoted: str) -> None:
    assert goquote.quote(text) == quoted


@given(st.binary(max_size=60))
def test_bytes_and_their_text_are_quoted_alike_and_the_result_is_one_line(data: bytes) -> None:
    quoted = goquote.quote(data)
    assert quoted == goquote.quote(gounicode.decode(data))
    assert quoted.encode()
    assert not any(ord(character) < 0x20 for character in quoted)


@given(st.text(alphabet=st.characters(codec="ascii", min_codepoint=32), max_size=60))
def test_printable_ascii_can_be_read_back_as_json(text: str) -> None:
    assert json.loads(goquote.quote(text).replace("\\x7f", "\\u007f")) == text


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("00001", 1), ("+5", 5), ("-7", -7), ("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63))],
)
def test_numbers_are_read_as_go_reads_them(text: str, number: int) -> None:
    assert goquote.parse_int(text) == number


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "invalid syntax"), ("+", "invalid syntax"), ("1_0", "invalid syntax"), ("0x1", "invalid syntax"), (" 1", "invalid syntax"),
        ("\u0661", "invalid syntax"),
        ("9223372036854775808", "value out of range"), ("99999999999999999999x", "value out of range"), ("1844674407370955161x", "invalid syntax"),
    ],
)  # fmt: skip
def test_bad_flow_other_text_is_refused_in_gos_words(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match="strconv") as caught:
        goquote.parse_int(text)
    assert str(caught.value) == f"strconv.ParseInt: parsing {goquote.quote(text)}: {reason}"


@given(st.text(alphabet=gounicode.SPACE_CHARACTERS + "a\x1c\u200b\udcff\udc85", max_size=12))
def test_trimming_follows_gos_white_space(text: str) -> None:
    data = gounicode.encode(text)
    expected = gounicode.encode(text.strip(gounicode.SPACE_CHARACTERS))
    assert gounicode.trim(data) == expected
    start, end = gounicode.trim_bounds(data, 0, len(data))
    assert data[start:end] == expected
