"""The flows' use of approvals: each is found by its run, checked against its own digests, and checked again by the worker that acts on it.

An approval run publishes a table (`approval-<environment>`) with every service's bundle and plan digest. The table need not be trusted, because the
approval's parameters hold its sha256.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flows import labels, remote_runs
from migrator import errors
from tasks import approval, fleet, promotions, settings

NO_APPROVAL = "0" * 64
"""Passed to step 3 as the approved plan's digest when there is no approval: no plan has this digest, and a plan without steps needs none."""

PROVING_FLOWS = ("verify-environment", "deploy-environment")

PROOF_SECONDS = 3_600.0
"""The greatest age of the proof when a protected environment's worker acts on it. promote-release renews it after 5 minutes; the rest is for a
deployment of many services, and for a Retry of it in the UI."""


def table_key(environment: str) -> str:
    """Returns the key of an approval's table."""
    return f"approval-{environment}"


def plan_key(environment: str) -> str:
    """Returns the key of an environment's plan."""
    return f"plan-{environment}"


def awaiting_key(environment: str) -> str:
    """Returns the key of the page that a waiting promotion publishes."""
    return f"awaiting-approval-{environment}"


def proposal_key(environment: str) -> str:
    """Returns the key of a protected environment's proposal."""
    return f"proposal-{environment}"


def manifest_of(rows: Iterable[Mapping[str, Any]]) -> approval.ReleaseManifest:
    """Returns the manifest in the rows of a plan's or an approval's table."""
    found = [row for row in rows if row.get("service")]
    return approval.ReleaseManifest(
        bundles={str(row["service"]): str(row["bundle"]) for row in found}, plans={str(row["service"]): str(row["plan"]) for row in found}
    )


def proposals(environment: str) -> list[promotions.Proposal]:
    """Returns the newest proposals for an environment, oldest first."""
    return [
        promotions.Proposal(
            run_id=str(run_id),
            run=str(rows[0].get("run", "")),
            manifest=manifest_of(rows),
            image=str(rows[0].get("image", "")),
            approval=str(rows[0].get("approval", "")),
            made_at=made_at,
        )
        for run_id, made_at, rows in reversed(remote_runs.publications(proposal_key(environment)))
        if rows and all({"service", "bundle", "plan"} <= row.keys() for row in rows)
    ]


def require_current(environment: str, manifest: approval.ReleaseManifest, given: approval.Approval | None = None) -> None:
    """Raises PlanRefused (`approval-superseded`) when another release has replaced the one of an approval, which is given or to be given."""
    newer = promotions.voiding(manifest.bundles, proposals(environment), given)
    if newer is not None:
        raise errors.PlanRefused(
            f"an approval of release {manifest.bundle[:12]} is void: its proposal is superseded by {newer}",
            code="approval-superseded",
            hint=f"look at the artifact {proposal_key(environment)}, and approve what is proposed there; or promote these files again",
        )


def approved(environment: str, run_id: str) -> approval.ReleaseManifest:
    """Returns the manifest that an approval run covers, if it is valid in this environment now.

    Raises PlanRefused: `approval-missing` (there is no such completed run, or it is for elsewhere), `approval-mismatch` (its table does not match its
    digests), `approval-expired`, `approval-unconfirmed`, `approval-superseded`.
    """
    found = [item for item in approval.read(environment) if item.run_id == _identity(run_id)]
    if not found:
        raise errors.PlanRefused(
            f"{run_id} is no completed approval for {environment}",
            code="approval-missing",
            hint="give the id of a completed run of approve-release; promote-release finds it by itself",
        )
    return _certified(found[0], environment)


def certified_by(environment: str, given: approval.Approval) -> approval.ReleaseManifest | None:
    """Returns the manifest of an approval; None when the approval is not valid."""
    try:
        return _certified(given, environment)
    except errors.GreylagError:
        return None


