"""One service in one environment: secret -> URL -> migration -> tables -> rollout. Five tasks, each retried as a Job's pods are (architecture.md §3.1)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from prefect import State, flow

from flows import approvals, endings, gates, interruption, labels, pages, parameters, remedies, reports, schemas
from migrator import errors
from migrator.planning.approvals import Approval
from tasks import backoff, credentials, fleet, migration, settings, steps
from tasks.fleet.models import Target
from tasks.job import manifest
from tasks.outcomes import MigrationOutcome, accepted
from tasks.request import Request


@flow(name="deploy-service", flow_run_name=labels.run_name, retries=0, persist_result=False)
def deploy_service(
    service: parameters.Service,
    environment: parameters.Environment,
    bundle: parameters.Digest = "",
    plan: parameters.Digest = "",
    approval: str = "",
    image: parameters.Image = "",
    mode: parameters.Mode = "",
    backoff_limit: parameters.Limit = 3,
    active_deadline_seconds: parameters.Seconds = 900,
) -> reports.Row | State[Any]:
    """Brings one service's database in one environment up to date and checks that the result is there and its workload healthy.

    Safe to run twice, at once or again after any interruption: the database's own lock and history decide what is left to do.

    Args:
        service: Which service of the fleet.
        environment: Which environment. Its work pool's worker holds the login for this one only.
        bundle: The digest that the service's migration files must have (sha256 in hex). Empty takes the files of the worker as they are.
        plan: The digest of the plan that may be applied, or what is left of it. Empty takes the plan as it is; a protected environment needs an approval.
        approval: Run id of the approve-release run that covers this release; only a protected environment needs one.
        image: The release's image: tag, digest, or whole reference. A Job runs in it and its rollout is awaited. Empty awaits a newer generation.
        mode: As a Kubernetes Job, inline by the worker, or by a sync of Argo CD. Empty takes a Job where a cluster is configured and an image given.
        backoff_limit: Further attempts of a step after a transient failure, as a Kubernetes Job's backoffLimit: 3 is 4 attempts, after 10, 20 and 40 s.
        active_deadline_seconds: Time for all attempts of a step together; after it no further one is started.
    """
    labels.attach(service=service, environment=environment, bundle=bundle)
    found: fleet.Fleet | None = None
    try:
        found = fleet.load()
        gate = gates.gate(found, environment)
        asked = gates.Asked((service,), True, {service: bundle}, image, mode, backoff_limit, active_deadline_seconds)
        with interruption.heeded():
            row = _sequence(gate, gate.target(service), asked, bundle, plan, approval)
    except errors.GreylagError as error:
        told = remedies.adapted(error, found.target(service, environment), found.before(environment)) if found else error
        _publish(reports.result_row(service, environment, f"failed: {told.message}", bundle=labels.short(bundle)))
        return endings.failed(told, target=f"{environment}/{service}")
    _publish(row)
    return row


@dataclass(frozen=True)
class _Asked:
    """A run's parameters with defaults resolved: the image with its repository, the bundle and plan of its approval, the mode of step 3."""

    bundle: str
    plan: str
    entry: gates.Entry | None
    consumed: Approval | None
    image: str
    mode: settings.Mode
    backoff_limit: int
    deadline: float


def _sequence(gate: gates.Gate, target: Target, given: gates.Asked, bundle: str, plan: str, approval: str) -> reports.Row:
    chosen = settings.load()
    image, entry, consumed = target.image(given.image), None, None
    if gate.protected and approval:
        entry = gates.enter(gate, given, approval)
        approvals.require_same(entry.manifest, target.service, bundle, plan)
        bundle, plan = entry.manifest.bundles[target.service], entry.manifest.plans[target.service]
        image = entry.image(target.service, image)
        consumed = entry.consumed(gates.prove(gate, {target.service: bundle}))
    elif gate.protected:
        gates.require_image(gate, target.service, given.image)
        plan = approvals.NO_APPROVAL
    how = _chosen((entry.document.mode if entry and entry.document else "") or given.mode, chosen, target, image)
    asked = _Asked(bundle, plan, entry, consumed, image, how, given.backoff_limit, given.active_deadline_seconds)
    policy = interruption.policy(backoff.policy(asked.backoff_limit, chosen.backoff_base_seconds, asked.deadline))
    with credentials.LifetimeWatcher(target, chosen, labels.logger()) as watcher:
        return _steps(gate, target, watcher, policy, asked)


