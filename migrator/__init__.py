"""greylag's engine: goose migrations on PostgreSQL and ClickHouse, as a library and as the `greylag` command.

The public API. Names are loaded at first use, so that `import migrator` is fast::

    migrations = migrator.load("services/auth-service/migrations")
    with migrator.open_database("postgres", url) as database:
        plan = migrator.plan(migrations, database.read_history(), migrator.Target(migrator.Verb.UP), engine=database.engine)
        report = migrator.apply(database, plan)
        migrator.verify(database, migrations).raise_for_failure()
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migrator.applying import Report, apply
    from migrator.databases import Database, Options, open_database
    from migrator.errors import (
        AsGoose,
        FileError,
        GreylagError,
        Interrupted,
        LockUnavailable,
        LoginFailed,
        NeedsAnswer,
        NotFound,
        NotYet,
        ParseError,
        PlanRefused,
        StatementRejected,
        TimedOut,
        Unavailable,
        UsageError,
        VerificationFailed,
    )
    from migrator.goose.annotations import ParsedMigration, Statement, parse
    from migrator.planning.files import MigrationFile, MigrationSet, load
    from migrator.planning.planner import plan
    from migrator.planning.plans import Plan, Policy, Step
    from migrator.standing import Standing, down, status
    from migrator.targets import Direction, Mode, Target, Verb
    from migrator.verification import Verification, verify

_HOMES = {
    "goose.annotations": ("ParsedMigration", "Statement", "parse"),
    "applying": ("Report", "apply"),
    "databases": ("Database", "Options", "open_database"),
    "errors": (
        "AsGoose",
        "FileError",
        "GreylagError",
        "Interrupted",
        "LockUnavailable",
        "LoginFailed",
        "NeedsAnswer",
        "NotFound",
        "NotYet",
        "ParseError",
        "PlanRefused",
        "StatementRejected",
        "TimedOut",
        "Unavailable",
        "UsageError",
        "VerificationFailed",
    ),
    "planning.files": ("MigrationFile", "MigrationSet", "load"),
    "planning.planner": ("plan",),
    "planning.plans": ("Plan", "Policy", "Step"),
    "standing": ("Standing", "down", "status"),
    "targets": ("Direction", "Mode", "Target", "Verb"),
    "verification": ("Verification", "verify"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AsGoose",
    "Database",
    "Direction",
    "FileError",
    "GreylagError",
    "Interrupted",
    "LockUnavailable",
    "LoginFailed",
    "MigrationFile",
    "MigrationSet",
    "Mode",
    "NeedsAnswer",
    "NotFound",
    "NotYet",
    "Options",
    "ParseError",
    "ParsedMigration",
    "Plan",
    "PlanRefused",
    "Policy",
    "Report",
    "Standing",
    "Statement",
    "StatementRejected",
    "Step",
    "Target",
    "TimedOut",
    "Unavailable",
    "UsageError",
    "Verb",
    "Verification",
    "VerificationFailed",
    "apply",
    "down",
    "load",
    "open_database",
    "parse",
    "plan",
    "status",
    "verify",
]


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'migrator' has no attribute '{name}'")
    from importlib import import_module

    value = getattr(import_module(f"migrator.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