def agreed(environment: str, services: Iterable[str], run_id: str) -> approval.ReleaseManifest:
    """Returns the manifest that an approval, a claim, covers for these services of a protected environment.

    Raises PlanRefused as `approved` does, `approval-mismatch` when a service is not in the approval.
    """
    manifest = approved(environment, run_id)
    for name in services:
        if name not in manifest.plans:
            raise _mismatch(f"the approval does not cover {environment}/{name}: it is for {', '.join(manifest.plans)}")
    return manifest


def require_same(manifest: approval.ReleaseManifest, service: str, bundle: str, plan: str) -> None:
    """Raises PlanRefused (`approval-mismatch`) when a run asks for another bundle or plan of a service than was approved; an empty text asks for none."""
    for what, given, expected in (("bundle", bundle, manifest.bundles[service]), ("plan", plan, manifest.plans[service])):
        if given and given != expected:
            raise _mismatch(f"the approval is for {what} {expected[:12]} of {service}, this run is for {given[:12]}")


def require_proof(found: fleet.Fleet, environment: str, bundles: Mapping[str, str]) -> None:
    """Raises PlanRefused (`release-unproven`) unless the previous environment's own worker has verified these very bundles recently.

    The proof is what a run of verify-environment, or of deploy-environment, whose last steps verify, has published: the row of each service in its own
    table. A run's state proves nothing, because anybody can set it. It must have ended within `PROOF_SECONDS`.
    """
    previous = found.previous(environment)
    if previous is None:
        return
    proven: set[str] = set()
    for run in remote_runs.completed(PROVING_FLOWS, datetime.now(UTC) - timedelta(seconds=PROOF_SECONDS)):
        if run.parameters.get("environment") == previous:
            proven |= {name for name, digest in _read_by(run.id, previous).items() if bundles.get(name, "").startswith(digest)}
        if proven >= bundles.keys():
            return
    if missing := sorted(bundles.keys() - proven):
        raise errors.PlanRefused(
            f"{previous} has not verified this bundle of {', '.join(missing)} within the last {PROOF_SECONDS / 60:.0f} minutes",
            code="release-unproven",
            hint=f"start promote-release, which has it verified first; or verify-environment/verify-environment-{previous} with these bundles",
        )


def _read_by(run_id: UUID, environment: str) -> dict[str, str]:
    """Returns the bundle, or its first characters, of each service that a run's own table calls verified."""
    found: dict[str, str] = {}
    for key, good in (
        (f"verification-{environment}", ("verified",)),
        (f"result-{environment}", ("migrated", "nothing to do")),
    ):
        try:
            rows = remote_runs.table(run_id, key)
        except errors.NotFound:
            continue
        for row in rows:
            digest = str(row.get("bundle") or "")
            if row.get("outcome") in good and len(digest) >= labels.SHORT:
                found[str(row.get("service"))] = digest
    return found


def covers(agreed: approval.ReleaseManifest, wanted: approval.ReleaseManifest, idle: Iterable[str]) -> bool:
    """Tells whether an approval covers the rest of a release: the same bundles, and for each service the same plan or nothing left to do."""
    done = set(idle)
    return dict(agreed.bundles) == dict(wanted.bundles) and all(
        name in done or agreed.plans.get(name) == plan for name, plan in wanted.plans.items()
    )


def _certified(given: approval.Approval, environment: str) -> approval.ReleaseManifest:
    manifest = manifest_of(remote_runs.table(UUID(given.run_id), table_key(environment)))
    maximum = timedelta(seconds=settings.load().approval_maximum_age_seconds)
    try:
        approval.check([given], manifest, environment, now=datetime.now(UTC), maximum_age=maximum)
    except errors.PlanRefused as error:
        if error.code in ("approval-other-bundle", "approval-other-plan"):
            raise errors.PlanRefused(
                f"the table of approval {given.run_id} is not what was approved: {error.message}", code="approval-mismatch", hint=error.hint
            ) from None
        raise
    require_current(environment, manifest, given)
    return manifest


def _mismatch(message: str) -> errors.PlanRefused:
    return errors.PlanRefused(message, code="approval-mismatch", hint="look at the new plan and approve that one")


def _identity(run_id: str) -> str:
    try:
        return str(UUID(run_id))
    except ValueError:
        return ""
