"""Selects the versions to run, with direction and order: goose's command semantics (goose.md §6.1, §6.2) as one pure function.

Files' contents don't matter here: it works on version numbers, the history and the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from migrator import errors
from migrator.planning.history import History
from migrator.targets import Direction, Engine, Target, Verb

NO_CURRENT_VERSION = "no current version found"
NO_NEXT_VERSION = "no next version found"


@dataclass(frozen=True, slots=True)
class Choice:
    """One version in one direction."""

    version: int
    direction: Direction


@dataclass(frozen=True, slots=True)
class MissingVersions:
    """Versions that are older than the newest applied one and were never applied (goose.md §6.1)."""

    versions: tuple[int, ...]
    newest: int


def missing(versions: Sequence[int], history: History, target: Target) -> MissingVersions:
    """Returns the out-of-order versions among those that the target covers: `up-to N` covers versions up to N only."""
    limit = target.version if target.verb is Verb.UP_TO else None
    found = tuple(
        version
        for version in versions
        if version not in history.versions and version < history.newest and (limit is None or version <= limit)
    )
    return MissingVersions(found, history.newest)


def select(versions: Sequence[int], history: History, target: Target) -> tuple[Choice, ...]:
    """Returns the versions to run, in order.

    Args:
        versions: the files' versions, ascending.
        history: the database's history.
        target: verb and version.

    Raises:
        AsGoose: when goose itself ends with an error: `down` at 0, `redo` without a file, no version table row left.
    """
    if not target.versioning:
        return _without_versioning(versions, target)
    if target.verb is not Verb.RESET:  # goose looks for the current version first, whatever the verb
        require_row(history)
    if target.verb in (Verb.UP, Verb.UP_BY_ONE, Verb.UP_TO):
        return _up(versions, history, target)
    if target.verb is Verb.RESET:
        return _reset(versions, history)
    if target.verb is Verb.DOWN_TO:
        return _down_to(versions, history, target.version)
    return _current(versions, history, target.verb)


def require_row(history: History) -> None:
    """Raises AsGoose (`no-row`) for a table without an applied row, as after a schema was restored without its data: then everything may be applied
    already (goose.md §4.3)."""
    _walk(history, set())


def _up(versions: Sequence[int], history: History, target: Target) -> tuple[Choice, ...]:
    limit = target.version if target.verb is Verb.UP_TO else None
    fresh = [version for version in versions if version > history.newest and (limit is None or version <= limit)]
    late = list(missing(versions, history, target).versions) if target.allow_missing else []
    chosen = late + fresh
    if target.verb is Verb.UP_BY_ONE:
        chosen = chosen[:1]
    return tuple(Choice(version, Direction.UP) for version in chosen)


def _reset(versions: Sequence[int], history: History) -> tuple[Choice, ...]:
    if not history.exists:  # reset is the one verb of goose that never creates the table (goose.md §6.1)
        raise errors.AsGoose(
            f"failed to get status of migrations: {_absent(history)}",
            code="no-table",
            hint="nothing was ever applied to this database, so there is nothing to roll back",
        )
    newest: dict[int, bool] = {}
    for row in history.rows:
        newest.setdefault(row.version, row.is_applied)
    return tuple(Choice(version, Direction.DOWN) for version in reversed(versions) if newest.get(version))


def _absent(history: History) -> str:
    """Returns the server's message to goose for a table that does not exist."""
    if history.engine is Engine.CLICKHOUSE:
        return f"code: 60, message: Unknown table expression identifier '{history.table}'"
    return f'ERROR: relation "{history.table}" does not exist (SQLSTATE 42P01)'


def _down_to(versions: Sequence[int], history: History, limit: int) -> tuple[Choice, ...]:
    known = set(versions)
    chosen: list[Choice] = []
    gone: set[int] = set()
    while (current := _walk(history, gone)) > 0:
        if current not in known and current not in history.living_facts:
            raise errors.AsGoose(
                NO_CURRENT_VERSION,
                code="file-missing",
                detail=f"goose: migration file not found for current version ({current}), error: {NO_CURRENT_VERSION}",
                hint="the database is newer than this directory, and greylag did not apply that version, so no Down text is recorded: "
                "run the image that has the file",
            )
        if current <= limit:
            break
        chosen.append(Choice(current, Direction.DOWN))
        gone.add(current)
    return tuple(chosen)


def _current(versions: Sequence[int], history: History, verb: Verb) -> tuple[Choice, ...]:
    current = _walk(history, set())
    if current not in versions and (current not in history.living_facts or verb is Verb.REDO):
        text = NO_CURRENT_VERSION if verb is Verb.REDO else f"migration {current}: {NO_CURRENT_VERSION}"
        hint = "nothing is applied, so there is nothing to roll back" if current == 0 else "this directory has no file for that version"
        raise errors.AsGoose(text, code="no-current-version", hint=hint)
    down = Choice(current, Direction.DOWN)
    return (down, Choice(current, Direction.UP)) if verb is Verb.REDO else (down,)


def _walk(history: History, gone: set[int]) -> int:
    """Returns the current version after the rows in `gone` were deleted. Raises AsGoose (`no-row`) when there is none."""
    current = history.current_without(gone)
    if current >= 0:
        return current
    raise errors.AsGoose(
        NO_NEXT_VERSION,
        code="no-row",
        hint=f"table {history.table} exists but has no applied row, not even version 0, so what is applied is unknown: restore its rows; or write "
        f"row 0 (INSERT INTO {history.table} (version_id, is_applied) VALUES (0, true)), and if the schema is there already, "
        "`greylag DRIVER DBSTRING baseline -to VERSION`",
    )


def _without_versioning(versions: Sequence[int], target: Target) -> tuple[Choice, ...]:
    ups = [Choice(version, Direction.UP) for version in versions]
    downs = [Choice(version, Direction.DOWN) for version in reversed(versions)]
    match target.verb:
        case Verb.UP:
            chosen = ups
        case Verb.UP_BY_ONE:
            chosen = ups[:1]
        case Verb.UP_TO:
            chosen = [choice for choice in ups if choice.version <= target.version]
        case Verb.DOWN:
            chosen = downs[:1]
        case Verb.DOWN_TO:
            chosen = [choice for choice in downs if choice.version > target.version]
        case Verb.REDO:
            chosen = downs[:1] + ups[-1:]
        case Verb.RESET:
            chosen = downs
    return tuple(chosen)
