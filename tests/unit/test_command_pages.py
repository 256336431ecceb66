"""docs/commands says of each command what the code does."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from migrator import errors
from migrator.cli import extensions, flags, verbs

PAGES = Path(__file__).parents[2] / "docs" / "commands"
EVERYWHERE = (PAGES / "README.md").read_text(encoding="utf-8")


VERBS = [*verbs.ALL, *extensions.names()]


def page(verb: str) -> str:
    return (PAGES / f"{verb}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_a_page_that_ends_with_what_it_never_does(verb: str) -> None:
    text = page(verb)
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert text.startswith(f"# {verb}\n")
    assert headings[-2:] == ["Exit codes", "What it never does"]
    assert f"greylag {verb}" in text or re.search(rf"^greylag .*\b{verb}\b", text, re.MULTILINE)


@pytest.mark.parametrize("verb", VERBS)
def test_every_exit_code_of_a_page_is_one_of_greylags(verb: str) -> None:
    rows = re.findall(r"^\| ([0-9, ]+) \|", page(verb).partition("## Exit codes")[2], re.MULTILINE)
    found = {int(code) for row in rows for code in row.split(",")}
    assert found and found <= {int(code) for code in errors.ExitCode}
    assert 0 in found


@pytest.mark.parametrize("flag", flags.ALL, ids=lambda flag: flag.name)
def test_every_flag_is_explained_where_it_counts(flag: flags.Flag) -> None:
    named = re.compile(rf"(?<![\w-])-{re.escape(flag.name)}\b")
    for verb in flag.verbs:
        assert named.search(page(verb)) or named.search(EVERYWHERE), verb
    if not flag.verbs:
        assert named.search(EVERYWHERE) or any(named.search(page(verb)) for verb in verbs.ALL)


@pytest.mark.parametrize("verb", list(verbs.ALL))
def test_no_page_names_a_flag_that_the_command_refuses(verb: str) -> None:
    known = {flag.name: flag for flag in flags.ALL}
    options = re.findall(r"^\| (`-.+?) \|", page(verb).partition("## Exit codes")[0], re.MULTILINE)
    for name in re.findall(r"`-([a-z][a-z-]*)", " ".join(options)):
        assert name in known, name
        assert not known[name].verbs or verb in known[name].verbs, name


@pytest.mark.parametrize("verb", extensions.names())
def test_a_page_of_the_checkouts_commands_names_their_flags_and_no_others(verb: str) -> None:
    module, _, attribute = extensions.find(extensions.VERBS)[verb].partition(":")
    taken = {flag.name for flag in getattr(import_module(module), attribute).flags}
    text = page(verb).partition("## Exit codes")[0]
    named = set(re.findall(r"`-([a-z][a-z-]*)", " ".join(re.findall(r"^\| (`-.+?) \|", text, re.MULTILINE))))
    assert named <= taken | {"json"}
    assert {name for name in taken if not re.search(rf"(?<![\w-])-{name}\b", text)} == set()
