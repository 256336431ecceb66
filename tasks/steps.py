"""The steps of a deployment: five nodes of a run's graph (`nodes`), each a few lines around the plain function of its module (architecture.md §3.1)."""

from __future__ import annotations

from collections.abc import Callable

from prefect.logging import get_run_logger
from pydantic import SecretStr

from migrator.planning import events
from migrator.planning.approvals import Approval
from migrator.planning.plans import ACCEPT_NOTHING, Policy
from tasks import commands, credentials, database_url, limits, migration, nodes, rollout, settings, verification
from tasks.argocd import running as argocd
from tasks.fleet.models import Target
from tasks.job import freshness, running
from tasks.outcomes import MigrationOutcome, PlanOutcome, RolloutOutcome, VerificationOutcome
from tasks.request import Access, Request


@nodes.node("fetch credentials")
def fetch_credentials(target: Target, watcher: credentials.LifetimeWatcher | None = None) -> credentials.Credentials:
    """Fetches the database's credentials from the source in fleet.yaml (step 1). The watcher keeps short-lived ones alive."""
    found = credentials.fetch(target, watcher=watcher)
    get_run_logger().info("%s: %s, user %s", target.label, found.origin, found.username)
    return found


@nodes.node("encode URL")
def encode_url(found: credentials.Credentials, target: Target) -> SecretStr:
    """Encodes the connection URL of the environment's own database, with every part percent-encoded (step 2)."""
    url = database_url.encode(found, target)
    get_run_logger().info("%s: database %s on %s:%s", target.label, found.database, found.host, found.port)
    return url


@nodes.node("plan migration", verb="plan")
def plan_migration(
    target: Target,
    url: SecretStr,
    found: credentials.Credentials,
    bundle: str = "",
    watcher: credentials.LifetimeWatcher | None = None,
    to: int | None = None,
) -> PlanOutcome:
    """Plans what step 3 would do, or a rollback to the version `to`; writes nothing. `watcher` as for step 3."""
    outcome = migration.preview(Request(target, url, bundle, env=migration.substitutions(target, found), watcher=watcher, to=to))
    get_run_logger().info("%s: %d migration(s) to run, plan %s", target.label, len(outcome.steps), outcome.plan[:12])
    return outcome


@nodes.node("run migration")
def run_migration(
    target: Target,
    url: SecretStr,
    found: credentials.Credentials,
    bundle: str = "",
    plan: str = "",
    policy: Policy = ACCEPT_NOTHING,
    deadline: float | None = None,
    watcher: credentials.LifetimeWatcher | None = None,
    approval: Approval | None = None,
    database: str = "",
    to: int | None = None,
) -> MigrationOutcome:
    """Runs the migration inline (step 3). `deadline` is activeDeadlineSeconds, counted from the first attempt; None takes the settings'.

    `to`: the version to roll back to instead.

    `approval` is used up in the database, whose identity must be `database`.
    Short-lived credentials come from the watcher and not from `url`: those of an earlier attempt may have ended.
    """
    logger = get_run_logger()
    chosen = settings.load()

    def listen(event: events.Event) -> None:
        level, text = migration.told(event)
        getattr(logger, level)("%s: %s", target.label, text)

    def patient() -> settings.Settings:
        # waiting for a lock must end with the deadline, too: the canceller only reaches a running statement
        return chosen.model_copy(update={"lock_wait_seconds": min(chosen.lock_wait_seconds, left())})

    def left() -> float:
        return nodes.remaining(chosen.active_deadline_seconds if deadline is None else deadline)

    with limits.held(target, chosen, left=left(), tell=_run_log()):
        request = Request(
            target,
            url,
            bundle,
            plan,
            approval,
            database,
            env=migration.substitutions(target, found),
            policy=policy,
            settings=patient(),
            watcher=watcher,
            run_id=nodes.run_id(),
            deadline=left(),
            to=to,
        )
        outcome = migration.run(request, listen)
        _conclude(target, url, watcher, outcome)
        return outcome


def _run_log() -> Callable[[str, str], None]:
    """Returns what writes a text of greylag's own into the run's log, at a level by its name."""
    logger = get_run_logger()

    def tell(level: str, text: str) -> None:
        getattr(logger, level)("%s", text)

    return tell


