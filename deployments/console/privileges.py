"""`greylag privileges`: what each identity of an environment must be allowed, rendered for the fleet."""

from __future__ import annotations

from deployments.console import edge, targets
from deployments.privileges import rendering
from migrator import errors
from tasks import fleet

SUMMARY = "prints the least privileges of an environment: Kubernetes Roles, Vault policy, database roles and grants"


@edge.guarded
def run(arguments: list[str]) -> int:
    """`greylag privileges PART @environment[/service]`."""
    parser = edge.Parser("privileges", SUMMARY)
    parser.add_argument("part", choices=tuple(rendering.PARTS), help="what to print")
    parser.add_argument("target", help="@environment, or @environment/service for one service alone")
    options = parser.parse_args(arguments)
    chosen = targets.select(fleet.load(), options.target)
    found = rendering.PARTS[options.part](chosen)
    if not found:
        raise errors.UsageError(
            f"{options.target} has no {options.part} database", code="bad-target", hint="`greylag targets` lists the engines"
        )
    edge.note(part=options.part, text=found.rstrip())
    if not options.json:
        edge.show(found.rstrip())
    return 0
