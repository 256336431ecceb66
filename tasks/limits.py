"""One migration per database as Prefect enforces it: a global concurrency limit per service and environment.

It is a courtesy and not what correctness depends on: it keeps runs from queueing on the database's own lock, which does the real work (promises.md §4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from migrator import errors
from tasks.fleet.models import Target
from tasks.settings import Settings

LEASE_SECONDS = 60.0
"""Seconds. Prefect's shortest lease: after a killed worker the next run waits for one minute, not five."""


@contextmanager
def held(target: Target, settings: Settings) -> Iterator[None]:
    """Holds the target's limit. `strict`, because a missing limit is otherwise only a warning (prefect.md §3). A lease that can't be renewed does
    not stop the migration, because the database lock still holds.

    Raises LockUnavailable (`limit-held`) when another run holds it longer than `lock_wait_seconds`, UsageError (`limit-missing`).
    """
    from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
    from prefect.concurrency.sync import concurrency

    if settings.create_limits:
        create([target])
    try:
        slot = concurrency(
            target.limit,
            lease_duration=LEASE_SECONDS,
            strict=True,
            raise_on_lease_renewal_failure=False,
            timeout_seconds=settings.lock_wait_seconds,
        )
        slot.__enter__()
    except ConcurrencySlotAcquisitionError as error:
        if error.__cause__ is not None:  # Prefect wraps every failure of the request into the same class
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
        raise errors.LockUnavailable(
            f"another run migrates {target.label}: {target.limit} is taken", code="limit-held", hint="wait for it, or cancel it in the UI"
        ) from None
    try:
        yield
    finally:
        slot.__exit__(None, None, None)


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
