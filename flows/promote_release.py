"""Promotes dev -> release -> prod: starts each environment's own worker, in order, and asks that worker for proof before the next.

This flow holds no credentials. It knows about an environment only what that environment's worker reads afresh and publishes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from prefect import State, flow
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.states import Completed

from flows import approvals, awaiting, endings, labels, parameters, proposals, remote_runs, reports
from migrator import errors
from tasks import approval, fleet, migration, promotions

PROOF_SECONDS = 300.0
"""Seconds. Older proof is read again before a protected environment is entered: an approval takes hours, and somebody may have changed the
previous environment meanwhile."""

NOT_ENOUGH = frozenset(
    {
        "approval-unsigned",
        "approval-minimum",
        "approval-signature",
        "approval-revoked",
        "approval-promoter",
        "approval-expired",
        "approval-other-policy",
        "approval-other-run",
        "approval-used",
        "bad-document",
        "key-revoked",
        "key-unknown",
        "signature-invalid",
    }
)
"""Codes by which a protected environment's worker says that an approval, not the release, is what it does not take: it has touched nothing."""


@dataclass
class _Promotion:
    """One promotion: its parameters, and what it carries from environment to environment."""

    fleet: fleet.Fleet
    until: str
    services: tuple[str, ...]
    bundles: dict[str, str]
    digest: str
    options: dict[str, Any]
    approval_timeout_seconds: float
    sparing: bool
    """Whether environments that already hold the bundle are left out: a scheduled promotion should only show up where there is something new."""
    rows: list[reports.Row] = field(default_factory=list)
    proven_at: dict[str, float] = field(default_factory=dict)
    children: int = 0
    signature: str = ""

    def proven(self, environment: str) -> bool:
        """Tells whether that environment's own worker has verified these bundles during this promotion, within `PROOF_SECONDS`."""
        return environment in self.proven_at and time.monotonic() - self.proven_at[environment] <= PROOF_SECONDS


@flow(name=promotions.FLOW, flow_run_name=labels.run_name, retries=0, persist_result=False)
def promote_release(
    until: parameters.Environment = parameters.LAST_ENVIRONMENT,
    start: parameters.Environment = parameters.FIRST_ENVIRONMENT,
    services: tuple[parameters.Service, ...] = (),
    bundle: parameters.Digest = "",
    approval_timeout_seconds: parameters.Seconds = 86_400,
    image: parameters.Image = "",
    mode: parameters.Mode = "",
    signature: parameters.Envelope = "",
    backoff_limit: parameters.Limit = 3,
    active_deadline_seconds: parameters.Seconds = 900,
) -> State[Any]:
    """Promotes the checkout's migrations from environment to environment, each only after the one before it is proven to hold the same bundle.

    A protected environment is entered through an approval: this run plans, says what it waits for, and waits. Of two promotions until the same
    environment one is at work at a time; a proposal that waits is superseded by one with other files. What a schedule starts ends at once where
    nothing is new.

    Args:
        until: The last environment to enter. A protected one is entered through an approval only (deployment approve-release/approve).
        start: The first environment to enter; a later one than the fleet's first, if the one before it already holds the bundle.
        services: Which services; none means all of the fleet. Dependencies that are not listed are taken as they are.
        bundle: Release digest that the checkout must have (sha256 in hex). Empty takes the checkout as it is.
        approval_timeout_seconds: How long to wait for an approval. The run then ends as failed; starting it again finds an approval given later.
        image: The release's image: a tag that every service has, or a whole reference. Jobs run in it, its rollout is awaited. Empty awaits a newer one.
        mode: As Kubernetes Jobs, inline by each worker, or by syncs of Argo CD. Empty takes Jobs where it has a cluster and an image is given.
        signature: The signed promotion, as `greylag promote -key` prints it, for environments that somebody else than the promoter has to approve.
        backoff_limit: Further attempts of a step after a transient failure, as a Kubernetes Job's backoffLimit: 3 is 4 attempts, after 10, 20 and 40 s.
        active_deadline_seconds: Time for all attempts of a step together; after it no further one is started.
    """
    options = {"backoff_limit": backoff_limit, "active_deadline_seconds": active_deadline_seconds, "image": image, "mode": mode}
    entering = start
    promotion: _Promotion | None = None
    try:
        found = fleet.load()
        path = _path(found, start, until)
        proposals.take_turn(found, until)
        promotion = _prepare(found, until, services, bundle, options, approval_timeout_seconds)
        promotion.signature = signature
        proposals.require_new(found, path, promotion.bundles, image)
        for entering in path:
            _enter(promotion, entering)
    except (promotions.Skipped, promotions.AlreadyProposed) as error:
        return endings.gave_way(error)
    except promotions.Superseded as error:
        return _superseded(promotion, entering, error)
    except errors.GreylagError as error:
        digest = promotion.digest if promotion else bundle
        rows = promotion.rows if promotion else []
        why = endings.reason(error)
        _publish([*rows, _row(entering, f"blocked: {why}", digest)], digest)
        proposals.emit("release.blocked", entering, digest, code=error.code, exit_code=int(error.exit_code), reason=why)
        told = f"{entering}: {why}\n\n{error.describe()}" if isinstance(error, endings.RunFailed) else ""
        return endings.failed(error, message=told)
    if not promotion.rows:
        return Completed(
            name=promotions.Ending.NOTHING_TO_DO,
            message=f"nothing to do: release {labels.short(promotion.digest)} is in {', '.join(path)} already",
        )
    _publish(promotion.rows, promotion.digest)
    return Completed(message=f"release {labels.short(promotion.digest)} is in {', '.join(path)}")


