"""The verbs that run migrations, `up`, `up-by-one`, `up-to`, `down`, `down-to`, `redo` and `reset`: one function, which plans, applies, and closes
with goose's line (goose.md §5.4, §6). What each of them would run is decided by `planning`; `down` takes a text that the directory lacks from the
database's records, `redo` is two transactions, and `up-by-one` ends with 1 when nothing is left.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from migrator import errors
from migrator.cli.engine_calls import EngineCall
from migrator.planning import planner, refusals
from migrator.planning.approvals import Approval
from migrator.planning.history import History
from migrator.targets import UPWARDS, Target, Verb

if TYPE_CHECKING:
    from migrator import databases
    from migrator.house_rules import Settings
    from migrator.planning import events, files, plans

    Finished = tuple[events.MigrationFinished, ...]


def target(verb: Verb, call: EngineCall, arguments: tuple[str, ...] | None = None) -> Target:
    """Returns the target of a verb with its words. Raises UsageError with goose's text for a missing or bad VERSION."""
    words = call.invocation.arguments if arguments is None else arguments
    version = 0
    if verb in (Verb.UP_TO, Verb.DOWN_TO):
        if not words:
            raise errors.UsageError(
                f"{verb} must be of form: goose DRIVER DBSTRING [OPTIONS] {verb} VERSION",
                hint=f"for example `{verb} 20260301120000`; `status` lists the versions",
            )
        version = parse_version(words[0])
    return Target(
        verb,
        version=version,
        allow_missing=call.values.boolean("allow-missing"),
        versioning=not call.values.boolean("no-versioning"),
    )


def parse_version(word: str) -> int:
    """Reads a version on the command line. Raises UsageError with goose's text."""
    digits = word[1:] if word[:1] in ("+", "-") else word
    if not (digits.isascii() and digits.isdigit()) or abs(int(digits)) >= 1 << 63:
        raise errors.UsageError(f"version must be a number (got '{word}')", hint="`greylag … status` lists the versions")
    return int(word)


def make_plan(
    call: EngineCall, database: databases.Database, migrations: files.MigrationSet, history: History, wanted: Target
) -> plans.Plan:
    """Makes the plan against the database as its history was read. Raises as `planner.plan`, and PlanRefused (`house-rule`)."""
    plan = planner.plan(
        migrations,
        history,
        wanted,
        engine=database.engine,
        policy=policy(call, wanted),
        env=call.invocation.env,
        recall=database.read_down_text,
    )
    _require_house_rules(plan, call.rules)
    return plan


def _require_house_rules(plan: plans.Plan, rules: Settings) -> None:
    from migrator import databases

    databases.require_house_rules(plan, rules)


def warned(plan: plans.Plan, rules: Settings) -> plans.Plan:
    """Returns the plan with the engine's warnings, and those of the house rules that are on, among its remarks."""
    from migrator import databases

    return replace(plan, remarks=(*plan.remarks, *databases.warnings(plan, rules)))


def resuming(plan: plans.Plan, database: databases.Database, history: History) -> plans.Plan:
    """Returns the plan with what earlier runs left half-way among its remarks: where a step goes on. Raises PlanRefused (`half-applied`)."""
    if not plan.steps or not plan.target.versioning:
        return plan
    from migrator.planning import journal
    from migrator.planning.plans import Remark

    steps = {(step.version, step.direction): step for step in plan.steps}
    remarks: list[Remark] = []
    half_way = journal.unfinished(database.read_journal(), history.applied)
    refusals.require_finished(plan, half_way)
    for item in half_way:
        step = steps.get((item.version, item.direction))
        if step is not None:
            where = f"{step.path}:{step.statements[item.done].first_line}" if item.done < len(step.statements) else step.path
            doubt = ", and may have executed the next" if item.unknown else ""
            told = f"{where}: an earlier run executed {item.done} of {len(step.statements)} statement(s){doubt}: it goes on here"
            remarks.append(Remark("resumes", told))
    return replace(plan, remarks=(*plan.remarks, *remarks))


def policy(call: EngineCall, wanted: Target) -> plans.Policy:
    """Returns what the flags accept; `redo` exists to apply an edited file again, so its change is what is asked for."""
    if wanted.verb is Verb.REDO:
        return replace(call.policy, accept_changed=True)
    return call.policy


def run(call: EngineCall) -> int:
    """Plans, applies, prints: whichever verb of the table was called. Raises as planning and applying do."""
    verb = Verb(call.invocation.verb.name)
    wanted = target(verb, call)
    if verb is Verb.RESET:
        call.error_prefix = "failed to collect migrations: "
    migrations = call.load()
    refusals.require_files(migrations, wanted)  # up-to looks at files up to its version; goose says so before it connects
    call.error_prefix = ""
    with call.open() as database:
        try:
            plan, history = _settled(database, migrations, wanted), None
            if plan is None:
                history = database.read_history()
                plan = make_plan(call, database, migrations, history, wanted)
        except errors.FileError:
            _prefix_reset(call, wanted)
            raise
        call.plan = plan
        finished: Finished = ()
        remarks = plan.remarks
        if plan.steps:  # else nothing is locked, and what executes is not even imported
            told = warned(plan, call.rules)
            if history is not None and verb not in UPWARDS:
                told = resuming(told, database, history)
            remarks = told.remarks
            plan, finished = _apply(call, database, plan)
            call.plan = plan
        code = _close(call, plan, finished, database)
    call.document["remarks"] = [{"code": item.code, "message": item.message, "hint": item.hint} for item in remarks]
    for remark in remarks:
        call.own(f"warning: {remark.message} [{remark.code}]" + (f"\nhint: {remark.hint}" if remark.hint else ""))
    return code


