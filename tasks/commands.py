"""Commands of the fleet around a migration: an environment's `preflight` commands, which must succeed before it, and a service's
`after_migrate` commands, which follow it.

A preflight command checks, for example, that the backup is fresh, that there is no freeze, or that the monitoring's alarms are paused. It gets
references in its environment and no password: the place of the secret, not its content.

An after_migrate command regenerates a client from the database (`prisma db pull`), for example. By then the migration has been applied, so a command
that fails is a warning and not a failure. It sees DATABASE_URL in its environment, never in its arguments, and its output passes the redaction
filter as every log line does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

from pydantic import SecretStr

from migrator import errors
from migrator.planning import events
from migrator.planning.plans import Plan
from tasks.fleet.models import AfterMigrate, Check, Target

LONGEST_CHECK_SECONDS = 600.0
"""Seconds. A check that takes longer than ten minutes is work of its own, and would hold up the release."""

LONGEST_SECONDS = 300.0
"""Seconds. These commands are a convenience: they must not hold the run for longer than a migration may take."""

CHECK_LINES, LAST_LINES = 10, 5
"""Lines of a failed command's output that are shown: of a preflight command, and of an after_migrate command."""

LOGINS = ("GREYLAG_", "VAULT_", "BAO_", "PREFECT_")
"""Beginnings of the variables by which a worker logs in to Vault and to the Prefect server, or that name the files for it."""

REFERENCES = ("GREYLAG_FLEET", "GREYLAG_HOME")
"""Those among them that a command may need, and that hold no login."""

Told = Callable[[str, str], None]


def check(target: Target, plan: Plan, listener: events.Listener = events.ignore, *, limit: float | None = None) -> None:
    """Runs the target's preflight commands in order.

    Args:
        limit: seconds that are left for the whole step; None when the step has no limit of its own.

    Raises PlanRefused (`preflight-failed`) at the first command that can't be run or ends with another exit code than 0, and TimedOut (`preflight-timeout`).
    """
    given = references(target, plan)
    for item in target.preflight:
        _checked(item, target, given, LONGEST_CHECK_SECONDS if limit is None else min(LONGEST_CHECK_SECONDS, max(limit, 0.0)))
        listener(events.Note("info", "preflight", f"preflight: {' '.join(item.run)}"))


def references(target: Target, plan: Plan) -> dict[str, str]:
    """Returns the variables that tell a command about the run: names, paths and digests."""
    found = {
        "service": target.service,
        "environment": target.environment,
        "engine": str(target.engine),
        "database": target.database,
        "secret": target.secret,
        "bundle": plan.bundle,
        "plan": plan.digest,
        "current": str(plan.current),
        "versions": " ".join(str(step.version) for step in plan.steps),
    }
    return {f"GREYLAG_PREFLIGHT_{name.upper()}": value for name, value in found.items()}


def inherited(target: Target) -> dict[str, str]:
    """Returns the variables of this process that a command of fleet.yaml gets: what the machine has, and nothing of the worker's own logins."""
    kept_back = {"DATABASE_URL"} | target.source.variables(target)
    return {
        name: value for name, value in os.environ.items() if name in REFERENCES or (name not in kept_back and not name.startswith(LOGINS))
    }


def _checked(item: Check, target: Target, given: dict[str, str], seconds: float) -> None:
    words = " ".join(item.run)
    try:
        done = subprocess.run(
            item.run,
            cwd=target.root,
            env={**inherited(target), **given},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise errors.TimedOut(
            f"{target.label}: the preflight command {words} took longer than {seconds:g} s",
            code="preflight-timeout",
            hint="nothing was changed; find out what it waits for",
        ) from None
    except OSError as error:
        raise _refused(target, f"{words} can't be run: {error.strerror}", "") from None
    if done.returncode:
        last = "\n".join(done.stdout.strip().splitlines()[-CHECK_LINES:])
        raise _refused(target, f"{words} ended with exit code {done.returncode}", last)


def _refused(target: Target, what: str, detail: str) -> errors.PlanRefused:
    return errors.PlanRefused(
        f"{target.label}: preflight: {what}",
        code="preflight-failed",
        hint=f"nothing was changed; mend what it found, or change `preflight` of {target.environment} in fleet.yaml",
        detail=detail,
    )


def follow_up(target: Target, url: SecretStr, tell: Told, *, stream: bool = False) -> bool:
    """Runs the target's after_migrate commands in order until one fails, and tells whether all succeeded.

    Args:
        tell: receives a level (`info`, `warning`) and a line for each command.
        stream: lets the commands write to this process's output directly and unredacted: only for a database whose URL is no secret.
    """
    return all(_run(command, target, url, tell, stream=stream) for command in target.after_migrate)


def _run(command: AfterMigrate, target: Target, url: SecretStr, tell: Told, *, stream: bool) -> bool:
    words = " ".join(command.run)
    if shutil.which(command.run[0]) is None:
        tell("warning", f"after_migrate: {command.run[0]} is not installed here: {words} was not run")
        return False
    try:
        done = subprocess.run(
            command.run,
            cwd=target.root,
            env={**inherited(target), "DATABASE_URL": url.get_secret_value()},
            stdin=subprocess.DEVNULL,
            stdout=None if stream else subprocess.PIPE,
            stderr=None if stream else subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=LONGEST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        tell("warning", f"after_migrate: {words} was ended after {LONGEST_SECONDS:g} s")
        return False
    except OSError as error:
        tell("warning", f"after_migrate: {words} can't be run: {error.strerror}")
        return False
    if done.returncode:
        last = "\n".join((done.stdout or "").strip().splitlines()[-LAST_LINES:])
        tell("warning", f"after_migrate: {words} failed with exit code {done.returncode}" + (f":\n{last}" if last else ""))
        return False
    tell("info", f"after_migrate: {words}")
    return True
