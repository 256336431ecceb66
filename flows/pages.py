"""Pages for the UI, as markdown: a plan with the files' own text, before ENVSUB fills in anything (pure, except that it reads the files)."""

from __future__ import annotations

from collections.abc import Sequence

from flows import reports
from tasks import migration
from tasks.fleet.models import Target
from tasks.outcomes import PlannedStep, PlanOutcome

LONGEST_FILE = 20_000
"""Characters of one file that a page shows: nobody reads more in a UI, and an artifact is kept for ever."""

LONGEST_PAGE = 200_000


def plan(target: Target, outcome: PlanOutcome) -> tuple[str, str, str]:
    """Returns a plan's key, page and description."""
    key = f"plan-{target.service}-{target.environment}"
    count = len(outcome.steps)
    back = any(step.direction == "down" for step in outcome.steps)
    summary = f"{count} migration{'s' if count != 1 else ''} to {'roll back' if back else 'apply'}" if count else "nothing to do"
    head = [
        f"# Plan: {target.service} in {target.environment}",
        "",
        f"| to do | {summary} |",  # as the header: an empty one would be drawn as a grey bar
        "|---|---|",
        f"| database | `{target.database}` ({target.engine}), at version {outcome.current} |",
        f"| bundle | `{outcome.bundle}` |",
        f"| plan | `{outcome.plan}` |",
    ]
    head += [f"| warning | {reports.cell(item.message)} ({item.code}) |" for item in outcome.remarks]
    return key, "\n".join([*head, "", *_steps(target, outcome.bundle, outcome.steps)]), f"{target.label}: {summary}"


def _steps(target: Target, bundle: str, steps: Sequence[PlannedStep]) -> list[str]:
    if not steps:
        return []
    migrations = migration.load_bundle(target, bundle)
    lines: list[str] = []
    room = LONGEST_PAGE
    for step in steps:
        lines += [f"## {step.name}", "", f"{step.statements} statement(s), {step.mode}, sha256 `{step.checksum[:12]}`", ""]
        file = migrations.by_version(step.version)
        text = file.read().decode("utf-8", "replace") if file is not None else ""
        if file is None:
            lines += ["The file is not in this checkout: its Down section is the one that was recorded when it was applied.", ""]
            continue
        shown = text[: min(LONGEST_FILE, room)]
        room -= len(shown)
        lines += [reports.fenced(shown.rstrip("\n")) if shown else "(not shown: the page is full)", ""]
        if 0 < len(shown) < len(text):
            lines += [f"(the first {len(shown)} of {len(text)} characters)", ""]
    return lines
