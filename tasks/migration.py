"""Step 3, inline: plan and apply a service's migrations on its database. Also the preview that an approval is bound to.

Knows nothing of Prefect: events go to a listener, results are plain data. The database's own lock keeps runs apart.
"""

from __future__ import annotations

import dataclasses
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from pydantic import SecretStr

from migrator import databases, errors, events, files, planning
from migrator.applying import apply
from migrator.lint import examination
from migrator.plans import ACCEPT_NOTHING, Plan, Policy
from tasks import preflight
from tasks.credentials.secret import Credentials
from tasks.fleet_models import Engine, Target
from tasks.outcomes import AppliedMigration, MigrationOutcome, PlannedStep, PlanOutcome, Remark
from tasks.settings import Settings, load

DRIVERS = {Engine.POSTGRES: "postgres", Engine.CLICKHOUSE: "clickhouse"}


def substitutions(target: Target, credentials: Credentials) -> dict[str, str]:
    """What `${NAME}` in a migration may name: the connection's POSTGRES_* or CLICKHOUSE_* values and the service's own `env`.

    The worker's own environment is not among them: a file means the same on every machine, and can't read the worker's secrets. The password
    is added only where fleet.yaml asks for it (`substitute_password`).
    """
    prefix = "POSTGRES" if target.engine is Engine.POSTGRES else "CLICKHOUSE"
    found = {
        f"{prefix}_HOST": credentials.host,
        f"{prefix}_PORT": str(credentials.port),
        f"{prefix}_USER": credentials.username,
        f"{prefix}_USERNAME": credentials.username,
        f"{prefix}_DATABASE": credentials.database,
    }
    if target.substitute_password:
        found[f"{prefix}_PASSWORD"] = credentials.password.get_secret_value()
    return {**found, **target.env}


def load_bundle(target: Target, bundle: str = "") -> files.MigrationSet:
    """The target's migration files; they must digest to `bundle` where one is given.

    Raises PlanRefused (`bundle-changed`), FileError.
    """
    migrations = files.load(target.directory)
    if bundle and (actual := migrations.digest()) != bundle:
        raise errors.PlanRefused(
            f"{target.label}: the files here are bundle {actual[:12]}, this run is for bundle {bundle[:12]}",
            code="bundle-changed",
            hint="run from the image or the commit that has this bundle, or start the release again for the files that are here now",
        )
    return migrations


@contextmanager
def opened(target: Target, url: SecretStr, settings: Settings, run_id: str = "") -> Iterator[databases.Database]:
    """The target's database, under the names by which the server shows this run."""
    options = databases.Options(
        service=target.service,
        run_id=run_id or uuid.uuid4().hex,
        owner_role=target.owner_role,
        locks=dataclasses.replace(
            databases.LockPolicy(), migration_wait=settings.lock_wait_seconds, statement_timeout=settings.statement_timeout_seconds
        ),
    )
    with databases.open_database(DRIVERS[target.engine], url.get_secret_value(), options) as database:
        yield database


def preview(
    target: Target,
    url: SecretStr,
    *,
    bundle: str = "",
    env: Mapping[str, str] | None = None,
    settings: Settings | None = None,
) -> PlanOutcome:
    """What `run` would do now; writes nothing. Raises as `run` does before it applies."""
    migrations = load_bundle(target, bundle)
    with opened(target, url, settings or load()) as database:
        plan = _plan(target, migrations, database, env, ACCEPT_NOTHING)
    return PlanOutcome(
        service=target.service,
        environment=target.environment,
        bundle=plan.bundle,
        plan=plan.digest,
        current=plan.current,
        steps=tuple(
            PlannedStep(
                version=step.version,
                name=step.name,
                direction=str(step.direction),
                mode=str(step.mode),
                statements=len(step.statements),
                checksum=step.checksum,
            )
            for step in plan.steps
        ),
        remarks=_remarks(plan),
    )


