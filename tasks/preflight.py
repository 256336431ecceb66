"""Commands of an environment that must succeed before a migration changes it: is the backup fresh, is nobody on a freeze, does the monitoring sleep.

They get references in their environment, and no password: where the secret lies, not what it holds.
"""

from __future__ import annotations

import os
import subprocess

from migrator import errors, events
from migrator.plans import Plan
from tasks.credentials import secret
from tasks.fleet.models import Check, Target
from tasks.sources import SourceKind

LONGEST_SECONDS = 600.0
"""A check that takes longer than ten minutes is work of its own, and holds up a release."""

LAST_LINES = 10
"""Lines of a failed command's output that are worth showing."""


def run(target: Target, plan: Plan, listener: events.Listener = events.ignore, *, limit: float | None = None) -> None:
    """Runs the target's preflight commands in order.

    Args:
        limit: seconds that are left for the whole step, None for no limit of its own.

    Raises PlanRefused (`preflight-failed`) at the first that ends with anything but 0 or can't be run, TimedOut (`preflight-timeout`).
    """
    given = references(target, plan)
    for check in target.preflight:
        _run(check, target, given, LONGEST_SECONDS if limit is None else min(LONGEST_SECONDS, max(limit, 0.0)))
        listener(events.Note("info", "preflight", f"preflight: {' '.join(check.run)}"))


def references(target: Target, plan: Plan) -> dict[str, str]:
    """What a command is told about the run: names, paths and digests."""
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


def _run(check: Check, target: Target, given: dict[str, str], seconds: float) -> None:
    words = " ".join(check.run)
    kept_back = {"DATABASE_URL", "VAULT_TOKEN", "GREYLAG_VAULT_TOKEN"}
    if target.source.kind is SourceKind.VARIABLES:
        kept_back.update(secret.keys(target)["password"])
    inherited = {name: value for name, value in os.environ.items() if name not in kept_back and not name.startswith("GREYLAG_PREFLIGHT_")}
    try:
        done = subprocess.run(
            check.run,
            cwd=target.root,
            env={**inherited, **given},
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
        raise _failed(target, f"{words} can't be run: {error.strerror}", "") from None
    if done.returncode:
        last = "\n".join(done.stdout.strip().splitlines()[-LAST_LINES:])
        raise _failed(target, f"{words} ended with exit code {done.returncode}", last)


def _failed(target: Target, what: str, detail: str) -> errors.PlanRefused:
    return errors.PlanRefused(
        f"{target.label}: preflight: {what}",
        code="preflight-failed",
        hint=f"nothing was changed; mend what it found, or change `preflight` of {target.environment} in fleet.yaml",
        detail=detail,
    )