def _steps(gate: gates.Gate, target: Target, watcher: credentials.LifetimeWatcher, policy: dict[str, Any], asked: _Asked) -> reports.Row:
    interruption.check()
    found = steps.fetch_credentials.with_options(**policy)(target, watcher)
    interruption.check()
    url = steps.encode_url.with_options(**policy)(found, target)
    _publish_plan(target, url, found, asked.bundle)
    before = steps.observe(target)
    interruption.check()
    migrated = _migrate(policy, target, url, found, watcher, asked)
    interruption.check()
    verified = steps.verify_tables.with_options(**policy)(target, url, migrated.bundle, watcher)
    schemas.publish(target, verified)
    likeness = schemas.compare(gate, target, verified)
    interruption.check()
    health = steps.await_health.with_options(
        name="await Deployment health", task_run_name="await Deployment health {target.label}", **policy
    )(target, asked.image, before)
    return reports.result_row(
        target.service,
        target.environment,
        "migrated" if migrated.applied else "nothing to do",
        versions=_versions(migrated),
        migrations=len(migrated.applied),
        statements=migrated.statements,
        seconds=round(migrated.seconds, 2),
        verification=f"{verified.objects_checked} objects",
        schema=likeness,
        rollout=str(health),
        accepted=accepted(migrated.remarks),
        bundle=labels.short(migrated.bundle),
    )


def _migrate(
    policy: dict[str, Any], target: Target, url: Any, found: credentials.Credentials, watcher: credentials.LifetimeWatcher, asked: _Asked
) -> MigrationOutcome:
    database = asked.entry.database(target.service) if asked.entry else ""
    given = {"bundle": asked.bundle, "plan": asked.plan, "deadline": asked.deadline, "watcher": watcher}
    given |= {"approval": asked.consumed, "database": database}
    task: Any = steps.run_migration
    if asked.mode is settings.Mode.JOB:
        task, given = steps.run_migration_job, {**given, "image": asked.image, "backoff_limit": asked.backoff_limit}
    elif asked.mode is settings.Mode.ARGOCD:
        task = steps.run_migration_sync
    try:
        migrated: MigrationOutcome = task.with_options(**policy)(target, url, found, **given)
        return migrated
    except errors.PlanRefused as error:
        if asked.entry or not target.protected or error.code != "approval-mismatch":
            raise
        raise errors.PlanRefused(
            f"{target.label} has migrations to apply and nobody has approved them",
            code="approval-missing",
            hint="start promote-release, which plans and asks; or give the run id of an approval as `approval`",
        ) from None


def _publish_plan(target: Target, url: Any, found: credentials.Credentials, bundle: str) -> None:
    """Publishes what step 3 is about to do. A page that can't be made stops nothing, because step 3 meets the same cause and reports it."""
    try:
        outcome = migration.preview(Request(target, url, bundle, env=migration.substitutions(target, found)))
        reports.publish_markdown(*pages.plan(target, outcome))
    except Exception as error:  # noqa: BLE001 - see above; the text could hold anything, the class can't
        labels.logger().log(logging.INFO, "%s: no plan page: %s", target.label, type(error).__name__)


def _publish(row: reports.Row) -> None:
    key = f"result-{row['service']}-{row['environment']}"
    reports.publish_table(key, [row], f"{row['service']} in {row['environment']}: {row['outcome']}")


def _versions(migrated: MigrationOutcome) -> str:
    if not migrated.applied:
        return str(migrated.current)
    first, last = migrated.versions[0], migrated.versions[-1]
    return str(first) if first == last else f"{first} to {last}"


def _chosen(mode: str, chosen: settings.Settings, target: Target, image: str) -> settings.Mode:
    """Returns the mode of step 3: the run's, else the settings', else a Job if there are a cluster and an image."""
    return settings.Mode(mode) if mode else chosen.migration_mode(image if manifest.runnable(image) else "", target.kube_context)
