"""Makes a plan from migrations, history and target: what would run, in order, and why it may not (pure, printable; architecture.md §2.2).

The rules are goose's command semantics (goose.md §6), with two differences (architecture.md §2.2): every pending file is read and
parsed before anything runs, and refusals name file, line and remedy. A version that only the database knows causes a warning and no refusal,
because every rollback to an older image meets a newer database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from migrator import errors
from migrator.planning import contradictions, refusals, selection
from migrator.planning.history import Fact, History, Outline
from migrator.planning.plans import ACCEPT_NOTHING, HAZARD_ACCEPTED, Plan, Policy, Remark, Step
from migrator.targets import UPWARDS, Direction, Engine, Mode, Target, Verb

if TYPE_CHECKING:
    from migrator.planning import files


Recall = Callable[[int], bytes | None]


def plan(
    migrations: files.MigrationSet,
    history: History,
    target: Target,
    *,
    engine: Engine,
    policy: Policy = ACCEPT_NOTHING,
    env: Mapping[str, str] | None = None,
    known: Sequence[Step] = (),
    recall: Recall | None = None,
) -> Plan:
    """Decides what would run. Reads the files that would run, and compares checksums if anything would run.

    Args:
        env: the variables for ENVSUB; None takes the process environment.
        known: steps of an earlier plan over the same directory, reused instead of being parsed again.
        recall: reads the recorded file of a version that the directory lacks (`Database.read_down_text`); needed to roll such a version back.

    Raises:
        FileError: no migration files (goose.md §3.2).
        ParseError: a pending file can't be split.
        PlanRefused: checksum changed, missing versions, lossy hazards, a Go migration, a protected environment, an older image.
        AsGoose: when goose itself ends with exit code 1.
    """
    refusals.require_files(migrations, target)
    refusals.require_allowed(target, policy)
    versions = [item.version for item in migrations.migrations]
    if target.versioning:
        if target.verb in UPWARDS:
            contradictions.require_none(migrations, history)
        refusals.require_in_order(migrations, history, target)
        refusals.require_young_enough(migrations, history)
    choices = selection.select(versions, history, target)
    if target.versioning:
        refusals.require_unchanged(migrations, history, policy, thorough=bool(choices))
    reuse = {(step.version, step.direction): step for step in known}
    steps = tuple(
        reuse.get((choice.version, choice.direction)) or _step(choice, migrations, history, engine, env, recall) for choice in choices
    )
    steps = refusals.accepted(steps, policy)
    current = 0 if not target.versioning else history.current
    return Plan(migrations, target, engine, steps, current, _remarks(migrations, history, target, steps))


def adopting(migrations: files.MigrationSet, history: History, version: int, *, engine: Engine) -> Plan:
    """Returns the plan that records the files up to `version` that have no row, and executes nothing: its steps are empty. Of a file only its notes are
    parsed; Go migrations are recorded, too.

    Raises FileError (no files, one that can't be read), ParseError (a note).
    """
    from migrator.goose import notes

    target = Target(Verb.UP_TO, version=version, allow_missing=True)
    refusals.require_files(migrations, target)
    mode = Mode.CLICKHOUSE if engine is Engine.CLICKHOUSE else Mode.TRANSACTION
    steps = []
    for choice in selection.select([item.version for item in migrations.migrations], history, target):
        file = migrations.by_version(choice.version)
        assert file is not None
        content = file.read()
        read = notes.EMPTY if file.kind == "go" else notes.parse(content, path=file.path)
        recorded = b"" if file.kind == "go" else content
        steps.append(
            Step(file.version, file.name, file.path, choice.direction, mode, (), file.checksum(), len(content), read, down_text=recorded)
        )
    return Plan(migrations, target, engine, tuple(steps), history.current)


def settled(migrations: files.MigrationSet, outline: Outline, target: Target, *, engine: Engine) -> Plan | None:
    """Returns the empty plan of an upward verb, if the outline alone proves that `plan` would make one without a remark; else None.

    A pod's start usually finds nothing to do, and this keeps it fast. Every doubtful case is left to `plan`.
    """
    if target.verb not in UPWARDS or not target.versioning or outline.limits:
        return None
    refusals.require_files(migrations, target)
    sizes = {item.version: item.size for item in migrations.migrations}
    names = {item.version: item.name for item in migrations.migrations}
    same = outline.versions - {0} == sizes.keys() and outline.sizes.items() <= sizes.items() and outline.names.items() <= names.items()
    return Plan(migrations, target, engine, (), outline.current) if same else None


def remaining(earlier: Plan, history: History, *, policy: Policy = ACCEPT_NOTHING, env: Mapping[str, str] | None = None) -> Plan:
    """Makes the plan again from a fresh history, for use under the lock.

    The remaining steps must be part of the earlier plan, in its order. If another runner has done all of it, the result is empty.

    Raises:
        PlanRefused: `plan-moved`: the database changed, and other steps would be needed.
    """
    if not earlier.target.versioning:
        return earlier
    again = plan(earlier.migrations, history, earlier.target, engine=earlier.engine, policy=policy, env=env, known=earlier.steps)
    rest = iter((step.version, step.direction) for step in earlier.steps)
    if all((step.version, step.direction) in rest for step in again.steps):
        return again
    upwards = [step.version for step in earlier.steps if step.direction is Direction.UP]
    if earlier.target.verb in UPWARDS and all(version in history.versions for version in upwards):
        return replace(again, steps=())
    raise errors.PlanRefused(
        "the database moved since the plan was made: other steps would be needed now",
        code="plan-moved",
        hint="somebody else migrated this database meanwhile: look at `greylag history`, then run the command again",
    )


def _step(
    choice: selection.Choice,
    migrations: files.MigrationSet,
    history: History,
    engine: Engine,
    env: Mapping[str, str] | None,
    recall: Recall | None,
) -> Step:
    file = migrations.by_version(choice.version)
    if file is None:
        return _step_from_fact(history.living_facts[choice.version], engine, env, recall)
    if file.kind == "go":
        raise errors.PlanRefused(
            f"ERROR {file.path}: failed to run Go migration: Go functions must be registered and built into a custom binary "
            "(see https://github.com/pressly/goose/tree/master/examples/go-migrations)",
            code="go-migration",
            where=errors.Location(file.path),
            hint="greylag runs SQL only: port the migration to SQL, or apply it with your goose binary and go on with greylag afterwards",
        )
    content = file.read()
    return _parsed(file.version, file.name, file.path, choice.direction, content, file.checksum(), engine, env)


def _step_from_fact(fact: Fact, engine: Engine, env: Mapping[str, str] | None, recall: Recall | None) -> Step:
    content = recall(fact.version) if recall else None
    if not content:  # no text is kept of a Go migration
        raise errors.AsGoose(
            f"migration {fact.version}: {selection.NO_CURRENT_VERSION}",
            code="file-missing",
            hint=f"neither this directory nor the database holds the text of {fact.name}: run the image that has the file",
        )
    return _parsed(fact.version, fact.name, f"{fact.name} (recorded)", Direction.DOWN, content, fact.checksum, engine, env)


def _parsed(
    version: int,
    name: str,
    path: str,
    direction: Direction,
    content: bytes,
    checksum: str,
    engine: Engine,
    env: Mapping[str, str] | None,
) -> Step:
    # The splitter and its lexer take tens of milliseconds to import, and a run with nothing to do parses nothing.
    from migrator.goose.annotations import parse

    parsed = parse(content, direction, env, path=path)
    if engine is Engine.CLICKHOUSE:
        mode = Mode.CLICKHOUSE
    else:
        mode = Mode.TRANSACTION if parsed.use_transaction else Mode.AUTOCOMMIT
    return Step(
        version=version,
        name=name,
        path=path,
        direction=direction,
        mode=mode,
        statements=parsed.statements,
        checksum=checksum,
        size=len(content),
        notes=parsed.notes,
        down_text=content if direction is Direction.UP else b"",
        hazards=parsed.hazards_for(engine),
    )


def _remarks(migrations: files.MigrationSet, history: History, target: Target, steps: Sequence[Step]) -> tuple[Remark, ...]:
    found = _of_hazards(steps)
    if target.versioning and target.verb in UPWARDS:
        known = {item.version for item in migrations.migrations}
        foreign = sorted(version for version in history.applied if version not in known)
        if foreign:
            listed = ", ".join(str(version) for version in foreign[:5]) + (", …" if len(foreign) > 5 else "")
            found.append(
                Remark(
                    "newer-database",
                    f"the database has {len(foreign)} version(s) that this directory lacks: {listed}",
                    "expected when an older image runs on a newer database; otherwise check -dir",
                )
            )
    found += [
        Remark("go-migration", f"{item.path}: Go migrations can't be run by greylag", "apply it with your goose binary")
        for item in migrations.migrations
        if item.kind == "go" and item.version not in history.versions
    ]
    return tuple(found)


def _of_hazards(steps: Sequence[Step]) -> list[Remark]:
    """Returns warnings for statements that goose sends as one and that the server executes nevertheless, and for lossy hazards that were accepted."""
    found = []
    for step in steps:
        reasons = {item.hazard: item.reason for item in step.accepted}
        for hazard in step.hazards:
            told = f"{step.path}:{hazard.line}: {hazard.message}"
            if hazard.code in reasons and hazard.kind == "lossy":
                found.append(Remark(HAZARD_ACCEPTED, f"{told} [{hazard.code}]; accepted: {reasons[hazard.code]}"))
            elif hazard.kind == "merged":
                found.append(Remark(hazard.code, told, hazard.hint))
    return found
