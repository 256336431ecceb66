"""Step 3, inline: plans and applies a service's migrations on its database. Also makes the preview that an approval is bound to.

Knows nothing of Prefect: events go to a listener, results are plain data. The database's own lock keeps runs apart.
"""

from __future__ import annotations

import dataclasses
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pydantic import SecretStr

from migrator import databases, errors, targets
from migrator.applying import Report, apply
from migrator.planning import events, files, planner, plans, refusals
from migrator.planning.history import History
from migrator.planning.plans import Plan, Policy
from tasks import bundles, commands, database_url
from tasks.credentials.source import Credentials
from tasks.fleet.models import Engine, Target
from tasks.outcomes import AppliedMigration, MigrationOutcome, PlannedStep, PlanOutcome, Remark
from tasks.request import Request
from tasks.settings import Settings

DRIVERS = {Engine.POSTGRES: "postgres", Engine.CLICKHOUSE: "clickhouse"}


def substitutions(target: Target, credentials: Credentials) -> dict[str, str]:
    """Returns the values that `${NAME}` in a migration may stand for: the connection's POSTGRES_* or CLICKHOUSE_* values and the service's own `env`.

    The worker's own environment is not among them, so that a file means the same on every machine and can't read the worker's secrets. The password
    is added only if fleet.yaml asks for it (`substitute_password`). For a short-lived login the user is its owner role: the login's own name would be
    useless tomorrow, and would change the plan's digest with each run.
    """
    username = target.owner_role if target.source.short_lived else credentials.username
    prefix = "POSTGRES" if target.engine is Engine.POSTGRES else "CLICKHOUSE"
    found = {
        f"{prefix}_HOST": credentials.host,
        f"{prefix}_PORT": str(credentials.port),
        f"{prefix}_USER": username,
        f"{prefix}_USERNAME": username,
        f"{prefix}_DATABASE": credentials.database,
    }
    if target.substitute_password:
        found[f"{prefix}_PASSWORD"] = credentials.password.get_secret_value()
    return {**found, **target.env}


def load_bundle(target: Target, bundle: str = "") -> files.MigrationSet:
    """Loads the target's migration files; if `bundle` is given, it must be their digest, or that of files that this worker has kept (`bundles`).

    Raises PlanRefused (`bundle-changed`), FileError.
    """
    migrations = files.load(target.directory)
    if bundle and (actual := migrations.digest()) != bundle:
        if kept := bundles.find(bundle):
            return kept
        raise errors.PlanRefused(
            f"{target.label}: the files here are bundle {actual[:12]}, this run is for bundle {bundle[:12]}",
            code="bundle-changed",
            hint="run from the image or the commit that has this bundle, or start the release again for the files that are here now",
        )
    bundles.keep(migrations)
    return migrations


@contextmanager
def opened(
    target: Target, url: SecretStr, settings: Settings, run_id: str = "", leave: Callable[[], bool] = databases.stay
) -> Iterator[databases.Database]:
    """Opens the target's database, under the names by which the server shows this run; `leave` as in `databases.Options`."""
    options = databases.Options(
        service=target.service,
        run_id=run_id or uuid.uuid4().hex,
        owner_role=target.owner_role,
        locks=dataclasses.replace(
            databases.LockPolicy(), migration_wait=settings.lock_wait_seconds, statement_timeout=settings.statement_timeout_seconds
        ),
        leave=leave,
    )
    try:
        opened_database = databases.open_database(DRIVERS[target.engine], url.get_secret_value(), options)
    except errors.LoginFailed as error:
        error.hint = database_url.login_hint(target, url)
        raise
    with opened_database as database:
        yield database


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A plan, and the history that it was made from, in the database of that identity."""

    plan: Plan
    history: History
    database: str = ""

    def covered_by(self, digest: str) -> bool:
        """Tells whether this plan is the one with that digest, or the rest of it."""
        return plans.approves(digest, self.plan, self.history)


def prepare(request: Request) -> Prepared:
    """Makes the plan for the database as it is now; writes nothing. Raises as `run` does before it applies."""
    migrations = load_bundle(request.target, request.bundle)
    way = request.access()
    with way.watched(), opened(request.target, way.url(), request.settings) as database:
        identity = _require_identity(request, database)
        history = database.read_history()
        plan = _plan(request, migrations, history, database)
        database.require_fit(plan)
        plan = dataclasses.replace(plan, remarks=(*plan.remarks, *database.read_remarks(plan)))
    if request.plan:
        refusals.require_approved(request.plan, plan, history)
    return Prepared(plan, history, identity)


def _require_identity(request: Request, database: databases.Database) -> str:
    """Returns the database's identity. Raises PlanRefused (`approval-other-database`) when another one was approved."""
    found = database.identity()
    if request.database and found != request.database:
        raise errors.PlanRefused(
            f"{request.target.label}: this database is {found}, approved was {request.database}",
            code="approval-other-database",
            hint="was it restored or moved since the plan? Look, then promote again",
        )
    return found


def preview(request: Request) -> PlanOutcome:
    """Returns what `run` would do now; writes nothing. Raises as `run` does before it applies."""
    prepared, target = prepare(request), request.target
    plan = prepared.plan
    return PlanOutcome(
        service=target.service,
        environment=target.environment,
        bundle=plan.bundle,
        plan=plan.digest,
        current=plan.current,
        database=prepared.database,
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
        remarks=remarks(target, plan),
    )


