"""Names, tags and loggers of flow runs, made of service, environment and digest."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.logging.loggers import flow_run_logger
from prefect.runtime import flow_run

from tasks import approval

SHORT = 12
"""Characters of a digest that people compare."""


def short(digest: str) -> str:
    """Returns the first characters of a digest, for names and tables."""
    return digest[:SHORT]


def run_name() -> str:
    """Returns the running flow run's name, from its flow and its parameters: `deploy-service auth-service dev 1a2b3c4d5e6f`."""
    given: Mapping[str, Any] = flow_run.parameters or {}
    bundle = given.get("bundle") or (approval.ReleaseManifest(bundles=given["bundles"]).bundle if given.get("bundles") else "")
    words = [flow_run.flow_name, given.get("service"), given.get("environment") or given.get("until"), short(bundle)]
    return " ".join(str(word) for word in words if word)


def tags(*, service: str = "", environment: str = "", bundle: str = "") -> list[str]:
    """Returns the tags of a run: `service:…`, `environment:…`, `bundle:…`."""
    named = {"service": service, "environment": environment, "bundle": short(bundle)}
    return ["greylag", *(f"{key}:{value}" for key, value in named.items() if value)]


def attach(*, service: str = "", environment: str = "", bundle: str = "") -> None:
    """Adds tags to the running flow run, even if it was started by hand."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    present = set(context.flow_run.tags)
    wanted = present | set(tags(service=service, environment=environment, bundle=bundle))
    if wanted != present:
        with get_client(sync_client=True) as client:
            client.update_flow_run(context.flow_run.id, tags=sorted(wanted))


def logger() -> logging.Logger | logging.LoggerAdapter[Any]:
    """Returns the running flow's own logger.

    Prefect's get_run_logger would take the task's logger when a flow is called from within a task, as in deploy_environment.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return logging.getLogger("flows")
    return flow_run_logger(context.flow_run, context.flow)
