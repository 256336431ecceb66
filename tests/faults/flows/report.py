"""Writes the flows' table into docs/faults.md, between two marks. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from migrator.targets import Engine
from tests.faults.flows.cases import Ending, Step, Verdict, Victim
from tests.faults.matrix import report

BEGIN, END = "<!-- flows: written by `make faults PART=flows` -->", "<!-- end of flows -->"
NAMES = {Engine.POSTGRES: "PostgreSQL", Engine.CLICKHOUSE: "ClickHouse"}


def replace(page: str, found: Mapping[Engine, Sequence[Ending]], seed: int) -> str:
    """Returns the page with the table of these endings in place of the one before."""
    return report.between(page, BEGIN, END, table(found, seed))


def summary(found: Mapping[Engine, Sequence[Ending]]) -> tuple[str, bool]:
    """Returns a line for each engine, and whether all its cases were run and ended well."""
    wanted = len(Step) * len(Victim)
    lines, met = [], True
    for engine, endings in found.items():
        counts = {verdict: sum(item.verdict is verdict for item in endings) for verdict in Verdict}
        well = counts.pop(Verdict.RECOVERED)
        met &= well == wanted
        longest = max((item.silence for item in endings), default=0.0)
        others = ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
        lines.append(f"{NAMES[engine]}: {well} of {wanted} recovered; {others}; longest silence {longest:.0f} s")
    return "\n".join(lines), met


def table(found: Mapping[Engine, Sequence[Ending]], seed: int) -> str:
    """Returns the lines between the marks."""
    text, _ = summary(found)
    lines = [f"Measured {datetime.now(UTC):%Y-%m-%d}, seed {seed}.", "", *(f"- {line}" for line in text.splitlines()), ""]
    lines += [
        "| engine | at the task | killed | the run ended | it took | first word after | longest silence | done after | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for engine, endings in found.items():
        for item in sorted(endings, key=lambda item: item.number):
            times = " | ".join(f"{value:.1f} s" for value in (item.said, item.silence, item.seconds))
            lines.append(
                f"| {NAMES[engine]} | {item.step} | {item.victim} | {item.ended or 'not'} | {item.recovery} | {times} | {item.verdict} |"
            )
    return "\n".join(lines)
