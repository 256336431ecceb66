"""Several promotions at once: finds whose turn it is, what each of them proposes, and which proposal has replaced another.

Everything is read from the runs that Prefect records and from the artifacts that they publish; `tasks/promotions.py` decides. A concurrency limit of
the deployment would not do: a run that waits for its approval would hold the only slot, so that no newer proposal could ever replace it, and
Prefect crashes a run that holds a slot when the server was restarted (prefect.md §3).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.runtime import flow_run as current
from prefect.states import Running

from flows import approvals, labels, parameters, remote_runs, reports
from migrator import errors
from tasks import fleet, promotions, signs_of_life
from tasks.approval import Approval, ReleaseManifest
from tasks.promotions import Promotion, Turn

TURN_POLL_SECONDS = 5.0
"""Seconds. Another promotion takes minutes."""


def take_turn(found: fleet.Fleet, until: str, *, returning: bool = False) -> None:
    """Returns once this run may work (`promotions.turn`).

    Raises Skipped when it isn't to work at all, Interrupted when it is no running run for Prefect any more.
    """
    told: Promotion | None = None
    while True:
        others = remote_runs.patiently(lambda: running(found))
        mine = next((item for item in others if item.run_id == current.id), None)
        if mine is None:
            raise errors.Interrupted(
                "Prefect does not hold this run for running any more: somebody has ended or suspended it",
                hint="promote again, if it was not meant",
            )
        decided, other = promotions.turn(mine.model_copy(update={"until": until}), others, returning=returning)
        if decided is Turn.NOW:
            return
        if decided is Turn.NEVER:
            raise promotions.Skipped(
                f"nothing was done: {other}, which a schedule started too, is at work until {until}", hint="the next tick will look again"
            )
        if other != told:
            labels.logger().info("waits for its turn: %s is at work until %s", other, until)
        told = other
        time.sleep(TURN_POLL_SECONDS)


def running(found: fleet.Fleet) -> list[Promotion]:
    """Returns the promotions that are running for Prefect, including this one."""
    wanted = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[promotions.FLOW])), flow_run_filter=wanted, limit=remote_runs.MOST_RUNS
        )
        return [item for run in runs if (item := _promotion(found, run, client)) is not None]


def _promotion(found: fleet.Fleet, run: FlowRun, client: SyncPrefectClient) -> Promotion | None:
    try:
        until = found.environment_name(run.parameters.get("until") or parameters.LAST_ENVIRONMENT)
    except errors.GreylagError:  # a run with such a parameter ends by itself
        return None
    state = run.state
    if state is None:
        return None
    return Promotion(
        run_id=str(run.id),
        name=run.name,
        until=until,
        since=state.timestamp,
        scheduled=run.auto_scheduled,
        waiting=state.name == promotions.AWAITING_APPROVAL,
        alive=str(run.id) == current.id or signs_of_life.heard(client, [run.id], state.timestamp),
    )


def publish(environment: str, manifest: ReleaseManifest, *, image: str, given: Approval | None = None) -> None:
    """Proposes a release for an environment, in place of earlier proposals; or records that the environment is entered now, by an approval."""
    more = {"image": image, "run": current.name, "approval": given.run_id if given else ""}
    rows = [{"service": name, "bundle": manifest.bundles[name], "plan": plan, **more} for name, plan in manifest.plans.items()]
    outcome = f"is entered, approved by {given.approver} (claimed)" if given else "is proposed"
    reports.publish_table(
        approvals.proposal_key(environment),
        rows,
        f"{environment}: {current.name} {outcome}\n\nrelease `{manifest.bundle}`\n\nrelease plan `{manifest.plan}`",
    )


def require_new(found: fleet.Fleet, environments: Sequence[str], bundles: Mapping[str, str], image: str) -> None:
    """Raises AlreadyProposed when another promotion waits for an approval of this very release, in one of these environments."""
    others = [item for item in remote_runs.patiently(lambda: running(found)) if item.run_id != current.id and item.waiting]
    if not others:
        return
    for environment in (name for name in environments if found.environment(name).protected):
        log = remote_runs.patiently(functools.partial(approvals.proposals, environment))
        waiting = promotions.proposed(bundles, image, log, others)
        if waiting is not None:
            digest = ReleaseManifest(bundles=bundles).bundle
            raise promotions.AlreadyProposed(
                f"release {labels.short(digest)} is already proposed for {environment} by {waiting}, which waits for an approval",
                hint=f"approve that one, as the artifact {approvals.proposal_key(environment)} has it; or cancel it, and promote again",
            )


def require_standing(environment: str) -> None:
    """Raises Superseded when another run's proposal has replaced this run's."""
    found = promotions.successor(current.id, approvals.proposals(environment))
    if found is not None:
        raise promotions.Superseded(
            f"{environment}: this proposal is superseded by {found}; an approval of it releases nothing",
            hint=f"look at the artifact {approvals.proposal_key(environment)}, and approve what is proposed there",
        )


def emit(event: str, environment: str, digest: str, **payload: Any) -> None:
    """Emits an event of a release in an environment, as automations and people await it."""
    reports.emit(event, f"greylag.release.{environment}", f"release in {environment}", environment=environment, bundle=digest, **payload)


def show_waiting(message: str) -> None:
    """Gives the run the state of one that waits for its approval; from then on it isn't at work."""
    _rename(promotions.AWAITING_APPROVAL, message)


def show_working() -> None:
    """Gives the run the state Running again; it is then last in line (`take_turn`)."""
    _rename("Running", "")


def _rename(name: str, message: str) -> None:
    """Gives the running run's state another name. If somebody has cancelled or ended the run meanwhile, it stays so."""

    def rename() -> Any:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(current.id)).state
            if state is not None and state.is_running():
                client.set_flow_run_state(UUID(current.id), Running(name=name, message=message))

    remote_runs.patiently(rename)
