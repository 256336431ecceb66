"""The reasons to refuse a plan (architecture.md §2.2): pure checks, each with its code, place and remedy. `planner` calls them in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from migrator import errors
from migrator.planning import contradictions, journal, selection
from migrator.planning.history import History
from migrator.planning.plans import Acceptance, Plan, Policy, Step, approves
from migrator.targets import UPWARDS, Direction, Target, Verb

if TYPE_CHECKING:
    from migrator.planning import files


def require_files(migrations: files.MigrationSet, target: Target) -> None:
    """Raises FileError when goose would say that it found no migration files (goose.md §3.2)."""
    limited = target.verb is Verb.UP_TO and all(item.version > target.version for item in migrations.migrations)
    if not migrations.migrations or limited:
        raise errors.FileError(
            "no migration files found",
            code="no-migration-files",
            hint=f"files in {migrations.directory} are named VERSION_name.sql; `greylag -dir DIR create NAME sql` writes one"
            if not limited
            else f"no file has a version up to {target.version}",
        )


def require_allowed(target: Target, policy: Policy) -> None:
    """Raises PlanRefused for rolling back a protected environment."""
    if policy.protected and target.verb not in UPWARDS:
        raise errors.PlanRefused(
            f"{target.verb} is refused: this environment is protected",
            code="protected-environment",
            hint="roll forward with a new migration (-protected, GREYLAG_PROTECTED or `protected: true` in fleet.yaml protects it)",
        )


def require_in_order(migrations: files.MigrationSet, history: History, target: Target) -> None:
    """Raises PlanRefused with goose's text for versions older than the newest applied one (goose.md §6.1)."""
    if target.verb not in UPWARDS or target.allow_missing:
        return
    found = selection.missing([item.version for item in migrations.migrations], history, target)
    if not found.versions:
        return
    listed = "\n\t".join(f"version {version}: {migrations.by_version(version).path}" for version in found.versions)  # type: ignore[union-attr]
    raise errors.PlanRefused(
        f"error: found {len(found.versions)} missing migrations before current version {found.newest}:\n\t{listed}",
        code="missing-versions",
        hint="they were merged after newer ones had been applied: -allow-missing applies them first, or rename them to newer versions",
    )


def require_young_enough(migrations: files.MigrationSet, history: History) -> None:
    """Raises PlanRefused when a newer applied version says that this image is too old (`-- greylag: oldest-app`)."""
    for version, fact in history.living_facts.items():
        if fact.oldest_app is not None and version > migrations.newest and migrations.newest < fact.oldest_app:
            raise errors.PlanRefused(
                f"version {version} ({fact.name}) says that images older than {fact.oldest_app} can't run on this database; "
                f"this image's newest file is {migrations.newest}",
                code="older-app",
                hint="roll forward to a newer image, or roll the database back below that version first",
            )


def require_unchanged(migrations: files.MigrationSet, history: History, policy: Policy, *, thorough: bool) -> None:
    """Raises PlanRefused when a file changed after it was applied, or is another one than was applied, which no policy accepts. Sizes and names are always
    compared, contents only if something would run: a run with nothing to do must not read ten thousand files; `verify` always reads them."""
    for file in migrations.migrations:
        fact = history.living_facts.get(file.version)
        if fact is None or (file.size == fact.size and file.name == fact.name and not thorough):
            continue
        if contradictions.is_taken(file, fact):
            raise contradictions.taken(file, fact, history)
        if not policy.accept_changed and not file.has(fact.checksum):  # another size alone may be other line ends
            raise errors.PlanRefused(
                f"{file.name} changed after it was applied (recorded sha256 {fact.checksum[:12]}, now {file.checksum()[:12]})",
                code="checksum-changed",
                where=errors.Location(file.path),
                hint="restore the file and put the change into a new migration; "
                f"if the change is harmless, `greylag DRIVER DBSTRING repair -checksum {file.version}` records the new content",
            )


def accepted(steps: Sequence[Step], policy: Policy) -> tuple[Step, ...]:
    """Returns the steps, each with what the policy accepts of its lossy hazards. Raises PlanRefused for a pending file that goose would not apply as
    written (`migrator.goose.hazards`), where nothing accepts that."""
    return tuple(_accepted(step, policy) if step.hazards else step for step in steps)


def _accepted(step: Step, policy: Policy) -> Step:
    from migrator.goose.hazards import HazardKind

    found: dict[str, Acceptance] = {}
    for hazard in step.hazards:
        if hazard.kind is HazardKind.LOSSY:
            acceptance = policy.acceptance(step.name, hazard.code)
            if acceptance is None:
                raise errors.PlanRefused(
                    hazard.message,
                    code=hazard.code,
                    where=errors.Location(step.path, hazard.line),
                    hint=f"{hazard.hint}; to run the file as goose would: -accept-hazard {step.name}:{hazard.code}:REASON (or -accept-hazards), "
                    "or accepted_hazards of the service in fleet.yaml",
                )
            found[hazard.code] = acceptance
    kept = tuple(found.values())
    return step if kept == step.accepted else replace(step, accepted=kept)


def require_finished(plan: Plan, half_way: Sequence[journal.Unfinished]) -> None:
    """Raises PlanRefused (`half-applied`) for a plan that goes down beside a migration which an earlier run left half-way: what that has done may go with
    what it builds on, and its journal would still say that it is done, so that the next `up` leaves it out."""
    if not plan.target.versioning or all(step.direction is Direction.UP for step in plan.steps):
        return
    steps = {(step.version, step.direction) for step in plan.steps}
    for item in half_way:
        if (item.version, item.direction) in steps:
            continue
        doubt = ", and the next may be" if item.unknown else ""
        raise errors.PlanRefused(
            f"version {item.version} is half-way {item.direction} ({item.done} statement(s) are done{doubt}): "
            f"{plan.target.verb} would take back what it builds on, and the next run would take these statements for done",
            code="half-applied",
            hint=f"finish it first with `{item.direction}`; or `greylag DRIVER DBSTRING repair -not-done {item.version}:1`, after which it begins anew",
        )


def require_approved(digest: str, candidate: Plan, history: History) -> None:
    """Raises PlanRefused (`approval-mismatch`) unless an approval of the plan with this digest covers the candidate."""
    if not approves(digest, candidate, history):
        raise errors.PlanRefused(
            f"the approval is for another plan ({digest[:12]}); this database needs {candidate.digest[:12]}",
            code="approval-mismatch",
            hint="the database or the files changed since the approval: look at the new plan and approve that one",
        )
