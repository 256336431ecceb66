"""The kill matrix: a short form of `make faults PART=engine` on real servers, and its judgement, which is pure."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from migrator.targets import Engine
from tests.faults.matrix import interruptions, mix, report, verdicts
from tests.faults.matrix.lanes import Lane
from tests.faults.matrix.verdicts import Ending, Verdict

SHORT = {Engine.POSTGRES: 15, Engine.CLICKHOUSE: 8}
"""Interruptions of each engine in the suite. On ClickHouse each waits for the lock of a run that died."""


@pytest.mark.parametrize("engine", [*Engine])
def test_whatever_is_interrupted_is_done_or_asked_afterwards_and_never_wrong(engine: Engine, tmp_path: Path) -> None:
    sets = mix.of(engine)
    with Lane(engine, tmp_path / "lane") as lane:
        found = [lane.drawn(number, sets[number], random.Random(f"short {engine} {number}")) for number in range(SHORT[engine])]
    assert [item for item in found if item.verdict in (Verdict.WRONG, Verdict.STUCK, Verdict.BROKEN)] == []
    assert sum(item.happened for item in found) >= SHORT[engine] // 2


def ending(*exits: int, same: bool = True, traceback: bool = False, happened: bool = True, expected: bool = False) -> Ending:
    return Ending(1, "CREATE", "SIGKILL", exits, happened, same, traceback, expected)


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (ending(-9, 0), Verdict.SETTLED),
        (ending(-9, 0, same=False), Verdict.WRONG),
        (ending(0, 0, same=False), Verdict.WRONG),
        (ending(21, 15), Verdict.ASKED),
        (ending(21, 14), Verdict.STUCK),
        (ending(21, 20, 20, 20, 20, 20), Verdict.STUCK),
        (ending(1, 0, traceback=True), Verdict.BROKEN),
    ],
)
def test_a_verdict_compares_what_was_said_with_what_is_there(seen: Ending, verdict: Verdict) -> None:
    assert seen.verdict is verdict


def test_only_what_was_interrupted_counts_and_expected_questions_count_apart() -> None:
    rows = verdicts.rows([ending(-9, 0), ending(0, 0, happened=False), ending(-9, 15, expected=True)])
    assert [(row.kind, row.kills, row.counts[Verdict.SETTLED], row.expected_questions) for row in rows] == [("CREATE", 2, 1, 1)]
    assert verdicts.settled_share(rows) == 1.0


def test_a_seed_means_the_same_interruptions_everywhere() -> None:
    first, again = ([interruptions.draw(random.Random(number), 10_000, 20_000) for number in range(50)] for _ in range(2))
    assert first == again
    assert {item.fault for item in first} >= {interruptions.Fault.KILL, interruptions.Fault.CUT, interruptions.Fault.TERMINATE}


@pytest.mark.parametrize("engine", [*Engine])
def test_the_mix_names_each_class_once_and_says_beforehand_which_may_ask(engine: Engine) -> None:
    kinds = [item.kind for item in mix.of(engine)]
    assert len(kinds) == len(set(kinds)) >= 14
    assert len([item for item in mix.of(engine) if item.asks]) <= 2


def test_the_page_keeps_everything_but_the_table() -> None:
    page = f"# Faults\n\nbefore\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n"
    written = report.replace(page, {Engine.POSTGRES: [ending(-9, 0)]}, seed=1)
    assert written.startswith("# Faults\n\nbefore\n")
    assert written.endswith("after\n")
    assert "old" not in written
    assert "| CREATE | 1 | 1 | 0 | 0 | 0 | 0 | SIGKILL |" in written
