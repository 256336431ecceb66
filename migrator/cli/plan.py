"""`plan [VERB]`: what a verb would run, by file and line. Reads only.

Refuses exactly what the verb itself would refuse. The digest is what `-approved-digest` binds a run to. Values that ENVSUB fills in are secrets
as a rule: they are shown with `-expand` alone, and on a terminal alone.
"""

from __future__ import annotations

from dataclasses import replace

from migrator import errors
from migrator.cli import migrating, output
from migrator.cli.engine_calls import EngineCall
from migrator.planning.plans import Plan, Step
from migrator.targets import Direction, Verb


def run(call: EngineCall) -> int:
    """Prints the plan on standard output. Raises as the verb would before it runs anything."""
    words = call.invocation.arguments or ("up",)
    if words[0] not in tuple(Verb):
        raise errors.UsageError(f'"{words[0]}" can\'t be planned', code="unknown-command", hint=f"one of: {', '.join(Verb)}")
    expand = call.values.boolean("expand")
    if expand and (call.json or not output.is_terminal()):
        raise errors.UsageError(
            "-expand shows values that may be secrets, so it prints to a terminal only",
            code="no-terminal",
            hint="leave out -expand (and -json): the plan then shows the files' own text",
        )
    wanted = migrating.target(Verb(words[0]), call, words[1:])
    migrations = call.load()
    with call.open() as database:
        history = database.read_history()
        plan = migrating.warned(migrating.make_plan(call, database, migrations, history, wanted), call.rules)
        database.require_fit(plan)
        plan = migrating.resuming(plan, database, history)
        plan = replace(plan, remarks=(*plan.remarks, *database.read_remarks(plan)))
    call.document.update({**plan.document(), "verb": "plan", "planned": str(wanted.verb)})
    if not call.json:
        output.out("\n".join([*lines(plan, expand=expand), ""]))
    for remark in plan.remarks:
        call.own(f"warning: {remark.message} [{remark.code}]" + (f"\nhint: {remark.hint}" if remark.hint else ""))
    return 0


def lines(plan: Plan, *, expand: bool = False) -> list[str]:
    """Returns the plan for a person: a heading, every statement under its file and lines, then bundle and digest."""
    if not plan.steps:
        return [f"{plan.target.verb}: nothing to run, the database is at version {plan.current}"]
    found = [f"{plan.target.verb}: {len(plan.steps)} migration(s) on a database at version {plan.current}"]
    for step in plan.steps:
        found += _step(step, expand)
    return [*found, "", f"bundle {plan.bundle}", f"digest {plan.digest}"]


def _step(step: Step, expand: bool) -> list[str]:
    how = {"transaction": "one transaction", "autocommit": "no transaction", "clickhouse": "statement by statement"}[str(step.mode)]
    arrow = "up  " if step.direction is Direction.UP else "down"
    found = ["", f"{arrow} {step.name}  {len(step.statements)} statement(s), {how}"]
    for statement in step.statements:
        last = f"-{statement.last_line}" if statement.last_line != statement.first_line else ""
        found.append(f"  {step.path}:{statement.first_line}{last}")
        text = statement.text if expand else statement.source
        found += [f"    {line}" for line in text.splitlines()]
    return found
