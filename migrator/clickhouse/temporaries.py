"""Temporary tables of a file: what is in them ends with the session, so a run that goes on behind them has lost it. Pure."""

from __future__ import annotations

import re

from migrator.clickhouse.reading import readings, shapes
from migrator.planning.plans import Step

_MADE = re.compile(
    r"CREATE\s+(?:OR\s+REPLACE\s+)?(?:TEMPORARY|TEMP)\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(?P<name>`[^`]+`|\"[^\"]+\"|\w+)(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_FILLED = re.compile(r"INSERT\s+INTO\s+(?:TABLE\s+)?(?P<name>`[^`]+`|\"[^\"]+\"|\w+)", re.IGNORECASE)
_SELECTS = re.compile(r"\bAS[\s(]+(?:SELECT|WITH)\b", re.IGNORECASE)


def needed_again(step: Step, first: int) -> tuple[str, int] | None:
    """Returns a temporary table whose rows statements from `first` on need and statements before it wrote, and which wrote them; None where there is none."""
    made: set[str] = set()
    filled: dict[str, int] = {}
    for index, (statement, reading) in enumerate(zip(step.statements, readings.of(step), strict=True), start=1):
        if index < first:
            found = _MADE.search(statement.text) if reading.belongs_to_session else None
            if found is not None:
                made.add(shapes.plain(found["name"]))
                if _SELECTS.search(found["rest"]):
                    filled[shapes.plain(found["name"])] = index
            elif (
                reading.head == "INSERT" and made and (written := _FILLED.search(statement.text)) and shapes.plain(written["name"]) in made
            ):
                filled[shapes.plain(written["name"])] = index
        else:
            words = {shapes.plain(token[0]) for token in shapes.spans(statement.text)} if filled else set()
            for name in filled.keys() & words:
                return name, filled[name]
    return None
