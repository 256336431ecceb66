"""`wait`: until the database has the newest version of this directory. Reads only; made for an init container.

A pod must not start its program before its own migrations are there, and must start when the database is newer than the image: that is
every rollback.
"""

from __future__ import annotations

import time

from migrator import errors
from migrator.cli.engine_calls import EngineCall
from migrator.planning import contradictions, files, refusals
from migrator.planning.history import History

WAIT_SECONDS = 300.0
"""How long it waits unless told: shorter than a Deployment's progress deadline (600 s), so that the pod says why before it is given up."""

POLL_SECONDS = 1.0
"""Between two looks: short against a migration, and one small query per second is nothing to a server."""


def run(call: EngineCall) -> int:
    """Waits. Raises NotYet (24) when the time is over, PlanRefused when a newer migration names this image as too old, or a file contradicts the
    history."""
    limit = call.values.seconds("timeout") if "timeout" in call.values.given else call.values.seconds("timeout") or WAIT_SECONDS
    minimum = call.values.integer("min-version") if "min-version" in call.values.given else None
    migrations = None if minimum is not None else call.load()
    wanted = minimum if minimum is not None else migrations.newest if migrations else 0
    deadline = time.monotonic() + limit
    said = ""
    while True:
        try:
            with call.open() as database:
                history = database.read_history()
            if migrations is not None:
                refusals.require_young_enough(migrations, history)
                contradictions.require_none(migrations, history)
            if _reached(history, wanted, migrations):
                return _done(call, history, wanted, rolled_back=migrations is not None)
            state = _state(history, wanted)
        except (errors.Unavailable, errors.TimedOut) as error:
            if error.code == "deadline":
                raise
            state = f"no answer yet: {error.message}"
        if state != said:
            call.own(f"waiting for version {wanted}: {state}")
            said = state
        left = deadline - time.monotonic()
        if left <= 0:
            raise errors.NotYet(
                f"version {wanted} is not there after {limit:g} s: {state}",
                code="version-not-reached",
                hint="look at the migration's Job or flow run; -timeout waits longer",
            )
        time.sleep(min(POLL_SECONDS, left))


def _reached(history: History, wanted: int, migrations: files.MigrationSet | None) -> bool:
    """Tells whether the version is there. With a directory its newest version itself must be applied: a higher one merged earlier proves nothing."""
    if migrations is None:
        return history.newest >= wanted
    return wanted in history.applied


def _state(history: History, wanted: int) -> str:
    if not history.exists:
        return "nothing is applied yet"
    if history.newest > wanted:
        return f"the database is at {history.current} without it (merged out of order: up -allow-missing applies it)"
    return f"the database is at {history.current}"


def _done(call: EngineCall, history: History, wanted: int, *, rolled_back: bool) -> int:
    newest = max(history.applied, default=0)
    call.document.update({"wanted": wanted, "current": history.current, "newest": newest})
    call.own(f"version {wanted} is applied")
    if newest > wanted and rolled_back:  # with -min-version a newer database is what was asked for
        call.own(f"note: the database is newer, at {newest}: expected after a rollback of the image [newer-database]")
    return 0