def run(request: Request, listener: events.Listener = events.ignore) -> MigrationOutcome:
    """Applies the pending migrations to the target's database, or rolls it back to `request.to`.

    When the run's credentials are about to end, it stops at the next boundary (between two migrations, or two statements of a file
    that isn't one transaction) and continues with fresh ones, on a new connection, with a new lock and a new plan.

    Raises:
        PlanRefused (`preflight-failed` and `house-rule` included), ParseError, FileError, StatementRejected, NeedsAnswer, LoginFailed, NotFound: permanent.
        LockUnavailable, Unavailable, TimedOut, Interrupted: transient; what was finished before is recorded.
    """
    target, env = request.target, request.env
    migrations = load_bundle(target, request.bundle)
    run_id = request.run_id or uuid.uuid4().hex
    policy = policy_of(target, request.policy)
    way = request.access()
    started = time.monotonic()
    legs: list[Report] = []
    while not legs or legs[-1].left:
        rest = None if request.deadline is None else max(request.deadline - (time.monotonic() - started), 0.0)
        with (
            way.watched(),
            opened(target, way.url(), request.settings, run_id, way.outlived if way.changes else databases.stay) as database,
            _deadline(target, rest, database.cancel),
        ):
            if request.database:
                _require_identity(request, database)
            history = database.read_history()
            made = _plan(request, migrations, history, database)
            if made.steps and not legs:
                if request.plan:  # nothing runs for a plan that nobody approved, not a command of fleet.yaml either
                    refusals.require_approved(request.plan, made, history)
                _before_a_change(target, made, database, listener, run_id, rest)
            report = apply(database, made, listener, approved_digest=request.plan, approval=request.approval, policy=policy, env=env)
            legs.append(report)
            if legs[-1].left:
                listener(events.Note("info", "credentials-replaced", "the database login is about to end: going on with a fresh one"))
            current = database.read_history().current if legs[-1].finished else made.current
    return _outcome(target, legs, current)


def note_approval(request: Request) -> None:
    """Notes in the database that the request's approval is begun, or used where nothing is left of its plan: for a migration that somebody else applies.

    Raises PlanRefused (`approval-used`, `proof-expired`, and as `prepare`).
    """
    if request.approval is None:
        return
    migrations, way = load_bundle(request.target, request.bundle), request.access()
    with way.watched(), opened(request.target, way.url(), request.settings, request.run_id) as database:
        _require_identity(request, database)
        with database.lock(events.ignore):
            made = _plan(request, migrations, database.ensure_history(), database)
            database.begin_approval(request.approval, made.steps)


def policy_of(target: Target, given: Policy) -> Policy:
    """Returns a run's policy: what it was given, and what fleet.yaml says of the target."""
    named = tuple(plans.Acceptance(item.file, item.hazard, item.reason) for item in target.accepted_hazards)
    return dataclasses.replace(given, protected=given.protected or target.protected, accepted=(*given.accepted, *named))


def _before_a_change(
    target: Target, plan: Plan, database: databases.Database, listener: events.Listener, run_id: str, limit: float | None
) -> None:
    commands.check(target, plan, listener, limit=limit)
    if target.protected:
        listener(database.create_restore_point(f"greylag_{run_id[:12]}").note())


def _outcome(target: Target, legs: Sequence[Report], current: int) -> MigrationOutcome:
    """Sums up what a run did on all its connections; the plan of the first one is the whole plan."""
    plan = legs[0].plan
    return MigrationOutcome(
        service=target.service,
        environment=target.environment,
        bundle=plan.bundle,
        plan=plan.digest,
        applied=tuple(
            AppliedMigration(version=item.version, name=item.name, statements=item.statements, seconds=round(item.seconds, 3))
            for leg in legs
            for item in leg.finished
        ),
        current=current,
        seconds=round(sum(leg.seconds for leg in legs), 3),
        remarks=remarks(target, plan),
    )


def told(event: events.Event) -> tuple[str, str]:
    """Returns an event as a log line: its level (`debug`, `info`, `warning`) and text. Statements are named by place, never quoted."""
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
            done = "rolled back" if event.direction is targets.Direction.DOWN else "applied"
            return "info", f"{event.name}: {done}, {event.statements} statement(s) in {event.seconds:.2f} s"
        case events.Note():
            return ("warning" if event.level == "warning" else "info"), f"{event.message} [{event.code}]"
    return "debug", event.kind


@contextmanager
def _deadline(target: Target, seconds: float | None, cancel: Callable[[], None]) -> Iterator[None]:
    """Cancels the running work when the time is up, and raises TimedOut for that reason."""
    with _cancelled_after(seconds, cancel) as expired:
        try:
            yield
        except errors.Interrupted:
            if not expired.is_set():
                raise
            raise errors.TimedOut(
                f"{target.label}: cancelled after activeDeadlineSeconds",
                code="deadline-exceeded",
                hint="what was finished is recorded; the next run goes on from there. GREYLAG_ACTIVE_DEADLINE_SECONDS gives it more time",
            ) from None


@contextmanager
def _cancelled_after(seconds: float | None, cancel: Callable[[], None]) -> Iterator[threading.Event]:
    """Calls `cancel` from another thread when the time is up, because a running statement blocks this one."""
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


def _plan(request: Request, migrations: files.MigrationSet, history: History, database: databases.Database) -> Plan:
    target = request.target
    wanted = targets.Target(targets.Verb.UP) if request.to is None else targets.Target(targets.Verb.DOWN_TO, request.to)
    made = planner.plan(
        migrations,
        history,
        wanted,
        engine=target.engine,
        policy=policy_of(target, request.policy),
        env=request.env,
        recall=database.read_down_text,
    )
    databases.require_house_rules(made, target.rules)
    return made


def remarks(target: Target, plan: Plan) -> tuple[Remark, ...]:
    """Returns the plan's own remarks, then the warnings for a database in use and of the fleet's house rules."""
    found = (*plan.remarks, *databases.warnings(plan, target.rules))
    return tuple(Remark(code=item.code, message=item.message, hint=item.hint) for item in found)
