"""One service of an unprotected environment back to an earlier version: planned, shown, rolled back, verified (docs/rollback.md)."""

from __future__ import annotations

from typing import Any

from prefect import State, flow

from flows import endings, interruption, labels, pages, parameters, reports
from migrator import errors
from tasks import backoff, credentials, fleet, settings, steps
from tasks.fleet.models import Target


@flow(name="rollback-service", flow_run_name=labels.run_name, retries=0, persist_result=False)
def rollback_service(
    service: parameters.Service,
    environment: parameters.Environment,
    to: parameters.Version,
    reason: parameters.Words,
    plan_only: bool = False,
    backoff_limit: parameters.Limit = 3,
    active_deadline_seconds: parameters.Seconds = 900,
) -> State[Any] | reports.Row:
    """Rolls a service's database back to a version, by its Down sections, newest first, and verifies what is left. A protected environment is refused.

    A version whose file the worker's checkout lacks is rolled back by the file that was recorded when it was applied. The service's Deployment is not
    touched: roll out the image that knows the older schema, before or after.

    Args:
        service: Which service.
        environment: Which environment. Its work pool's worker holds the login for this one only.
        to: The version that stays the newest one; 0 rolls everything back. What is above it goes, with the data in it.
        reason: Why; it stands in the run's result.
        plan_only: Publish what would be rolled back (artifact plan-SERVICE-ENVIRONMENT), and do nothing.
        backoff_limit: Further attempts of a step after a transient failure, as a Kubernetes Job's backoffLimit.
        active_deadline_seconds: Time for all attempts of a step together; after it no further one is started.
    """
    labels.attach(service=service, environment=environment)
    policy = interruption.policy(backoff.policy(backoff_limit, settings.load().backoff_base_seconds, active_deadline_seconds))
    try:
        target = fleet.load().target(service, environment)
        require_unprotected(target)
        with interruption.heeded(), credentials.LifetimeWatcher(target, settings.load(), labels.logger()) as watcher:
            row = _sequence(target, to, plan_only, policy, watcher, active_deadline_seconds)
    except errors.GreylagError as error:
        _publish(reports.result_row(service, environment, f"failed: {error.message}"), reason)
        return endings.failed(error, target=f"{environment}/{service}")
    _publish(row, reason)
    return row


def require_unprotected(target: Target) -> None:
    """Raises PlanRefused (`protected-environment`) before anything is asked of Vault."""
    if target.protected:
        raise errors.PlanRefused(
            f"{target.label} is protected: it is never rolled back",
            code="protected-environment",
            hint="roll forward: a new migration that takes the change back, promoted as any other; or the older image on the newer schema (docs/rollback.md)",
        )


def _sequence(
    target: Target, to: int, plan_only: bool, policy: dict[str, Any], watcher: credentials.LifetimeWatcher, deadline: float
) -> reports.Row:
    interruption.check()
    found = steps.fetch_credentials.with_options(**policy)(target, watcher)
    url = steps.encode_url.with_options(**policy)(found, target)
    interruption.check()
    planned = steps.plan_migration.with_options(**policy)(target, url, found, watcher=watcher, to=to)
    reports.publish_markdown(*pages.plan(target, planned))
    if plan_only or not planned.steps:
        versions = ", ".join(str(step.version) for step in planned.steps)
        outcome = "planned" if planned.steps else "nothing to roll back"
        return reports.result_row(target.service, target.environment, outcome, versions=versions or str(planned.current))
    interruption.check()
    done = steps.run_migration.with_options(name="roll back", task_run_name="roll back {target.label}", **policy)(
        target, url, found, plan=planned.plan, deadline=deadline, watcher=watcher, to=to
    )
    interruption.check()
    verified = steps.verify_tables.with_options(**policy)(target, url, watcher=watcher, drift_only=True)
    return reports.result_row(
        target.service,
        target.environment,
        "rolled back",
        versions=f"to {done.current}: {', '.join(str(version) for version in done.versions)}",
        migrations=len(done.applied),
        statements=done.statements,
        seconds=round(done.seconds, 2),
        verification=f"{verified.objects_checked} objects",
    )


def _publish(row: reports.Row, reason: str) -> None:
    key = f"rollback-{row['service']}-{row['environment']}"
    reports.publish_table(key, [row], f"{row['service']} in {row['environment']}: {row['outcome']}\n\nwhy: {reports.cell(reason)}")
