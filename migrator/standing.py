"""The state of a database compared with a directory, as `status` shows it; and `down` as a library call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from migrator import applying
from migrator.databases import Database
from migrator.planning import events, files, planner
from migrator.planning.history import History
from migrator.planning.plans import ACCEPT_NOTHING, Policy
from migrator.targets import Target, Verb


@dataclass(frozen=True, slots=True)
class Standing:
    """One migration file and when it was applied; `applied_at` is None while it is pending."""

    version: int
    name: str
    applied_at: datetime | None


def status(history: History, migrations: files.MigrationSet) -> list[Standing]:
    """Returns one entry per file, in version order: goose's `status` as data (goose.md §5.4, §6.1: database-only versions are not listed)."""
    rows = history.newest_rows
    return [
        Standing(item.version, item.name, rows[item.version].tstamp if item.version in rows and rows[item.version].is_applied else None)
        for item in migrations.migrations
    ]


def down(
    database: Database,
    migrations: files.MigrationSet,
    listener: events.Listener = events.ignore,
    *,
    policy: Policy = ACCEPT_NOTHING,
    env: Mapping[str, str] | None = None,
) -> applying.Report:
    """Rolls back the current version, from its file or, if the directory lacks it, from the recorded text.

    Raises:
        AsGoose: nothing is applied, or the version has neither file nor recorded text.
        PlanRefused: the environment is protected.
    """
    target = Target(Verb.DOWN)
    plan = planner.plan(
        migrations, database.read_history(), target, engine=database.engine, policy=policy, env=env, recall=database.read_down_text
    )
    return applying.apply(database, plan, listener, policy=policy, env=env)