def run(
    target: Target,
    url: SecretStr,
    *,
    bundle: str = "",
    plan: str = "",
    env: Mapping[str, str] | None = None,
    policy: Policy = ACCEPT_NOTHING,
    listener: events.Listener = events.ignore,
    settings: Settings | None = None,
    run_id: str = "",
    deadline: float | None = None,
) -> MigrationOutcome:
    """Brings the target's database up to date.

    Args:
        bundle: the digest that the target's files must have; empty takes them as they are.
        plan: the digest of the plan that was approved; only that plan, or what is left of it, is applied.
        env: what ENVSUB reads (`substitutions`).
        deadline: seconds until the running statement is cancelled (activeDeadlineSeconds' rest).

    Raises:
        PlanRefused (`preflight-failed` included), ParseError, FileError, StatementRejected, NeedsAnswer, LoginFailed, NotFound: permanent.
        LockUnavailable, Unavailable, TimedOut, Interrupted: transient; what was finished before is recorded.
    """
    migrations = load_bundle(target, bundle)
    run_id = run_id or uuid.uuid4().hex
    protecting = dataclasses.replace(policy, protected=policy.protected or target.protected)
    with opened(target, url, settings or load(), run_id) as database, _cancelled_after(deadline, database.cancel) as expired:
        try:
            made = _plan(target, migrations, database, env, protecting)
            if made.steps:
                preflight.run(target, made, listener, limit=deadline)
                if target.protected:
                    listener(database.create_restore_point(f"greylag_{run_id[:12]}").note())
            report = apply(database, made, listener, approved_digest=plan, policy=protecting, env=env)
        except errors.Interrupted:
            if expired.is_set():
                raise errors.TimedOut(
                    f"{target.label}: cancelled after activeDeadlineSeconds",
                    code="deadline-exceeded",
                    hint="what was finished is recorded; the next run goes on from there. GREYLAG_ACTIVE_DEADLINE_SECONDS gives it more time",
                ) from None
            raise
        current = database.read_history().current if report.finished else made.current
    return MigrationOutcome(
        service=target.service,
        environment=target.environment,
        bundle=report.plan.bundle,
        plan=report.plan.digest,
        applied=tuple(
            AppliedMigration(version=item.version, name=item.name, statements=item.statements, seconds=round(item.seconds, 3))
            for item in report.finished
        ),
        current=current,
        seconds=round(report.seconds, 3),
        remarks=_remarks(report.plan),
    )


def told(event: events.Event) -> tuple[str, str]:
    """An event as a log line: its level (`debug`, `info`, `warning`) and text. Statements are named by place, never quoted."""
    match event:
        case events.LockWaiting():
            return "info", f"waiting for the migration lock ({event.waited_seconds:.0f} s), held by {event.holder}"
        case events.LockAcquired():
            return "debug", f"migration lock taken after {event.waited_seconds:.1f} s"
        case events.MigrationStarted():
            return "info", f"{event.name}: {event.direction}, {event.statements} statement(s)"
        case events.StatementFinished():
            return "debug", f"version {event.version}, statement {event.index} (line {event.first_line}): {event.seconds:.2f} s"
        case events.StatementRetried():
            blocked = f"version {event.version}, statement {event.index} (line {event.first_line}) got no lock, blocked by {event.blocker}"
            return "warning", f"{blocked}; attempt {event.attempt}, again in {event.delay_seconds:.1f} s"
        case events.StatementSettled():
            return "warning", f"version {event.version}, statement {event.index} of an earlier run: {event.outcome} ({event.evidence})"
        case events.MigrationFinished():
            return "info", f"{event.name}: applied, {event.statements} statement(s) in {event.seconds:.2f} s"
        case events.Note():
            return ("warning" if event.level == "warning" else "info"), f"{event.message} [{event.code}]"
    return "debug", event.kind


@contextmanager
def _cancelled_after(seconds: float | None, cancel: Callable[[], None]) -> Iterator[threading.Event]:
    """Calls `cancel` from another thread when the time is up: a statement that runs blocks this one."""
    expired = threading.Event()
    if seconds is None:
        yield expired
        return

    def expire() -> None:
        expired.set()
        cancel()

    timer = threading.Timer(seconds, expire)
    timer.daemon = True  # never keeps the process alive, whatever happens to the run
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()


def _plan(
    target: Target, migrations: files.MigrationSet, database: databases.Database, env: Mapping[str, str] | None, policy: Policy
) -> Plan:
    asked = planning.Target(planning.Verb.UP)
    return planning.plan(migrations, database.read_history(), asked, engine=database.engine, policy=policy, env=env)


def _remarks(plan: Plan) -> tuple[Remark, ...]:
    """The plan's own remarks, then what to know before it runs on a database in use."""
    found = (*plan.remarks, *(examination.examine(plan) if plan.steps else ()))
    return tuple(Remark(code=item.code, message=item.message, hint=item.hint) for item in found)
