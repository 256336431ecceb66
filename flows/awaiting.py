"""Waits for the approval of a plan: shows the run as one that waits, says how to approve it, and looks at every approval that arrives.

The same is said in the run's state, its log, an artifact of this very run and an event: what waits, and a link to the approval's form filled in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from flows import approvals, forms, labels, proposals, remote_runs, reports
from migrator import errors
from tasks import approval, fleet, promotions, settings

POLL_SECONDS = 2.0
"""Seconds. A person is waiting for the reaction, and one small request every two seconds is little load for the server."""


@dataclass(frozen=True)
class Plan:
    """A release's plan in an environment, as its own worker made it: one row for each service.

    `heard` are the ids of the approvals that had been given before it was made.
    """

    manifest: approval.ReleaseManifest
    rows: Sequence[reports.Row]
    heard: frozenset[str] = frozenset()

    @property
    def migrations(self) -> dict[str, int]:
        """Returns the number of migrations for each service."""
        return {str(row["service"]): int(row["migrations"]) for row in self.rows}

    @property
    def pending(self) -> bool:
        """Tells whether there is anything to apply."""
        return any(self.migrations.values())

    def __str__(self) -> str:
        return f"release {labels.short(self.manifest.bundle)}, release plan {labels.short(self.manifest.plan)}"


@dataclass
class Wait:
    """What is waited for. `plan_again` lets the environment's worker plan afresh; `refused` are approvals that this worker did not take."""

    fleet: fleet.Fleet
    environment: str
    until: str
    image: str
    timeout_seconds: float
    plan_again: Callable[[], Plan]
    refused: set[str] = field(default_factory=set)


def approved(wait: Wait, plan: Plan) -> tuple[approval.Approval | None, str, Plan]:
    """Returns an approval for what the environment needs now, the outcome in words, and the plan that it is for. If nothing is to be done, none is needed.

    Raises Superseded when another promotion's proposal has replaced this one's, PlanRefused when nobody approved in time.
    """
    if not plan.pending:
        return None, "entered, nothing to apply", plan
    proposals.publish(wait.environment, plan.manifest, image=wait.image)
    found = remote_runs.patiently(lambda: _standing(wait, plan))
    given: approval.Approval | None
    if isinstance(found, errors.PlanRefused):
        _ask(wait, plan, found)
        given, plan = _awaited(wait, plan, found)
        if given is None:
            return None, "entered, nothing to apply", plan
    else:
        given = found
    how = "signed" if given.signature else "claimed"
    labels.logger().info("%s: approved by %s (%s; run %s): %s", wait.environment, given.approver, how, given.run_id, given.reason)
    proposals.publish(wait.environment, plan.manifest, image=wait.image, given=given)
    return given, f"entered, approved by {given.approver} ({how})", plan


def _awaited(wait: Wait, plan: Plan, reason: errors.PlanRefused) -> tuple[approval.Approval | None, Plan]:
    """Waits for an approval without being at work, then for this run's turn, because another proposal may have replaced this one meanwhile."""
    deadline = time.monotonic() + wait.timeout_seconds
    told, heard = reason.message, set(plan.heard)
    found: approval.Approval | errors.PlanRefused = reason
    while isinstance(found, errors.PlanRefused):
        left = deadline - time.monotonic()
        if left <= 0:
            raise found
        time.sleep(min(POLL_SECONDS, left))
        current = plan
        found = remote_runs.patiently(lambda: _standing(wait, current))  # noqa: B023 - called at once
        if isinstance(found, errors.PlanRefused):
            plan = _heard(wait, plan, heard)
            if not plan.pending:
                break
            if found.message != told and plan is current:
                told = found.message
                labels.logger().warning("%s: still waiting for an approval: %s", wait.environment, told)
    proposals.show_working()
    proposals.take_turn(wait.fleet, wait.until, returning=True)
    if not plan.pending:
        return None, plan
    found = remote_runs.patiently(lambda: _standing(wait, plan))
    if isinstance(found, errors.PlanRefused):
        raise found
    return found, plan


