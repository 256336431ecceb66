"""`greylag codegen`: the commands that regenerate a service's client, run against a database that has exactly the service's migrations.

They are the `after_migrate` commands of fleet.yaml, as after a migration of the environment; DATABASE_URL leads to an embedded server that ends
with the command.
"""

from __future__ import annotations

from pydantic import SecretStr

from deployments.console import edge, rehearsal, targets, test
from migrator import errors
from migrator import targets as planned
from migrator.cli import calls, interruption
from migrator.cli.calls import Call
from migrator.cli.verbs import VerbEntry
from tasks import commands, fleet


def run(call: Call) -> int:
    """Runs the commands of each service that has any. Raises UsageError (`no-after-migrate`) where none has."""
    found = fleet.load()
    chosen = {target.label: target for expression in call.arguments for target in targets.select(found, expression)}
    able = [target for target in chosen.values() if target.after_migrate]
    if not able:
        raise errors.UsageError(
            f"{', '.join(chosen)}: {found.path.name} has no after_migrate command for it",
            code="no-after-migrate",
            hint="add `after_migrate: [{run: [prisma, db, pull]}]` to the service; its `environments` must name this one, if it has any",
        )
    done: list[str] = []
    calls.note(generated=done)
    with interruption.guard(call.values.seconds("timeout")):
        for target in able:
            _generate(target, call.values.integer("server"), stream=not call.json)
            done.append(target.label)
    return 0


def _generate(target: fleet.Target, version: int, *, stream: bool) -> None:
    """Migrates an embedded database and runs the commands there. Raises VerificationFailed (`after-migrate-failed`), and as a run does."""
    subject = test.subject_of(target, "", "", version)
    migrations = rehearsal.load(subject)
    with rehearsal.opened(subject) as (server, database, env):
        count = rehearsal.migrate(database, migrations, planned.Target(planned.Verb.UP), env)
        edge.say(f"@{target.label}: {count} migration(s) applied on an embedded server")
        url = SecretStr(server.url)
        if not commands.follow_up(target, url, lambda level, text: edge.say(f"@{target.label}: {text}"), stream=stream):
            raise errors.VerificationFailed(
                f"@{target.label}: a command after the migration failed",
                code="after-migrate-failed",
                hint="its own lines are above; the commands are `after_migrate` in fleet.yaml and run in its `root`",
            )


VERB = VerbEntry(
    "codegen",
    run,
    "runs a service's after_migrate commands against an embedded server with all its migrations",
    arguments="@/SERVICE …",
    flags=test.SERVER,
)
