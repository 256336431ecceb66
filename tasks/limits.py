"""One migration per database as Prefect enforces it: a global concurrency limit per service and environment.

It is a courtesy and not what correctness depends on: it keeps runs from queueing on the database's own lock, which does the real work (promises.md §4).
So a slot that a dead run holds stops nobody: Prefect keeps its leases in memory unless told otherwise, and a restarted server then never gives back what
was taken before. Who took the slot is read from Prefect's own event; whether that run lives, from its state and its heartbeats.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from migrator import errors
from tasks import signs_of_life
from tasks.fleet.models import Target
from tasks.settings import Settings
from tasks.signs_of_life import Life

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

LEASE_SECONDS = 60.0
"""Seconds. Prefect's shortest lease: a killed worker's slot is free again after a minute, if the server still knows of the lease."""

UNKNOWN_SECONDS = 10.0
"""Seconds for which a slot is waited for whose holder isn't known: the event that names it travels for a second or two."""

LOOK_SECONDS = 5.0
"""Seconds between two looks at the holder: a request or two, and a person may be waiting."""

_PREFIX = "prefect.flow-run."

Tell = Callable[[str, str], None]
"""Receives a level's name and a text."""


class Course(enum.StrEnum):
    """The ways to go on when the slot is taken."""

    WAIT = "wait"
    WITHOUT = "go on without it"
    GIVE_BACK = "give it back for a run that can't any more"
    HALTED = "halted"
    HELD = "held by a living run"
    OUT_OF_TIME = "the deadline is used up"


@dataclass(frozen=True)
class Holder:
    """The run that took the slot. `own` is an earlier attempt of the run that asks."""

    name: str
    life: Life
    own: bool = False
    long_gone: bool = False
    """Whether it ended so long ago that its lease, if the server still knew of it, would have expired."""

    def __str__(self) -> str:
        return "an earlier attempt of this very run" if self.own else f"{self.name}, which {self.life}"


def course(limit: int, holder: Holder | None, waited: float, patience: float, left: float | None, *, given_back: bool = False) -> Course:
    """Decides how to go on when the slot can't be had now (pure).

    Args:
        limit: the limit's value; 0 is how a person halts a database.
        holder: None when it isn't known. waited: seconds so far. patience: seconds to wait for a living holder.
        left: seconds of the step's deadline; None for none. given_back: whether the slot was given back already.
    """
    if limit < 1:
        return Course.HALTED
    if holder is not None and holder.long_gone and not given_back:
        return Course.GIVE_BACK
    if holder is not None and (holder.own or holder.life is not Life.ALIVE):
        return Course.WITHOUT
    if holder is None and waited >= min(UNKNOWN_SECONDS, patience):
        return Course.WITHOUT
    if left is not None and left <= 0:
        return Course.OUT_OF_TIME
    return Course.HELD if waited >= patience else Course.WAIT


@contextmanager
def held(target: Target, settings: Settings, *, left: float | None = None, tell: Tell = lambda _level, _text: None) -> Iterator[None]:
    """Holds the target's limit, or goes on without it, and says so, where whoever holds it is dead or unknown. `strict`, because a missing limit is
    otherwise only a warning (prefect.md §3). A lease that can't be renewed does not stop the migration, because the database lock still holds.

    Raises LockUnavailable (`limit-held`) when a living run holds it longer than `lock_wait_seconds`, TimedOut (`deadline-exceeded`) when `left`
    seconds are over, PlanRefused (`database-halted`) where the limit is 0, UsageError (`limit-missing`), Unavailable (`prefect-unavailable`).
    """
    if settings.create_limits:
        create([target])
    started = time.monotonic()
    with ExitStack() as slot:
        told, given_back = "", False
        while not _taken(target, slot, min(LOOK_SECONDS, max(settings.lock_wait_seconds, 1.0))):
            waited = time.monotonic() - started
            value, holder = _look(target)
            remaining = None if left is None else left - waited
            decided = course(value, holder, waited, settings.lock_wait_seconds, remaining, given_back=given_back)
            if decided is Course.GIVE_BACK:
                given_back = True
                tell("warning", f"{target.label}: {target.limit} is still taken by {holder}: given back")
                _give_back(target)
                continue
            if decided is Course.WITHOUT:
                who = str(holder) if holder else "a run that left no trace"
                tell("warning", f"{target.label}: goes on without {target.limit}, which is taken by {who}; the database's own lock decides")
                break
            _refuse(decided, target, holder)
            if holder is not None and str(holder) != told:
                told = str(holder)
                tell("info", f"{target.label}: waits for {holder.name}, which holds {target.limit}")
        yield


