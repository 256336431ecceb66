"""Tells whether a flow run still has a process: its state on the server, and the heartbeats that Prefect's engine emits as events (prefect.md §12).

A state alone proves nothing: a run whose worker was lost stays Running for ever.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

HEARTBEATS_MISSED = 3
"""Heartbeats in a row that a run may miss before it counts as dead, as in Prefect's own recipe for zombies."""

HEARTBEAT_SECONDS = 180
"""Seconds. Prefect's default, for a worker that has switched its own heartbeats off."""

_DEEPEST = 5
"""Runs above a run: promotion, environment, service are three."""


class Life(enum.StrEnum):
    """What is known of a run's process."""

    ALIVE = "alive"
    SILENT = "shows no sign of life"
    ENDED = "has ended"


@dataclass(frozen=True)
class Family:
    """A run and the runs that it belongs to, itself first. Their ids are `ids`; the last one is the run that was started in a pool."""

    runs: tuple[FlowRun, ...]

    @property
    def ids(self) -> tuple[UUID, ...]:
        """Returns the runs' ids."""
        return tuple(run.id for run in self.runs)


def patience() -> timedelta:
    """Returns how long a run may be silent: three heartbeats of this process's own setting."""
    from prefect.settings import get_current_settings

    return timedelta(seconds=HEARTBEATS_MISSED * (get_current_settings().flows.heartbeat_frequency or HEARTBEAT_SECONDS))


def heard(client: SyncPrefectClient, run_ids: Iterable[UUID], since: datetime) -> bool:
    """Tells whether one of these runs, which began before, has shown a sign of life within the time of three heartbeats, or began within that time.

    Args:
        since: the server's time of the youngest run's present state.
    """
    from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter

    oldest = datetime.now(since.tzinfo) - patience()
    if since > oldest:
        return True
    wanted = EventFilter(
        event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run_id}" for run_id in run_ids]),
        occurred=EventOccurredFilter.model_validate({"since": oldest}),
    )
    return bool(client.read_events(wanted, limit=1).events)


def family(client: SyncPrefectClient, run_id: UUID) -> Family:
    """Reads a run and those whose process it shares: a flow that another flow calls has no deployment of its own. Raises ObjectNotFound."""
    runs = [client.read_flow_run(run_id)]
    while (task := runs[-1].parent_task_run_id) is not None and runs[-1].deployment_id is None and len(runs) < _DEEPEST:
        parent = client.read_task_run(task).flow_run_id
        if parent is None:
            break
        runs.append(client.read_flow_run(parent))
    return Family(tuple(runs))


def of(client: SyncPrefectClient, found: Family) -> Life:
    """Tells what is known of a run's process, by its own state, that of the run it is part of, and their heartbeats."""
    states = [run.state for run in found.runs]
    if any(state is not None and state.is_final() for state in states):
        return Life.ENDED
    since = max((state.timestamp for state in states if state is not None), default=datetime.now(UTC))
    return Life.ALIVE if heard(client, found.ids, since) else Life.SILENT
