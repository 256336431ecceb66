"""Writes what came of the attacks into a page of docs/, between two marks. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from tests.attacks.siege import Refusal

BEGIN, END = "<!-- attacks: written by `make attack` -->", "<!-- end of the attacks -->"


def replace(text: str, told: Mapping[str, Sequence[Refusal]]) -> str:
    """Returns the page with the table of these attacks in place of the one before."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head.rstrip()}\n\n{BEGIN}\n{_section(told)}\n{END}\n{tail.lstrip()}"


def _section(told: Mapping[str, Sequence[Refusal]]) -> str:
    lines = [
        f"{len(told)} attacks, {datetime.now(UTC):%Y-%m-%d}. After each of them prod's databases were compared with what they held before: no difference.",
    ]
    files: dict[str, list[tuple[str, Sequence[Refusal]]]] = {}
    for test, refusals in told.items():
        file, _, name = test.partition("::")
        files.setdefault(file, []).append((name, refusals))
    for file, rows in files.items():
        lines += ["", f"### `tests/attacks/{file}`", "", "| attack (the test's name) | what happened | code | event |", "|---|---|---|---|"]
        for name, refusals in rows:
            codes = ", ".join(dict.fromkeys(f"`{item.code}`" for item in refusals if item.code))
            events = ", ".join(dict.fromkeys(f"`{item.event}`" for item in refusals if item.event))
            outcomes = "; ".join(dict.fromkeys(_short(item.outcome) for item in refusals))
            lines.append(f"| `{name.removeprefix('test_bad_flow_')}` | {outcomes} | {codes} | {events} |")
    return "\n".join(lines)


def _short(text: str) -> str:
    """Returns the first line for a table's cell, without what differs from run to run."""
    found = text.partition("\n")[0].replace("|", "\\|")
    found = re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b", "ID", found)
    found = re.sub(r"/[^ \"]*/(evil|test_)[^ \":]*", "/…", found)
    return re.sub(r"\b[0-9a-f]{12}\b", "…", found)