def _prepare(found: fleet.Fleet, until: str, services: tuple[str, ...], bundle: str, options: dict[str, Any], timeout: float) -> _Promotion:
    """Prepares the promotion: the release's identity, from the checkout's files alone."""
    first = next(iter(found.environments))
    names = services or tuple(found.services)
    manifest = approval.ReleaseManifest(bundles={name: migration.load_bundle(found.target(name, first)).digest() for name in names})
    bundles, digest = dict(manifest.bundles), manifest.bundle
    labels.attach(bundle=digest)
    if bundle and bundle != digest:
        raise errors.PlanRefused(
            f"the checkout's files are release {labels.short(digest)}, this promotion is for {labels.short(bundle)}",
            code="bundle-changed",
            hint="run from the commit that has this bundle, or leave `bundle` empty to promote the files that are here now",
        )
    labels.logger().info(
        "release %s, with the bundles %s", digest, ", ".join(f"{name} {labels.short(value)}" for name, value in bundles.items())
    )
    context = FlowRunContext.get()
    scheduled = context is not None and context.flow_run is not None and context.flow_run.auto_scheduled
    # with an image there may be a rollout to await, although no file is new
    return _Promotion(found, until, services, bundles, digest, options, timeout, sparing=scheduled and not options["image"])


def _path(found: fleet.Fleet, start: str, until: str) -> list[str]:
    names = list(found.environments)
    path = names[names.index(start) : names.index(until) + 1]
    if not path:
        raise errors.UsageError(f"{until} comes before {start}", code="bad-path", hint=f"the order of promotion is {', '.join(names)}")
    return path


def _enter(promotion: _Promotion, environment: str) -> None:
    """Enters one environment: proof of the previous one, an approval if this one is protected, then deployment by its own worker."""
    previous, plan = promotion.fleet.previous(environment), None
    if promotion.sparing and not (plan := _plan(promotion, environment)).pending:
        labels.logger().info("%s: nothing to do", environment)
        return
    if previous and not promotion.proven(previous):
        _prove(promotion, previous)
    run_id, outcome = "", "entered"
    if promotion.fleet.environment(environment).protected:
        run_id, outcome, child = _entered(promotion, environment, plan or _plan(promotion, environment))
    else:
        child = _deployed(promotion, environment, None)
    promotion.proven_at[environment] = time.monotonic()  # its last steps verified every service against these bundles
    promotion.rows.append(_row(environment, outcome, promotion.digest, run=child.name, approval=run_id, message=_message(child)))
    proposals.emit("release.promoted", environment, promotion.digest, approval=run_id, run=str(child.id))