def _refuse(decided: Course, target: Target, holder: Holder | None) -> None:
    if decided is Course.HALTED:
        raise errors.PlanRefused(
            f"{target.label} is halted: somebody has set the limit {target.limit} to 0",
            code="database-halted",
            hint=f"`prefect gcl update {target.limit} --limit 1` lets migrations run again",
        )
    if decided is Course.OUT_OF_TIME:
        raise errors.TimedOut(
            f"{target.label}: the step's time was used up while {holder.name if holder else 'another run'} held {target.limit}",
            code="deadline-exceeded",
            hint="nothing was begun; active_deadline_seconds gives it more time",
        )
    if decided is Course.HELD:
        assert holder is not None
        raise errors.LockUnavailable(
            f"another run migrates {target.label}: {holder.name} holds {target.limit}",
            code="limit-held",
            hint="wait for it, or cancel it in the UI",
        )


def _taken(target: Target, slot: ExitStack, seconds: float) -> bool:
    """Tells whether the slot was taken within some seconds; it is then given back by the stack. Raises Unavailable, UsageError."""
    import httpx
    from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
    from prefect.concurrency.sync import concurrency

    try:
        slot.enter_context(
            concurrency(
                target.limit, lease_duration=LEASE_SECONDS, strict=True, raise_on_lease_renewal_failure=False, timeout_seconds=seconds
            )
        )
    except ConcurrencySlotAcquisitionError as error:
        cause = error.__cause__
        if isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
            return False  # more is asked for than the limit allows: it is 0
        if cause is not None:  # Prefect wraps every failure of the request into the same class
            raise errors.Unavailable(
                f"the concurrency limit {target.limit} can't be taken: the Prefect server does not answer",
                code="prefect-unavailable",
                hint="check PREFECT_API_URL",
            ) from None
        raise errors.UsageError(
            f"the concurrency limit {target.limit} does not exist",
            code="limit-missing",
            hint="`greylag deploy` creates the limits of the whole fleet",
        ) from None
    except TimeoutError:
        return False
    return True


def _look(target: Target) -> tuple[int, Holder | None]:
    """Returns the limit's value and who holds it. Raises Unavailable (`prefect-unavailable`)."""
    import httpx
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            limit = client.read_global_concurrency_limit_by_name(target.limit)
            run_id = _holder_id(client, limit.id) if limit.limit > 0 else None
            return limit.limit, _holder(client, run_id) if run_id is not None else None
    except httpx.HTTPError:
        raise errors.Unavailable(
            f"the concurrency limit {target.limit} can't be read: the Prefect server does not answer",
            code="prefect-unavailable",
            hint="check PREFECT_API_URL",
        ) from None


def _give_back(target: Target) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        client.release_concurrency_slots([target.limit], slots=1, occupancy_seconds=1.0)


def _holder_id(client: SyncPrefectClient, limit_id: UUID) -> UUID | None:
    """Returns the run that took the slot last and has not given it back, by the events that Prefect emits for both."""
    from prefect.events.filters import EventFilter, EventNameFilter, EventOrder, EventResourceFilter

    wanted = EventFilter(
        event=EventNameFilter(name=["prefect.concurrency-limit.acquired", "prefect.concurrency-limit.released"]),
        resource=EventResourceFilter(id=[f"prefect.concurrency-limit.{limit_id}"]),
        order=EventOrder.DESC,
    )
    returned: set[UUID | None] = set()
    for item in client.read_events(wanted, limit=20).events:  # newest first; a run's own two are of one clock
        run_id = next((UUID(each.id.removeprefix(_PREFIX)) for each in item.related if each.id.startswith(_PREFIX)), None)
        if item.event.endswith(".released"):
            returned.add(run_id)
        elif run_id in returned:
            returned.discard(run_id)
        else:
            return run_id
    return None


def _holder(client: SyncPrefectClient, run_id: UUID) -> Holder:
    from prefect.exceptions import ObjectNotFound

    try:
        family = signs_of_life.family(client, run_id)
    except ObjectNotFound:  # somebody has deleted it
        return Holder(str(run_id), Life.ENDED)
    ends = [run.end_time for run in family.runs if run.end_time is not None]
    gone = bool(ends) and datetime.now(UTC) - max(ends) > timedelta(seconds=2 * LEASE_SECONDS)
    life, own = signs_of_life.of(client, family), not _own_ids(client).isdisjoint(family.ids)
    return Holder(f"{family.runs[0].name} ({run_id})", life, own, long_gone=gone and life is Life.ENDED and not own)


def _own_ids(client: SyncPrefectClient) -> set[UUID]:
    """Returns the running run's id and those of the runs that it is part of; two services of one environment have different limits."""
    from prefect.context import FlowRunContext

    context: Any = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return set()
    return set(signs_of_life.family(client, context.flow_run.id).ids)


def create(targets: Iterable[Target]) -> list[str]:
    """Creates the limits that are missing and leaves the others as they are: somebody may have set one to 0 to halt a database.

    Returns the names of the limits that were created.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    created = []
    with get_client(sync_client=True) as client:
        for target in targets:
            try:
                client.read_global_concurrency_limit_by_name(target.limit)
            except ObjectNotFound:
                try:
                    client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=target.limit, limit=1))
                except ObjectAlreadyExists:  # another run was quicker
                    continue
                created.append(target.limit)
    return created
