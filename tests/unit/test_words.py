"""A function's docstring begins with a verb in the third person: "Returns…", "Raises…", "Tells whether…".

Held here is the rule of the first word alone: none of the words with which a docstring describes a thing instead of saying what a function does.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("migrator", "tasks", "flows", "deployments", "sandbox")
QUESTIONS = frozenset({"What", "Whether", "Where", "How", "When", "Who", "Which"})


def found(text: str) -> Iterator[tuple[int, str]]:
    """The line and the first sentence of each function's docstring that begins with a question word."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            words = (ast.get_docstring(node) or "").split()
            if words and words[0].rstrip(",:;.") in QUESTIONS:
                yield node.lineno, f"{node.name}: {' '.join(words[:8])}"


def on_floor(floor: str) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line}: {words}"
        for path in sorted((ROOT / floor).rglob("*.py"))
        for line, words in found(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("floor", FLOORS)
def test_a_functions_docstring_begins_with_a_verb_and_not_with_a_question_word(floor: str) -> None:
    assert not on_floor(floor)


@pytest.mark.parametrize("docstring", ["What it does.", "Whether it is so.", "Where: a path.", "How\n    it ends."])
def test_a_question_word_is_found_in_methods_too(docstring: str) -> None:
    assert list(found(f'class Thing:\n    async def act(self):\n        """{docstring}"""\n'))


@pytest.mark.parametrize("docstring", ["Returns what it does.", "Tells whether it is so.", "Whatever.", ""])
def test_a_verb_passes(docstring: str) -> None:
    assert not list(found(f'def act():\n    """{docstring}"""\n'))
