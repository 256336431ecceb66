"""Executes a flow run that exists already, as a worker's process does after the UI's Retry, and may die by SIGKILL on the way.

Usage: python run_again.py FLOW_RUN_ID FLOW [before|after MODULE FUNCTION]
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow


def deadly(when: str, module_name: str, name: str) -> None:
    """Replaces a step's plain function by one that kills this process before or after doing its work."""
    module = importlib.import_module(module_name)
    real = getattr(module, name)

    def die(*given: Any, **named: Any) -> None:
        if when == "after":
            real(*given, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(module, name, die)


def main() -> None:
    run_id, flow_name, *death = sys.argv[1:]
    flow = getattr(importlib.import_module(f"flows.{flow_name}"), flow_name)
    if death:
        deadly(*death)
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(UUID(run_id))
    state: Any = run_flow(flow, flow_run=run, parameters=flow.validate_parameters(run.parameters), return_type="state")
    print("ENDED", state.type.value, state.message)


if __name__ == "__main__":
    main()
