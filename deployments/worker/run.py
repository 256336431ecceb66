"""A run's own process: `python -m deployments.worker.run FLOW RUN ENVIRONMENT POOL WORKER`, where ENVIRONMENT is the worker's own or `promotion`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from uuid import UUID

from deployments.worker import admission, catalogue, prefect_bridge, refusals

if TYPE_CHECKING:
    from prefect import Flow, State
    from prefect.client.schemas.objects import FlowRun


def attempt(flow: Flow[..., Any], run_id: UUID, environment: str, pool: str, worker: str) -> None:
    """Runs the flow, or refuses it because of its parameters, and ends the process accordingly."""
    entry = catalogue.ENTRIES[flow.name]

    def admit(run: FlowRun) -> State[Any] | None:
        reason = _reason(flow, entry, run, environment)
        if not reason:
            return None
        _label(run, environment)
        refusals.emit(run_id, reason, worker=worker, pool=pool, flow=flow.name)
        return refusals.state(reason, worker)

    prefect_bridge.drive(run_id, flow, admit)


def _reason(flow: Flow[..., Any], entry: catalogue.Entry, run: FlowRun, environment: str) -> str:
    from prefect.exceptions import ParameterTypeError

    from flows import parameters

    if run.flow_id is None or run.deployment_id is None:
        return "it belongs to no deployment"
    given = run.parameters or {}
    reason = admission.parameters_refusal(given, flow.parameters.properties, entry.kind, environment, parameters.known_environment)
    if reason:
        return reason
    if missing := [name for name in flow.parameters.required or () if name not in given]:
        return f"it lacks the parameter {', '.join(missing)}"
    try:
        flow.validate_parameters(dict(given))
    except ParameterTypeError as error:
        return f"its parameters are refused: {error}"
    return ""


def _label(run: FlowRun, environment: str) -> None:
    import httpx
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(run.id, refusals.labels(run.run_count, environment))
    except httpx.HTTPError:
        pass  # the state and the event say it as well


def main(words: list[str]) -> None:
    """Imports the flow that is named and runs it."""
    name, run_id, environment, pool, worker = words
    attempt(catalogue.ENTRIES[name].load(), UUID(run_id), environment, pool, worker)


if __name__ == "__main__":
    main(sys.argv[1:])