def _entered(promotion: _Promotion, environment: str, plan: awaiting.Plan) -> tuple[str, str, FlowRun]:
    """Enters a protected environment; returns the approval's run id, the outcome in words, and the run of the deployment.

    Its own worker decides whether the approvals are enough: where it says that they are not yet, this waits for another one.
    """
    previous = promotion.fleet.previous(environment)
    wait = awaiting.Wait(
        promotion.fleet,
        environment,
        promotion.until,
        promotion.options["image"],
        promotion.approval_timeout_seconds,
        lambda: _plan(promotion, environment),
    )
    while True:
        given, outcome, plan = awaiting.approved(wait, plan)
        if previous and not promotion.proven(previous):
            _prove(promotion, previous)
        try:
            return given.run_id if given else "", outcome, _deployed(promotion, environment, given)
        except endings.RunFailed as error:
            if given is None or error.code not in NOT_ENOUGH:
                raise
            wait.refused.add(given.run_id)
            labels.logger().warning(
                "%s: its worker does not take approval %s [%s]: %s", environment, given.run_id, error.code, error.detail
            )


def _deployed(promotion: _Promotion, environment: str, given: approval.Approval | None) -> FlowRun:
    options = dict(promotion.options)
    if given is not None and given.signature:
        options["image"] = ""  # the signed document names it, by its digest
    more = {"bundles": promotion.bundles, "approval": given.run_id if given else "", **options}
    return _child(promotion, "deploy-environment", environment, more)


def _prove(promotion: _Promotion, environment: str) -> None:
    """Lets the environment's own worker verify that it holds exactly these bundles. Raises RunFailed when it does not."""
    given = {name: promotion.options[name] for name in ("backoff_limit", "active_deadline_seconds")}
    _child(promotion, "verify-environment", environment, {"bundles": promotion.bundles, **given})
    promotion.proven_at[environment] = time.monotonic()


def _plan(promotion: _Promotion, environment: str) -> awaiting.Plan:
    """Plans what the release would do in an environment, by that environment's own worker, which publishes it."""
    given = {"bundles": promotion.bundles, "promotion": promotion.signature, **promotion.options}
    protected = promotion.fleet.environment(environment).protected
    heard = frozenset(item.run_id for item in approval.read(environment)) if protected else frozenset()
    child = _child(promotion, "plan-environment", environment, given)
    rows = remote_runs.table(child.id, approvals.plan_key(environment))
    return awaiting.Plan(approvals.manifest_of(rows), rows, heard)


def _child(promotion: _Promotion, flow_name: str, environment: str, given: dict[str, Any]) -> FlowRun:
    """Runs an environment's deployment in that environment's pool; raises RunFailed with its message when it did not complete."""
    promotion.children += 1
    child = remote_runs.start(
        flow_name,
        f"{flow_name}-{environment}",
        {"environment": environment, "services": list(promotion.services), **given},
        environment=environment,
        bundle=promotion.digest,
        key=f"{promotion.digest}-{promotion.children}",
        name=f"{flow_name} {environment} {labels.short(promotion.digest)}",
    )
    pool = promotion.fleet.target(next(iter(promotion.bundles)), environment).work_pool
    labels.logger().info("%s: %s started in %s", environment, flow_name, pool)
    child = remote_runs.wait(child, pool)
    endings.require_completed(child)
    return child


def _superseded(promotion: _Promotion | None, environment: str, error: promotions.Superseded) -> State[Any]:
    """Ends a promotion whose proposal was replaced by another: this is not a failure, and nobody has to do anything about it."""
    digest = promotion.digest if promotion else ""
    _publish([*(promotion.rows if promotion else []), _row(environment, f"superseded: {error.message}", digest)], digest)
    proposals.emit("release.superseded", environment, digest, reason=error.message)
    return endings.gave_way(error)


def _message(child: FlowRun) -> str:
    return (child.state.message or "") if child.state else ""


def _row(environment: str, outcome: str, digest: str, **facts: str) -> reports.Row:
    columns = {name: facts.get(name, "") for name in ("message", "approval", "run")}
    return {"environment": environment, "outcome": outcome, **columns, "release": labels.short(digest)}


def _publish(rows: list[reports.Row], digest: str) -> None:
    reports.publish_table("result-promotion", rows, f"release `{digest}`")