def _settled(database: databases.Database, migrations: files.MigrationSet, wanted: Target) -> plans.Plan | None:
    if wanted.verb not in UPWARDS or not wanted.versioning:
        return None
    outline = database.read_outline()
    return planner.settled(migrations, outline, wanted, engine=database.engine) if outline else None


def _apply(call: EngineCall, database: databases.Database, plan: plans.Plan) -> tuple[plans.Plan, Finished]:
    """Applies; returns the plan as it was made again under the lock, and what was finished."""
    from migrator import applying

    approved, approval = _approval(call, database, plan)
    if call.policy.protected:
        call.listen(database.create_restore_point(f"greylag_{call.run_id[:12]}").note())
    try:
        accepted = policy(call, plan.target)
        report = applying.apply(
            database, plan, call.listen, approved_digest=approved, approval=approval, policy=accepted, env=call.invocation.env
        )
    except errors.GreylagError as error:
        told = _with_statement(error, call, plan) if isinstance(error, errors.TimedOut) else error
        if told.message.startswith("ERROR "):
            _prefix_reset(call, plan.target)
        raise told from None
    call.document.update(report.document())
    return report.plan, report.finished


def _approval(call: EngineCall, database: databases.Database, plan: plans.Plan) -> tuple[str, Approval | None]:
    """Returns the approved plan's digest and the approval: what `-approved-digest` and `-approval` name, as a flow gives them to its Job, or where
    `-approvers` says whose signatures count, what the signed document holds."""
    digest, given, approvers = (call.values.string(name) for name in ("approved-digest", "approval", "approvers"))
    if approvers:
        from migrator import signed_approvals

        who = signed_approvals.Approvers(Path(approvers), call.values.integer("approvers-minimum"))
        asked = signed_approvals.Asked(call.values.string("service"), call.values.string("image"), plan.bundle, database.identity())
        found = signed_approvals.accepted(given, who, asked, digest)
        call.own(f"approval {found.approval.identity[:12]}, signed by {', '.join(found.persons)}")
        return found.plan, found.approval
    if not given:
        return digest, None
    identity, _, until = given.partition("@")
    try:
        return digest, Approval(identity, float(until) if until else None)
    except ValueError:
        raise errors.UsageError(
            f'-approval: "{given}" is not an approval',
            hint="write IDENTITY or IDENTITY@SECONDS, as the flow does; a signed one needs -approvers",
        ) from None


def _prefix_reset(call: EngineCall, wanted: Target) -> None:
    """Puts goose's words before an error in a file, which it says when it rolls back everything that its table names."""
    if wanted.verb is Verb.RESET and wanted.versioning:
        call.error_prefix = "failed to db-down: "


def _close(call: EngineCall, plan: plans.Plan, finished: Finished, database: databases.Database) -> int:
    """goose's last line, and the exit code."""
    wanted = plan.target
    if not wanted.versioning:
        _close_without_versioning(call, plan, finished)
        return 0
    if wanted.verb in (Verb.REDO, Verb.RESET, Verb.DOWN):
        if call.json:
            call.document["current"] = database.read_history().current
        return 0
    if wanted.verb is Verb.DOWN_TO:
        current = database.read_history().current
        call.log(f"goose: no migrations to run. current version: {current}")
    elif finished:
        current = finished[-1].version
        if wanted.verb is not Verb.UP_BY_ONE:
            call.log(f"goose: successfully migrated database to version: {current}")
    else:
        current = plan.current
        call.log(f"goose: no migrations to run. current version: {current}")
    call.document["current"] = current
    if wanted.verb is Verb.UP_BY_ONE and not finished:
        raise errors.AsGoose("no next version found", code="nothing-left", hint="every file is applied; `up` ends with 0 in that case")
    return 0


def _close_without_versioning(call: EngineCall, plan: plans.Plan, finished: Finished) -> None:
    wanted = plan.target
    versions = [item.version for item in plan.migrations.migrations]
    if wanted.verb in UPWARDS:
        call.log(f"goose: up to current file version: {finished[-1].version if finished else 0}")
    elif wanted.verb is not Verb.REDO:
        limit = {Verb.DOWN: versions[-1] - 1, Verb.DOWN_TO: wanted.version}.get(wanted.verb, 0)
        final = max((version for version in versions if version <= limit), default=0)
        call.log(f"goose: down to current file version: {final}")


def _with_statement(error: errors.TimedOut, call: EngineCall, plan: plans.Plan) -> errors.TimedOut:
    """Returns a time-out in goose's words, which name the statement; the text is the file's own, before ENVSUB."""
    if error.code != "deadline" or call.running is None:
        return error
    from migrator.cli import interruption
    from migrator.goose import excerpts, goquote

    version, index = call.running
    step = next((step for step in plan.steps if step.version == version), None)
    if step is None or index > len(step.statements):
        return error
    statement = step.statements[index - 1]
    return errors.TimedOut(
        f"ERROR {step.name}: failed to run SQL migration: failed to execute SQL query "
        f"{goquote.quote(excerpts.quoted_query(statement.source))}: {interruption.TIMEOUT_TEXT}",
        code=error.code,
        where=errors.Location(step.path, statement.first_line),
        hint=error.hint,
    )
