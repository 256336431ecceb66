"""A refused run, told: state *Refused* with the reason, the cause as labels for whoever follows the run, and an event `greylag.run.refused`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from prefect import State
from prefect.events import emit_event
from prefect.states import Failed

from flows import endings
from migrator import codes

EVENT = "greylag.run.refused"

CODE = "run-refused"

NAME = "Refused"
"""The state's name; its type is FAILED, so that whatever follows runs knows that nothing was done."""


def state(reason: str, worker: str) -> State[Any]:
    """Returns the state that a refused run ends in."""
    return Failed(name=NAME, message=f"refused by worker {worker}: {reason} [{CODE}]")


def labels(attempt: int, target: str) -> dict[str, bool | int | float | str]:
    """Returns the cause as a failed run carries it (`flows.endings`).

    Args:
        attempt: the run's `run_count`.
        target: the worker's environment.
    """
    return {endings.CODE: CODE, endings.EXIT_CODE: int(codes.CODES[CODE].exit_code), endings.TARGET: target, endings.ATTEMPT: attempt}


def emit(run: UUID, reason: str, *, worker: str, pool: str, flow: str) -> None:
    """Emits the event, which automations can listen to."""
    emit_event(
        EVENT,
        resource={"prefect.resource.id": f"prefect.flow-run.{run}", "greylag.flow": flow, "greylag.pool": pool},
        payload={"reason": reason, "worker": worker, "flow": flow, "pool": pool},
    )
