"""Go's flag syntax, flags anywhere (goose.md §5.1): the same words mean the same to goose and to greylag."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.cli import flags, go_flags


def _parse(*arguments: str) -> go_flags.Values:
    return go_flags.parse(list(arguments), flags.ALL)


@pytest.mark.parametrize("arguments", [("-dir", "m"), ("--dir", "m"), ("-dir=m",), ("--dir=m",)])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_flag_is_found_in_any_form_at_any_place(arguments: tuple[str, ...], place: int) -> None:
    words = ["postgres", "URL", "up"]
    found = go_flags.parse([*words[:place], *arguments, *words[place:]], flags.ALL)
    assert found.string("dir") == "m"
    assert found.words == words


def test_a_boolean_takes_its_value_only_after_an_equals_sign() -> None:
    found = _parse("-v", "false", "-s=false", "-allow-missing=T")
    assert (found.boolean("v"), found.boolean("s"), found.boolean("allow-missing")) == (True, False, True)
    assert found.words == ["false"]


def test_a_bare_double_dash_stays_a_word_after_the_first_word() -> None:
    assert _parse("create", "--", "-v").words == ["create", "--", "-v"]
    found = _parse("--", "-v")  # Go's first pass swallows this one, goose's second pass reads on
    assert (found.words, found.boolean("v")) == ([], True)


def test_a_value_may_begin_with_a_dash() -> None:
    assert _parse("-table", "-x", "up").string("table") == "-x"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-nope"], "flag provided but not defined: -nope"),
        (["up", "-nope=1"], "flag provided but not defined: -nope"),
        (["---v"], "bad flag syntax: ---v"),
        (["-=v"], "bad flag syntax: -=v"),
        (["-dir"], "flag needs an argument: -dir"),
        (["-timeout", "5"], 'invalid value "5" for flag -timeout: parse error'),
        (["-v=yes"], 'invalid boolean value "yes" for -v: parse error'),
    ],
)
def test_bad_flags_are_refused_in_gos_words(arguments: list[str], message: str, goose_binary: Path) -> None:
    with pytest.raises(go_flags.FlagError) as refusal:
        go_flags.parse(arguments, flags.ALL)
    assert str(refusal.value) == message
    told = subprocess.run([goose_binary, *arguments], capture_output=True, encoding="utf-8", check=False)
    assert told.returncode == 2
    assert told.stderr.splitlines()[0] == message


@pytest.mark.parametrize("word", ["-help", "--help"])
def test_help_is_asked_for_in_gos_way(word: str) -> None:
    with pytest.raises(go_flags.HelpRequested):
        _parse(word)


def test_every_flag_of_goose_is_known(goose_binary: Path) -> None:
    told = subprocess.run([goose_binary, "-h"], capture_output=True, encoding="utf-8", check=True).stderr
    theirs = set(re.findall(r"^  -([a-z-]+)", told, re.MULTILINE))
    assert theirs == {flag.name for flag in flags.GOOSE}


@given(st.lists(st.sampled_from(["up", "-v", "--", "-s=false", "-dir", "m", "-", "--table=t", "x"]), max_size=8))
def test_no_word_is_lost_and_none_is_read_twice(arguments: list[str]) -> None:
    try:
        found = go_flags.parse(arguments, flags.ALL)
    except go_flags.FlagError as error:
        assert str(error) == "flag needs an argument: -dir"
        return
    iterator = iter(arguments)
    assert all(word in iterator for word in found.words)


def test_a_repeated_flag_keeps_all_values_where_it_may_be_repeated_else_the_last() -> None:
    found = _parse("-done", "1:2", "-done", "3:4", "-dir", "a", "-dir", "b")
    assert found.strings("done") == ("1:2", "3:4")
    assert found.string("dir") == "b"
