"""docs/recipe.md says what exists: its table of parts is compared with the tree, its links with the files, its rows with each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "docs" / "recipe.md"
TEXT = RECIPE.read_text(encoding="utf-8")
PARTS = re.findall(r"^\| \[(?P<part>[^\]]+)\][^|]*\| `(?P<path>[^`]+)`[^|]*\| (?P<state>here|not here yet) \|$", TEXT, flags=re.MULTILINE)


@pytest.mark.parametrize(("part", "path", "state"), PARTS)
def test_what_is_said_to_be_here_is_here(part: str, path: str, state: str) -> None:
    truth = "here" if (ROOT / path).exists() else "not here yet"
    assert state == truth, f'docs/recipe.md, "What exists today": [{part}] ({path}) is {truth}; correct the row'


def test_every_part_in_brackets_is_in_the_table_of_parts() -> None:
    used = set(re.findall(r"\[([A-Za-z ]+)\](?!\()", TEXT))
    assert used == {part for part, _, _ in PARTS}


def test_every_link_leads_somewhere() -> None:
    headings = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)$", TEXT, flags=re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("#"):
            assert target[1:] in headings, target
        else:
            assert (RECIPE.parent / target).exists(), target


def test_contradictions_are_numbered_without_gaps_and_references_lead_to_one() -> None:
    numbered = [int(number) for number in re.findall(r"^\| R([0-9]+) \|", TEXT, flags=re.MULTILINE)]
    assert numbered == list(range(1, len(numbered) + 1))
    assert {int(number) for number in re.findall(r"\bR([0-9]+)\b", TEXT)} <= set(numbered)


def test_every_row_has_as_many_cells_as_its_table() -> None:
    width = 0
    for number, line in enumerate(TEXT.splitlines(), 1):
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not width or not cells or cells == width, f"docs/recipe.md:{number}"
        width = cells
