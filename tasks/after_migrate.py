"""Commands of the service that follow a migration: regenerating a client from the database (`prisma db pull`), and the like.

The migration is applied by then, so a command that fails is a warning and no failure. They see DATABASE_URL in their environment, never in their
arguments; their output passes the redaction filter as every log line does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

from pydantic import SecretStr

from tasks.fleet.models import Command, Target

LONGEST_SECONDS = 300.0
"""A command is a convenience: it must not hold the run for longer than a migration may take."""

LAST_LINES = 5
"""Lines of a failed command's output that are worth showing."""

Told = Callable[[str, str], None]


def run(target: Target, url: SecretStr, tell: Told, *, stream: bool = False) -> bool:
    """Runs the target's commands in order, until one fails; whether all succeeded.

    Args:
        tell: is given a level (`info`, `warning`) and a line for each command.
        stream: lets the commands write to this process's output as they go, unredacted: for a database whose URL is no secret.
    """
    return all(_run(command, target, url, tell, stream=stream) for command in target.after_migrate)


def _run(command: Command, target: Target, url: SecretStr, tell: Told, *, stream: bool) -> bool:
    words = " ".join(command.run)
    if shutil.which(command.run[0]) is None:
        tell("warning", f"after_migrate: {command.run[0]} is not installed here: {words} was not run")
        return False
    try:
        done = subprocess.run(
            command.run,
            cwd=target.root,
            env={**os.environ, "DATABASE_URL": url.get_secret_value()},
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
