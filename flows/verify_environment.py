"""Proof that an environment holds a bundle, read back by its own worker. Its state is the whole answer: completed, or not (architecture.md §3.2)."""

from __future__ import annotations

from typing import Any

from prefect import State, flow
from prefect.states import Completed

from flows import endings, gates, interruption, labels, parameters, reports, schemas
from migrator import errors
from tasks import backoff, credentials, fleet, settings, steps
from tasks.approval import ReleaseManifest
from tasks.fleet.models import Target
from tasks.outcomes import VerificationOutcome


@flow(name="verify-environment", flow_run_name=labels.run_name, retries=0, persist_result=False)
def verify_environment(
    environment: parameters.Environment,
    services: tuple[parameters.Service, ...] = (),
    bundles: dict[str, parameters.Digest] | None = None,
    nonce: parameters.Digest = "",
    drift_only: bool = False,
    backoff_limit: parameters.Limit = 3,
    active_deadline_seconds: parameters.Seconds = 900,
) -> State[Any]:
    """Reads back what an environment's databases hold; completes only if that is the given bundle, applied in full, every object there and valid.

    Writes nothing. Where a service is not as it was released it emits `environment.drifted`, where that could not be found out `environment.unverified`.

    Args:
        environment: Which environment. Its work pool's worker holds the login for this one only.
        services: Which services; none means all of the fleet.
        bundles: Per service the digest that the recorded checksums must have (sha256 in hex). Services not listed are held against the worker's files.
        nonce: A random number of the worker that asks: this one then signs what it has read with its own key (artifact proof-ENVIRONMENT).
        drift_only: Look at what was applied alone: files of the worker's that wait for their release are no problem. For schedules that watch for drift.
        backoff_limit: Further attempts of a step after a transient failure, as a Kubernetes Job's backoffLimit.
        active_deadline_seconds: Time for all attempts of a step together; after it no further one is started.
    """
    policy = interruption.policy(backoff.policy(backoff_limit, settings.load().backoff_base_seconds, active_deadline_seconds))
    given = bundles or {}
    labels.attach(environment=environment, bundle=ReleaseManifest(bundles=given).bundle if given else "")
    rows: list[reports.Row] = []
    problems: list[tuple[Target, errors.GreylagError]] = []
    held: list[dict[str, object]] = []
    try:
        found = fleet.load()
        with interruption.heeded():
            for name in (name for wave in found.order(services) for name in wave):
                target = found.target(name, environment)
                try:
                    outcome = _verified(target, given.get(name, ""), policy, drift_only)
                    held.append(_held(target, outcome))
                    objects = f"{outcome.objects_checked} as recorded"
                    rows.append(_row(target, "verified", objects, outcome.bundle, outcome.current))
                except errors.GreylagError as error:
                    rows.append(_row(target, f"failed: {error.message}", "", ""))
                    problems.append((target, error))
    except errors.GreylagError as error:
        return endings.failed(error, target=environment)
    reports.publish_table(
        f"verification-{environment}", rows, f"{environment}: {len(rows) - len(problems)} of {len(rows)} services verified"
    )
    if problems:
        lines = [f"{environment}: {len(problems)} of {len(rows)} services are not as released"]
        lines += [f"{target.service}: {error.describe()}" for target, error in problems]
        _tell(environment, problems)
        where, decisive = endings.decisive((target.label, error) for target, error in problems)
        return endings.failed(decisive, target=where, message="\n\n".join(lines))
    if nonce:
        try:
            gates.publish_proof(environment, nonce, held)
        except errors.GreylagError as error:
            return endings.failed(error, target=environment)
    return Completed(message=f"{environment}: {len(rows)} services verified")


def _tell(environment: str, problems: list[tuple[Target, errors.GreylagError]]) -> None:
    drifted = any(error.exit_code == errors.ExitCode.VERIFICATION for _, error in problems)
    told = {target.service: f"{error.message} [{error.code}]" for target, error in problems}
    reports.emit(
        "environment.drifted" if drifted else "environment.unverified",
        f"greylag.environment.{environment}",
        environment,
        environment=environment,
        services=told,
        summary="\n".join(f"{service}: {reason}" for service, reason in told.items()),
    )


def _verified(target: Target, bundle: str, policy: dict[str, Any], drift_only: bool) -> VerificationOutcome:
    with credentials.LifetimeWatcher(target, settings.load(), labels.logger()) as watcher:
        found = steps.fetch_credentials.with_options(**policy)(target, watcher)
        url = steps.encode_url.with_options(**policy)(found, target)
        outcome: VerificationOutcome = steps.verify_tables.with_options(**policy)(target, url, bundle, watcher, drift_only)
    return outcome


def _held(target: Target, outcome: VerificationOutcome) -> dict[str, object]:
    """Publishes the schema's digests, and returns what the proof says of the service."""
    return {
        "service": target.service,
        "database": outcome.database,
        "bundle": outcome.bundle,
        "version": outcome.current,
        "objects": schemas.publish(target, outcome),
    }


def _row(target: Target, outcome: str, objects: str, bundle: str, current: int | str = "") -> reports.Row:
    return {"service": target.service, "outcome": outcome, "version": current, "objects": objects, "bundle": bundle}
