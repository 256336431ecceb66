"""`greylag doctor`: walks the chain from fleet.yaml to the running workload, and stops at the first broken link."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deployments.console import edge, targets
from deployments.doctor import findings
from deployments.doctor.findings import Finding, State
from migrator import errors
from migrator.cli import calls
from migrator.cli.calls import Call
from migrator.cli.verbs import VerbEntry
from tasks import fleet, redaction
from tasks.fleet.models import Target


def run(call: Call) -> int:
    """Looks at one target. Raises UsageError as `targets.select`, and the broken link's own error, so that the exit code is that error's."""
    (expression,) = call.arguments
    found = fleet.load()
    chosen = targets.select(found, expression)
    if len(chosen) != 1:
        raise errors.UsageError(
            f"{expression} stands for {len(chosen)} databases, and the doctor looks at one",
            code="bad-target",
            hint=f"name one, e.g. @{chosen[0].label}",
        )
    told: list[Finding] = []
    for finding in examine(chosen[0], found.path.parent if found.path else Path.cwd()):
        told.append(finding)
        if not call.json:
            edge.show(redaction.clean(f"{finding.state:<9} {finding.link}: {finding.evidence}"))
    calls.note(target=f"@{chosen[0].label}", links=[{key: redaction.clean(text) for key, text in item.document().items()} for item in told])
    last = told[-1]
    if last.state is not State.BROKEN:
        return 0
    row = f' (the recipe\'s "{last.trouble.symptom}": {last.trouble.remedy})' if last.trouble else ""
    raise errors.VerificationFailed(
        f"@{chosen[0].label}: broken at {last.link}: {last.evidence}", code="chain-broken", hint=f"{last.hint}{row} [{last.cause}]".strip()
    )


def examine(target: Target, root: Path) -> Iterator[Finding]:
    """Yields what each link says, up to the first broken one.

    Args:
        root: the checkout, where the chart's values are.
    """
    from deployments.doctor.database import DatabaseLinks
    from deployments.doctor.surroundings import Surroundings
    from tasks.settings import load

    settings = load()
    with DatabaseLinks(target, settings) as database:
        yield from findings.walk([*database.chain(), *Surroundings(target, settings, root, lambda: database.version).chain()])


VERB = VerbEntry(
    "doctor", run, "walks the chain from fleet.yaml to the running workload and names the first broken link", arguments="TARGET"
)
