"""Chooses the engine: for opening a database, for a plan's warnings, and for the house rules.
The only module that imports both engines (architecture.md §1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator import errors
from migrator.engines import Database, Finding, LockPolicy, Options, SchemaCheck, default_actor, stay
from migrator.house_rules import NONE, Settings
from migrator.targets import Engine, Mode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrator.goose.statements import Statement
    from migrator.house import examination
    from migrator.house.sections import Source
    from migrator.planning.plans import Plan, Remark

__all__ = [
    "Database",
    "Finding",
    "LockPolicy",
    "Options",
    "SchemaCheck",
    "default_actor",
    "examine_files",
    "open_database",
    "prepare_alone",
    "require_house_rules",
    "set_without_local",
    "stay",
    "warnings",
]


_POSTGRES = ("postgres", "pgx")


def prepare_alone(driver: str) -> None:
    """Loads the driver of a database as it starts quickest, in a process that does nothing else than greylag's own (`postgres.driver`)."""
    if driver in _POSTGRES:
        from migrator.postgres import driver as postgres_driver

        postgres_driver.load()


def open_database(driver: str, dbstring: str, options: Options | None = None) -> Database:
    """Opens a database by goose's DRIVER and DBSTRING (goose.md §7).

    Raises UsageError (driver unknown or DBSTRING not understood), LoginFailed, NotFound (no such database), Unavailable.
    """
    chosen = options or Options()
    if driver in _POSTGRES:
        from migrator.postgres import connection as postgres_connection

        return postgres_connection.connect(dbstring, chosen)
    if driver == "clickhouse":
        from migrator.clickhouse import connection as clickhouse_connection

        return clickhouse_connection.connect(dbstring, chosen)
    raise errors.UsageError(
        f'"{driver}": unknown dialect',
        code="unknown-driver",
        hint="greylag drives postgres (or pgx) and clickhouse",
    )


def warnings(plan: Plan, rules: Settings = NONE) -> tuple[Remark, ...]:
    """Returns warnings about the plan: of what its files leave in the session, of its upward steps for a PostgreSQL database in use, and of the house
    rules that are on. Raises nothing: a statement that can't be read is left to the server to refuse."""
    if not plan.steps:
        return ()
    found = _session(plan)
    if plan.engine is Engine.POSTGRES:
        from migrator.postgres.lint import examination as lint

        found += (*_ending_with_session(plan), *lint.examine(plan))
    if not rules.on:
        return found
    from migrator.house import examination as house
    from migrator.planning.plans import Remark

    return (
        *found,
        *(
            Remark(item.rule.id, f"{item.place}: {item.text}", item.hint)
            for item in house.examine_plan(plan, _language(plan.engine), rules)
        ),
    )


def _session(plan: Plan) -> tuple[Remark, ...]:
    """Returns the one remark about files that leave something in the session where another file follows: there greylag and goose differ."""
    if plan.engine is Engine.CLICKHOUSE:
        from migrator.clickhouse.reading import readings

        left = [(step, *item) for step in plan.steps[:-1] for item in readings.left(step)]
    else:
        from migrator.postgres.reading import session_changes

        left = [(step, item.line, item.words) for step in plan.steps[:-1] for item in session_changes.of(step.statements)]
    if not left:
        return ()
    from migrator.planning.plans import Remark

    step, line, words = left[0]
    others = len({item.name for item, *_ in left}) - 1
    also = f", and {others} more file(s)" if others else ""
    return (
        Remark(
            "session-restored",
            f"{step.path}:{line}: {words}{also}: it ends with its file here; with goose it would last for the files that follow",
            "nothing to do where each file says what it needs itself; else say it again in the files that rely on it (docs/concepts/session.md)",
        ),
    )


def _ending_with_session(plan: Plan) -> list[Remark]:
    """Returns a remark for each file without a transaction in which a later statement needs what an earlier one keeps in the session alone."""
    from migrator.planning.plans import Remark
    from migrator.postgres.reading import session_changes

    found = []
    for step in plan.steps:
        relied = session_changes.relied_on(step.statements) if step.mode is Mode.AUTOCOMMIT else None
        if relied:
            change, line = relied
            found.append(
                Remark(
                    "ends-with-session",
                    f"{step.path}:{change.line}: {change.words}: line {line} needs it, and a run that is broken off in between loses it with its rows",
                    "an ordinary table that the file drops at its end; or put what belongs together into a file with a transaction",
                )
            )
    return found


def set_without_local(statements: Sequence[Statement]) -> list[tuple[int, str, str]]:
    """Returns line, message and remedy for each setting that a PostgreSQL file leaves in the session where SET LOCAL would end with its transaction."""
    from migrator.postgres.reading import session_changes

    return [
        (
            item.line,
            f"{item.words} outlives the file's transaction: goose keeps it for the files that follow, greylag takes it back",
            "set_config(…, true), which ends with the transaction" if item.called else f"{item.words.replace('SET ', 'SET LOCAL ', 1)} …",
        )
        for item in session_changes.of(statements)
        if item.kind in ("setting", "role")
    ]


def examine_files(sources: Sequence[Source], engine: Engine | None, rules: Settings) -> tuple[examination.Finding, ...]:
    """Returns what stands against the house rules in a directory's files, in the order in which they are applied.

    Args:
        engine: the engine that they are written for; None has it told by the files' own words.
    """
    from migrator.house import examination as house

    return house.examine(sources, _language(engine or house.engine_of(sources)), rules)


def _language(engine: Engine) -> examination.Language:
    if engine is Engine.CLICKHOUSE:
        from migrator.clickhouse import house as clickhouse_house

        return clickhouse_house
    from migrator.postgres import house as postgres_house

    return postgres_house


def require_house_rules(plan: Plan, rules: Settings) -> None:
    """Raises PlanRefused (`house-rule`) for a pending file with a finding of a rule that the fleet refuses; all such findings are in its detail."""
    if not rules.refused or not plan.steps:
        return
    from migrator.house import examination as house

    found = [item for item in house.examine_plan(plan, _language(plan.engine), rules) if item.rule.id in rules.refused]
    if found:
        first = found[0]
        raise errors.PlanRefused(
            f"{first.text} [{first.rule.id}]",
            code="house-rule",
            where=errors.Location(first.path, first.line),
            hint=f"{first.hint}; fleet.yaml refuses what stands against this rule (rules)",
            detail="\n".join(f"{item.place}: {item.text} [{item.rule.id}]" for item in found[1:]),
        )
