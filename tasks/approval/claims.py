"""Decides who may enter a protected environment, and with what: the release manifest, and the check of an approval against it (pure).

An approval is a finished run of the flow `approve_release`: it says yes to one bundle and one plan for one environment. The name of its approver
is what somebody typed into a form, so it is a claim; who started the run is what Prefect recorded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from migrator import errors
from tasks.outcomes import PlanOutcome

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

FLOW = "approve-release"
"""The approval flow's name on the server."""

CONFIRMATION = "deploy-{environment}"
"""The text that the approver has to type. A form whose fields all have defaults can be sent by accident (prefect.md §5)."""

MOST_APPROVALS = 200
"""The number of approval runs that are read, newest first. Older ones are past every maximum age in use."""


class ReleaseManifest(BaseModel):
    """What a release consists of, per service: the digest of its files (`bundles`) and of what they would do now (`plans`)."""

    model_config = ConfigDict(frozen=True)

    bundles: Mapping[str, str]
    plans: Mapping[str, str] = {}

    @property
    def bundle(self) -> str:
        """One digest over all bundles: the release's identity in every environment."""
        return _digest(self.bundles)

    @property
    def plan(self) -> str:
        """One digest over all plans: what the release would do in one environment as it stands."""
        return _digest(self.plans)


def manifest(plans: Iterable[PlanOutcome]) -> ReleaseManifest:
    """Returns the manifest of an environment's plans, as that environment's own worker made them."""
    found = list(plans)
    return ReleaseManifest(bundles={item.service: item.bundle for item in found}, plans={item.service: item.plan for item in found})


class Approval(BaseModel):
    """One approval as it was given. `approver` is a claim; `signature` is an envelope that only the environment's worker can judge;
    `created_by` is what Prefect recorded of the run's start."""

    model_config = ConfigDict(frozen=True)

    environment: str
    bundle: str
    plan: str
    confirm: str
    approver: str
    reason: str = ""
    signature: str = ""
    run_id: str = ""
    created_by: str = ""
    given_at: datetime


def check(
    approvals: Sequence[Approval],
    manifest: ReleaseManifest,
    environment: str,
    *,
    now: datetime,
    maximum_age: timedelta,
) -> Approval:
    """Returns the newest approval that covers this release.

    Raises PlanRefused with the code of the approval that came nearest: `approval-missing`, `approval-other-bundle`, `approval-other-plan`,
    `approval-unconfirmed`, `approval-expired`.
    """
    nearest: tuple[int, str, str] = (-1, "approval-missing", f"nobody has approved this release for {environment}")
    for approval in sorted(approvals, key=lambda item: item.given_at, reverse=True):
        found = _shortcoming(approval, manifest, environment, now, maximum_age)
        if found is None:
            return approval
        nearest = max(nearest, found, key=lambda item: item[0])
    _, code, message = nearest
    raise errors.PlanRefused(
        message,
        code=code,
        hint=f"`greylag approve {environment} --bundle {manifest.bundle} --plan {manifest.plan}`, or start {FLOW} in the UI with these values",
    )


def _shortcoming(
    approval: Approval, manifest: ReleaseManifest, environment: str, now: datetime, maximum_age: timedelta
) -> tuple[int, str, str] | None:
    """Returns how near an approval came, with the error's code and message that say what it lacks; None when it is valid."""
    who = f"{approval.approver}'s approval of {approval.given_at:%Y-%m-%d %H:%M} UTC"
    if approval.environment != environment:
        return 0, "approval-missing", f"nobody has approved this release for {environment} ({who} is for {approval.environment})"
    if approval.bundle != manifest.bundle:
        return 1, "approval-other-bundle", f"{who} is for bundle {approval.bundle[:12]}, this release is {manifest.bundle[:12]}"
    if approval.plan != manifest.plan:
        return (
            2,
            "approval-other-plan",
            f"{who} is for plan {approval.plan[:12]}; by now {environment} needs plan {manifest.plan[:12]}: its databases moved since",
        )
    expected = CONFIRMATION.format(environment=environment)
    if approval.confirm != expected:
        return 3, "approval-unconfirmed", f'{who} lacks the confirmation "{expected}"'
    age = now - approval.given_at
    if age > maximum_age:
        return 4, "approval-expired", f"{who} is {_hours(age)} old, at most {_hours(maximum_age)} are accepted"
    if age < -timedelta(minutes=5):  # clocks differ a little; a date far ahead would never expire
        return (
            4,
            "approval-expired",
            f"{who} lies {_hours(-age)} in the future of this worker's clock ({now:%H:%M} UTC): set that clock right; another approval won't help",
        )
    return None


def read(environment: str, bundle: str = "") -> list[Approval]:
    """Reads completed approval runs from the Prefect server, newest first; leaves out those whose parameters can't be read as an approval.

    Raises Unavailable when the server does not answer.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    from tasks import fleet

    completed = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED])))
    try:
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs(
                flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
                flow_run_filter=completed,
                sort=FlowRunSort.START_TIME_DESC,
                limit=MOST_APPROVALS,
            )
    except httpx.HTTPError:
        raise errors.Unavailable(
            "the approvals can't be read: the Prefect server does not answer", code="prefect-unavailable", hint="check PREFECT_API_URL"
        ) from None
    names = {
        environment,
        *(alias for alias, name in fleet.load().aliases.items() if name == environment),
    }  # parameters are kept as they were given
    found = [item for run in runs if (item := from_run(run)) is not None and item.environment in names]
    return [item.model_copy(update={"environment": environment}) for item in found if not bundle or item.bundle == bundle]


def from_run(run: FlowRun | Any) -> Approval | None:
    """Returns the approval that a flow run's parameters hold; None when they are not an approval."""
    parameters, creator = dict(run.parameters or {}), run.created_by
    given_at: Any = run.end_time or run.start_time
    try:
        return Approval(
            environment=parameters["environment"],
            bundle=parameters["bundle"],
            plan=parameters["plan"],
            confirm=parameters["confirm"],
            approver=parameters["approver"],
            reason=parameters.get("reason") or "",
            signature=parameters.get("signature") or "",
            run_id=str(run.id),
            created_by=(getattr(creator, "display_value", None) or getattr(creator, "type", None) or "") if creator else "",
            given_at=given_at,
        )
    except (KeyError, ValidationError):
        return None


def _digest(lines: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in sorted(lines.items())).encode()).hexdigest()


def _hours(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    return f"{hours:.0f} hours" if hours >= 2 else f"{hours * 60:.0f} minutes"
