"""The plan of a release in an environment, made by its own worker and published, so that a person can approve it."""

from __future__ import annotations

from typing import Any

from prefect import State, flow
from prefect.states import Completed

from flows import approvals, endings, gates, interruption, labels, pages, parameters, plan_documents, reports
from migrator import errors
from tasks import approval, backoff, credentials, fleet, settings, steps
from tasks.outcomes import PlanOutcome, accepted


@flow(name="plan-environment", flow_run_name=labels.run_name, retries=0, persist_result=False)
def plan_environment(
    environment: parameters.Environment,
    services: tuple[parameters.Service, ...] = (),
    bundles: dict[str, parameters.Digest] | None = None,
    image: parameters.Image = "",
    mode: parameters.Mode = "",
    promotion: parameters.Envelope = "",
    backoff_limit: parameters.Limit = 3,
    active_deadline_seconds: parameters.Seconds = 900,
) -> State[Any]:
    """Plans a release in one environment and publishes the plan: a table with every service's digests, and a page per service with the SQL.

    Writes nothing to any database.

    Args:
        environment: Which environment. Its work pool's worker holds the login for this one only.
        services: Which services; none means all of the fleet.
        bundles: Per service the digest that its migration files must have (sha256 in hex). Services that are not listed are taken as they are.
        image: The release's image, whose digest becomes part of what is approved: a tag is resolved now, once.
        mode: As Kubernetes Jobs in the services' images, or inline by the worker; part of what is approved.
        promotion: The signed promotion, as `greylag promote -key` prints it.
        backoff_limit: Further attempts of a step after a transient failure, as a Kubernetes Job's backoffLimit.
        active_deadline_seconds: Time for all attempts of a step together; after it no further one is started.
    """
    policy = interruption.policy(backoff.policy(backoff_limit, settings.load().backoff_base_seconds, active_deadline_seconds))
    try:
        found = fleet.load()
        gate = gates.gate(found, environment)
        names = [name for wave in found.order(services) for name in wave]
        with interruption.heeded():
            outcomes = [_planned(gate, name, (bundles or {}).get(name, ""), policy) for name in names]
        options = plan_documents.Options(image, mode, backoff_limit, active_deadline_seconds, promotion)
        plan_documents.publish(gate, outcomes, options)
    except errors.GreylagError as error:
        return endings.failed(error, target=environment)
    manifest = approval.manifest(outcomes)
    labels.attach(environment=environment, bundle=manifest.bundle)
    count = sum(len(item.steps) for item in outcomes)
    reports.publish_table(
        approvals.plan_key(environment),
        [_row(item) for item in outcomes],
        f"{environment}: {count} migrations to apply\n\nrelease `{manifest.bundle}`\n\nrelease plan `{manifest.plan}`",
    )
    return Completed(
        message=f"{environment}: {count} migrations to apply, release {manifest.bundle[:12]}, release plan {manifest.plan[:12]}{endings.noted(gate.note)}"
    )


def _planned(gate: gates.Gate, service: str, bundle: str, policy: dict[str, Any]) -> PlanOutcome:
    target = gate.target(service)
    with credentials.LifetimeWatcher(target, settings.load(), labels.logger()) as watcher:
        secret = steps.fetch_credentials.with_options(**policy)(target, watcher)
        url = steps.encode_url.with_options(**policy)(secret, target)
        outcome: PlanOutcome = steps.plan_migration.with_options(**policy)(target, url, secret, bundle, watcher)
    reports.publish_markdown(*pages.plan(target, outcome))
    return outcome


def _row(item: PlanOutcome) -> reports.Row:
    return {
        "service": item.service,
        "from": item.current,
        "to": item.steps[-1].version if item.steps else item.current,
        "migrations": len(item.steps),
        "statements": sum(step.statements for step in item.steps),
        "warnings": ", ".join(sorted({remark.code for remark in item.remarks})),
        "accepted": accepted(item.remarks),
        "bundle": item.bundle,
        "plan": item.plan,
    }
