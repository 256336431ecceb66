"""`greylag privileges`: what each identity of an environment must be allowed, rendered for the fleet."""

from __future__ import annotations

from deployments.console import edge, targets
from deployments.privileges import rendering
from migrator import errors
from migrator.cli import calls
from migrator.cli.calls import Call
from migrator.cli.verbs import VerbEntry
from tasks import fleet


def run(call: Call) -> int:
    """Prints one part. Raises UsageError for a part or a target that there is not."""
    part, expression = call.arguments
    if part not in rendering.PARTS:
        raise errors.UsageError(f'"{part}" is no part of the privileges', hint=f"one of: {', '.join(rendering.PARTS)}")
    chosen = targets.select(fleet.load(), expression)
    found = rendering.PARTS[part](chosen)
    if not found:
        raise errors.UsageError(f"{expression} has no {part} database", code="bad-target", hint="`greylag targets` lists the engines")
    calls.note(part=part, text=found.rstrip())
    if not call.json:
        edge.show(found.rstrip())
    return 0


VERB = VerbEntry(
    "privileges",
    run,
    "prints the least privileges of an environment, PART being one of " + ", ".join(rendering.PARTS),
    arguments="PART TARGET",
)
