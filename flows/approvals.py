"""Approvals as the flows use them: found by run, certified by their own digests, checked again by the worker that acts on them.

An approval run publishes a table (`approval-<environment>`) with every service's bundle and plan digest. Nobody has to trust that table: the
approval's parameters hold the sha256 over it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flows import remote_runs
from migrator import errors
from tasks import approval, settings
from tasks.fleet_models import Target

NO_APPROVAL = "0" * 64
"""Given to step 3 as the approved plan's digest where there is no approval: no plan digests to it, and a plan without steps needs none."""


def table_key(environment: str) -> str:
    """The key of an approval's table."""
    return f"approval-{environment}"


def plan_key(environment: str) -> str:
    """The key of an environment's plan."""
    return f"plan-{environment}"


def manifest_of(rows: Iterable[Mapping[str, Any]]) -> approval.ReleaseManifest:
    """The manifest in the rows of a plan's or an approval's table."""
    found = [row for row in rows if row.get("service")]
    return approval.ReleaseManifest(
        bundles={str(row["service"]): str(row["bundle"]) for row in found}, plans={str(row["service"]): str(row["plan"]) for row in found}
    )


def approved(environment: str, run_id: str) -> approval.ReleaseManifest:
    """What that approval run says yes to, in this environment, now.

    Raises PlanRefused: `approval-missing` (there is no such completed run, or it is for elsewhere), `approval-mismatch` (its table is not what its
    digests say), `approval-expired`, `approval-unconfirmed`.
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
    """The manifest of an approval; None where it is no valid one."""
    try:
        return _certified(given, environment)
    except errors.GreylagError:
        return None


def agreed_for(target: Target, bundle: str, plan: str, run_id: str) -> tuple[str, str]:
    """The bundle and plan digests that step 3 is bound to for one service: what the approval says for it.

    Raises PlanRefused: `approval-mismatch` when the approval is for another bundle or plan of this service, and as `approved` does.
    """
    manifest = approved(target.environment, run_id)
    expected = {"bundle": (bundle, manifest.bundles.get(target.service, "")), "plan": (plan, manifest.plans.get(target.service, ""))}
    for what, (given, agreed) in expected.items():
        if not agreed or (given and given != agreed):
            raise errors.PlanRefused(
                f"the approval does not cover this {what} of {target.label}: it is for {agreed[:12] or 'other services'}, not {given[:12]}",
                code="approval-mismatch",
                hint="look at the new plan and approve that one",
            )
    return manifest.bundles[target.service], manifest.plans[target.service]


def covers(agreed: approval.ReleaseManifest, wanted: approval.ReleaseManifest, idle: Iterable[str]) -> bool:
    """Whether an approval covers what is left of a release: the same bundles, and each service's plan the same or, by now, without steps."""
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
    return manifest


def _identity(run_id: str) -> str:
    try:
        return str(UUID(run_id))
    except ValueError:
        return ""
