"""Writes the kill matrix into docs/faults.md, between two marks. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from migrator.targets import Engine
from tests.faults.matrix import mix, verdicts
from tests.faults.matrix.verdicts import Verdict

BEGIN, END = "<!-- kill matrix: written by `make faults PART=engine` -->", "<!-- end of the kill matrix -->"
SETTLED_BAR = 0.99
"""At least this share is settled without a question, of all but the questions that were expected."""


def replace(page: str, found: Mapping[Engine, Sequence[verdicts.Ending]], seed: int) -> str:
    """Returns the page with the table of these endings in place of the one before."""
    return between(page, BEGIN, END, _section(found, seed))


def between(page: str, begin: str, end: str, text: str) -> str:
    """Returns the page with this text between two marks, in place of what was there."""
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    tail = tail.lstrip()
    return f"{head.rstrip()}\n\n{begin}\n{text}\n{end}\n" + (f"\n{tail}" if tail else "")


def summary(found: Mapping[Engine, Sequence[verdicts.Ending]]) -> tuple[str, bool]:
    """Returns a line for each engine, and whether its bars are met."""
    lines, met = [], True
    for engine, endings in found.items():
        table = verdicts.rows(endings)
        wrong = sum(row.counts[kind] for row in table for kind in (Verdict.WRONG, Verdict.STUCK, Verdict.BROKEN))
        share = verdicts.settled_share(table)
        met &= wrong == 0 and share >= SETTLED_BAR
        kills = sum(row.kills for row in table)
        ended = sum(item.happened and item.exits[0] != 0 for item in endings)
        said = f"{wrong} wrong, stuck or broken, {share:.1%} settled without a question"
        lines.append(f"{engine}: {kills} interruptions ({ended} of them ended the run), {said}")
    return "\n".join(lines), met


def _section(found: Mapping[Engine, Sequence[verdicts.Ending]], seed: int) -> str:
    lines = [f"Measured {datetime.now(UTC):%Y-%m-%d}, seed {seed}."]
    for engine, endings in found.items():
        table = verdicts.rows(endings)
        text, _ = summary({engine: endings})
        asks = {item.kind: item.asks for item in mix.of(engine) if item.asks}
        lines += ["", f"### {'PostgreSQL' if engine is Engine.POSTGRES else 'ClickHouse'}", "", f"{text.partition(': ')[2]}.", ""]
        lines += [
            "| class | kills | settled | asked | wrong | stuck | traceback | exit codes of the interrupted run |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in sorted(table, key=lambda row: row.kind):
            codes = ", ".join(_code(code) for code in row.exits)
            counts = [str(row.counts[kind]) for kind in Verdict]
            note = f" ({row.expected_questions} expected: {asks[row.kind]})" if row.expected_questions else ""
            counts[1] += note
            lines.append(f"| {row.kind} | {row.kills} | {' | '.join(counts)} | {codes} |")
    return "\n".join(lines)


def _code(code: int) -> str:
    return {-9: "SIGKILL", -15: "SIGTERM"}.get(code, str(code))
