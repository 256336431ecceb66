"""The demo's output: lines with the time since the start, a result table, commands to try."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox.stack.stack import State
from sandbox.stack.state import Addresses

COLUMNS = {
    "environment": "environment",
    "service": "service",
    "outcome": "outcome",
    "versions": "versions",
    "migrations": "migrations",
    "statements": "statements",
    "seconds": "seconds",
    "verification": "verified",
    "rollout": "health gate",
}


class Teller:
    """Prints lines as they happen."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __call__(self, line: str) -> None:
        print(f"[{time.monotonic() - self._started:6.1f} s] {line}", flush=True)

    def component(self, name: str, state: State, seconds: float) -> None:
        """Prints a server's state, as the stack reports it."""
        if state is State.READY:
            self(f"  {name}: ready after {seconds:.1f} s")
        elif state is State.FAILED:
            self(f"  {name}: failed after {seconds:.1f} s")
        else:
            self(f"  {name} …")

    def failure(self, text: str) -> None:
        """Prints an error in full."""
        print(f"\n{text}\n", file=sys.stderr, flush=True)

    def table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Prints the result table; one line per service and environment."""
        if not rows:
            return
        lines = [list(COLUMNS.values())] + [[str(row.get(key, "")) for key in COLUMNS] for row in rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
        print()
        previous = ""
        for number, line in enumerate(lines):
            if number > 1 and line[0] != previous:
                print()
            previous = line[0]
            print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
            if number == 0:
                print("  ".join("-" * width for width in widths))
        print(flush=True)

    def approval_wanted(self, url: str, values: Mapping[str, str]) -> None:
        """Prints how a person approves: the form's address and the values for it."""
        self("prod waits for your approval. Open this form, fill in the values, choose your name and a reason, and submit:")
        print(f"\n    {url}\n")
        for name, value in values.items():
            print(f"    {name:12} {value}")
        print(flush=True)

    def where_to_look(self, url: str, state: Path, *, keep: bool, more: str = "") -> None:
        """Prints the address of the Prefect UI, and what to look at there; `more` are the options of this demo."""
        if keep:
            self(f"Prefect UI: {url}")
            print(
                "    Runs         the run `promote-release`: its graph links to each environment's run, and those to the five tasks of each service"
            )
            print(f"    {url}/artifacts    result-dev, result-release, result-prod, result-promotion; plan-prod is what was approved")
            print("    Deployments  deploy-service-dev: its form; approve: the approval's form")
            print("    Event Feed   release.promoted, release.awaiting-approval", flush=True)
        else:
            self(f"all servers stop now; data, logs and passwords (mode 0600) stay in {state}")
            self(f"`make demo{more} KEEP=1` starts them again on the same data and keeps the Prefect UI open")

    def commands_to_try(self, addresses: Addresses, state: Path, more: Iterable[tuple[str, str]] = ()) -> None:
        """Prints commands that work while the stack is up; `more` are the cluster's."""
        print(
            "\nIn another terminal, with dev's credentials by reference:\n\n"
            f'    eval "$(.venv/bin/python -m sandbox.stack.shell --state {state} dev)"'
        )
        for command, meaning in (
            ("greylag status @dev/auth-service", "goose's status, the address taken from the secrets server"),
            ("greylag status '@dev/*'", "all six services"),
            ("greylag verify @dev/analytics-service", "every object that the files leave behind"),
            ("greylag history @dev/auth-service", "who applied what, when, from which bundle"),
            ("greylag plan @dev/auth-service", "what would run, by file and line"),
        ):
            print(f"    {command:46} # {meaning}")
        for command, meaning in more:
            print(f"    {command}\n        # {meaning}")
        print(f"\nPrefect UI: {addresses.prefect_url}    Ctrl-C stops everything; data are kept.\n", flush=True)