def _heard(wait: Wait, plan: Plan, heard: set[str]) -> Plan:
    """Looks at the approvals that have come since, and says what it makes of each. One of this release for another plan means that somebody has planned
    after this run did, so it has the environment planned afresh; returns the plan that holds now."""
    given = [item for item in remote_runs.patiently(lambda: approval.read(wait.environment)) if item.run_id not in wait.refused]
    other = promotions.unheard(given, plan.manifest, heard)
    heard.update(item.run_id for item in given)
    if other is None:
        return plan
    who = f"{other.approver}'s approval ({other.run_id})"
    if other.bundle != plan.manifest.bundle:
        labels.logger().warning("%s: %s is for release %s; this run waits for %s", wait.environment, who, labels.short(other.bundle), plan)
        return plan
    labels.logger().warning(
        "%s: %s is for release plan %s; this run waits for %s, and plans afresh", wait.environment, who, labels.short(other.plan), plan
    )
    try:
        fresh = wait.plan_again()
    except errors.GreylagError as error:
        labels.logger().warning("%s: can't be planned afresh, still waiting for %s: %s", wait.environment, plan, error.describe())
        return plan
    if fresh.manifest == plan.manifest:
        labels.logger().warning("%s: nothing has changed: what is needed is %s; %s is for another plan", wait.environment, plan, who)
        return plan
    labels.logger().warning(
        "%s: %s has become %s (%s)", wait.environment, plan, fresh, promotions.changes(plan.migrations, fresh.migrations)
    )
    if fresh.pending:
        proposals.publish(wait.environment, fresh.manifest, image=wait.image)
        _ask(wait, fresh, errors.PlanRefused("the plan has changed", code="approval-other-plan"))
    return fresh


def _standing(wait: Wait, plan: Plan) -> approval.Approval | errors.PlanRefused:
    """Returns the approval of this run's proposal, or the error that says why there is none. Raises Superseded."""
    proposals.require_standing(wait.environment)
    try:
        return _covering(wait, plan)
    except errors.PlanRefused as error:
        return error


def _covering(wait: Wait, plan: Plan) -> approval.Approval:
    """Returns an approval of exactly this plan, or of a larger plan of the same bundle that an interrupted run has begun. Raises PlanRefused."""
    wanted, idle = plan.manifest, [name for name, count in plan.migrations.items() if not count]
    given = [item for item in approval.read(wait.environment) if item.run_id not in wait.refused]
    for item in given:
        if (
            item.bundle == wanted.bundle
            and (agreed := approvals.certified_by(wait.environment, item))
            and approvals.covers(agreed, wanted, idle)
        ):
            return item
    maximum = timedelta(seconds=settings.load().approval_maximum_age_seconds)
    nearest = approval.check(given, wanted, wait.environment, now=datetime.now(UTC), maximum_age=maximum)
    approvals.approved(wait.environment, nearest.run_id)  # says what is wrong with it
    raise errors.PlanRefused(
        f"no approval for {wait.environment} can be read back", code="approval-missing", hint="start approve-release/approve once more"
    )


def _ask(wait: Wait, plan: Plan, reason: errors.PlanRefused) -> None:
    """Says which approval is awaited, the same in the run's state, its log, an artifact of its own and an event."""
    environment, wanted = wait.environment, plan.manifest
    asked = forms.Asked(environment, wanted.bundle, wanted.plan)
    link = remote_runs.patiently(lambda: forms.link(asked))
    proposals.show_waiting(f"{environment}: {plan}. {f'Approve it: {link}' if link else f'`{asked.command}` approves it'}")
    labels.logger().warning(
        "%s: waiting for an approval of %s (%s).\nthe form, filled in: %s\nor type: %s",
        environment,
        plan,
        reason.message,
        link or "start approve-release/approve in the UI",
        asked.command,
    )
    reports.publish_markdown(
        approvals.awaiting_key(environment), forms.page(asked, plan.rows, link), f"{environment} waits for an approval of {plan}"
    )
    proposals.emit(
        "release.awaiting-approval",
        environment,
        wanted.bundle,
        plan=wanted.plan,
        deployment="approve-release/approve",
        parameters=asked.values,
        form=link,
        command=asked.command,
        page=approvals.awaiting_key(environment),
    )