@nodes.node("run migration")
def run_migration_job(
    target: Target,
    url: SecretStr,
    found: credentials.Credentials,
    image: str,
    bundle: str = "",
    plan: str = "",
    backoff_limit: int | None = None,
    deadline: float | None = None,
    watcher: credentials.LifetimeWatcher | None = None,
    approval: Approval | None = None,
    database: str = "",
) -> MigrationOutcome:
    """Runs the migration as a Kubernetes Job (step 3). The Job makes the attempts; this task's own retries are for calls to the API server that failed.

    `backoff_limit` and `deadline` are the Job's; None takes the settings'. The worker's own credentials make the plan; the Job has its Secret.
    """
    tell, chosen = _run_log(), settings.load()
    left = nodes.remaining(chosen.active_deadline_seconds if deadline is None else deadline)
    with limits.held(target, chosen, left=left, tell=tell):
        request = Request(
            target,
            url,
            bundle,
            plan,
            approval,
            database,
            env=migration.substitutions(target, found),
            settings=chosen,
            watcher=watcher,
            run_id=nodes.run_id(),
            deadline=deadline,
        )
        freshness.ensure(request, tell, secret=target.job.secret)
        limit = chosen.backoff_limit if backoff_limit is None else backoff_limit
        outcome = running.run(request, image=image, tell=tell, backoff_limit=limit)
        _conclude(target, url, watcher, outcome)
        return outcome


@nodes.node("run migration")
def run_migration_sync(
    target: Target,
    url: SecretStr,
    found: credentials.Credentials,
    bundle: str = "",
    plan: str = "",
    deadline: float | None = None,
    watcher: credentials.LifetimeWatcher | None = None,
    approval: Approval | None = None,
    database: str = "",
) -> MigrationOutcome:
    """Runs the migration by a sync of Argo CD (step 3). The Job of the application's chart makes the attempts; this task's own retries are for Argo CD's
    API, for another operation at work and for a sync window.

    `deadline` is for this attempt to see the sync's end; None takes the settings'. The worker's own credentials make the plan and ask the database,
    and note there that `approval` is begun, and used once nothing is left: the chart's Job knows nothing of it.
    """
    tell, chosen = _run_log(), settings.load()
    left = nodes.remaining(chosen.active_deadline_seconds if deadline is None else deadline)
    with limits.held(target, chosen, left=left, tell=tell):
        request = Request(
            target,
            url,
            bundle,
            plan,
            approval,
            database,
            env=migration.substitutions(target, found),
            settings=chosen,
            watcher=watcher,
            run_id=nodes.run_id(),
            deadline=nodes.remaining(chosen.active_deadline_seconds if deadline is None else deadline),
        )
        freshness.ensure(request, tell)
        migration.note_approval(request)
        outcome = argocd.run(request, tell=tell)
        migration.note_approval(request)
        _conclude(target, url, watcher, outcome)
        return outcome


def _conclude(target: Target, url: SecretStr, watcher: credentials.LifetimeWatcher | None, outcome: MigrationOutcome) -> None:
    """Logs what step 3 did, and runs the service's own commands after it."""
    logger = get_run_logger()
    for remark in outcome.remarks:
        logger.warning("%s: %s [%s] %s", target.label, remark.message, remark.code, remark.hint)
    done = f"{len(outcome.applied)} migration(s) applied" if outcome.applied else "nothing to do"
    logger.info("%s: %s, version %s", target.label, done, outcome.current)
    if outcome.changed:
        current = Access(target, url, watcher).url()
        commands.follow_up(target, current, lambda level, text: getattr(logger, level)("%s: %s", target.label, text))


@nodes.node("verify tables")
def verify_tables(
    target: Target,
    url: SecretStr,
    bundle: str = "",
    watcher: credentials.LifetimeWatcher | None = None,
    drift_only: bool = False,
) -> VerificationOutcome:
    """Verifies that every object is as the versions made it (step 4). `watcher` as for step 3; `drift_only`: files that wait are no problem."""
    outcome = verification.verify(Request(target, url, bundle, watcher=watcher, drift_only=drift_only))
    get_run_logger().info("%s: %d object(s) as recorded, bundle %s", target.label, outcome.objects_checked, outcome.bundle[:12])
    for remark in outcome.remarks:
        get_run_logger().warning("%s: %s", target.label, remark)
    return outcome


@nodes.node("await health")
def await_health(target: Target, image: str = "", before: rollout.Before | None = None) -> RolloutOutcome:
    """Waits until this release's code runs and no older code does (step 5)."""
    logger = get_run_logger()
    outcome = rollout.await_health(target, image=image, before=before, listener=logger.info)
    logger.log(20 if outcome.state == "healthy" else 30, "%s: %s", target.label, outcome)
    return outcome


def observe(target: Target) -> rollout.Before | None:
    """Returns the workload's state before the migration. It is a plain call and no task, so that the sequence keeps its five nodes."""
    return rollout.observe(target)


__all__ = [
    "await_health",
    "encode_url",
    "fetch_credentials",
    "observe",
    "plan_migration",
    "run_migration",
    "run_migration_job",
    "run_migration_sync",
    "verify_tables",
]
