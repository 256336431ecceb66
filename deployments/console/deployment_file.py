"""prefect.yaml: read, checked, and put onto the Prefect server.

What greylag's own file uses is applied through Prefect's Python API, in this process: its flows are imported once. A file that also uses what only
Prefect's command knows (build and push steps, triggers, blocks in templates) is left to that command, which starts anew and takes 10 s longer.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migrator import errors

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.deployments.runner import RunnerDeployment

    from tasks.fleet.models import Fleet

APPLIED = frozenset(
    {
        "concurrency_limit",
        "description",
        "enforce_parameter_schema",
        "entrypoint",
        "name",
        "parameters",
        "paused",
        "pull",
        "schedules",
        "tags",
        "version",
        "work_pool",
    }
)
"""Keys of a deployment that `apply` knows; others are misspelt, or for Prefect's command."""

SCHEDULE = frozenset({"active", "cron", "day_or", "parameters", "rrule", "slug", "timezone"})
"""Keys of a schedule that `apply` knows."""

IDLE = frozenset({"build", "push", "triggers", "sla"})
"""Keys that ask for nothing where they are empty."""

AT_DEPLOY_TIME = ("{{ prefect.", "{{prefect.")
"""Templates that Prefect's command fills in from blocks and variables of the server."""


def read(file: Path) -> dict[str, Any]:
    """Reads prefect.yaml as data. Raises UsageError (`bad-deployments`)."""
    import yaml

    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise _bad(f"{file} can't be read: {type(error).__name__}", "restore prefect.yaml") from None
    if not isinstance(document, dict) or not isinstance(document.get("deployments"), list):
        raise _bad(f"{file} lists no deployments", "restore prefect.yaml")
    return document


def flows(document: Mapping[str, Any], found: Fleet) -> dict[str, Flow[..., Any]]:
    """Returns the flow of every deployment, by the deployment's name. Refuses what Prefect would let pass: entrypoints that can't be imported (it deploys them
    anyway), environments that the fleet does not have.

    Raises UsageError (`bad-deployments`).
    """
    if given := [str(item.get("name")) for item in document["deployments"] if item.get("pull", document.get("pull"))]:
        raise _bad(
            f"{', '.join(given)}: pull steps run whatever somebody writes into them; greylag's workers start flows from their own files and refuse them",
            "write `pull: []`",
        )
    imported = {}
    for item in document["deployments"]:
        name, environment = str(item.get("name")), (item.get("parameters") or {}).get("environment")
        if environment is not None and environment not in found.environments:
            raise _bad(
                f'{name} is for the environment "{environment}", which {found.path.name} does not have',
                f"give prefect.yaml one deployment of each flow per environment ({', '.join(found.environments)})",
            )
        imported[name] = _imported(name, str(item.get("entrypoint", "")))
    require_agreement(document, found)
    return imported


FLOWS_OF_AN_ENVIRONMENT = ("deploy-service", "deploy-environment", "verify-environment", "plan-environment")
"""Flows that a promotion starts in each environment, by a deployment `FLOW-ENVIRONMENT`."""


def require_agreement(document: Mapping[str, Any], found: Fleet) -> None:
    """Raises UsageError (`bad-deployments`) where prefect.yaml and fleet.yaml contradict each other: a run would wait for a worker that never looks into its
    pool, and a promotion would notice when it arrives there. Pure."""
    listed = {str(item.get("name")): item for item in document["deployments"]}
    service = next(iter(found.services))
    pools = {name: found.target(service, name).work_pool for name in found.environments}
    for name, item in listed.items():
        environment = (item.get("parameters") or {}).get("environment")
        pool = (item.get("work_pool") or {}).get("name")
        if environment in pools and pool != pools[environment]:
            raise _bad(
                f"{name} runs in the work pool {pool}, {found.path.name} says that {environment}'s is {pools[environment]}",
                f"correct one of them: {environment}'s worker serves {pools[environment]}",
            )
    missing = [f"{flow}-{name}" for name in found.environments for flow in FLOWS_OF_AN_ENVIRONMENT if f"{flow}-{name}" not in listed]
    if missing:
        raise _bad(
            f"prefect.yaml has no deployment {', '.join(missing)}, but {found.path.name} has the environment",
            "give it one deployment of each flow per environment, as the others have",
        )


def _imported(name: str, entrypoint: str) -> Flow[..., Any]:
    path, _, function = entrypoint.partition(":")
    try:
        flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), function)
    except Exception as error:  # noqa: BLE001 - whatever a flow file does when it is imported
        raise _bad(f"{name}: {path}:{function} can't be imported: {type(error).__name__}: {error}", "mend the flow") from None
    if not hasattr(flow, "parameters"):
        raise _bad(f"{name}: {path}:{function} is not a flow", "correct the entrypoint")
    return flow  # type: ignore[no-any-return]


def beyond(document: Mapping[str, Any]) -> list[str]:
    """Tells what in the file only Prefect's own command applies, in words; empty for greylag's own file."""
    found = [key for key in ("build", "push") if document.get(key)]
    for item in document["deployments"]:
        found += [f"{item.get('name')}: {key}" for key in item if key not in APPLIED and (key not in IDLE or item[key])]
        found += [f"{item.get('name')}: schedule {key}" for each in item.get("schedules") or () for key in each if key not in SCHEDULE]
        if any(template in repr({**item, "pull": None}) for template in AT_DEPLOY_TIME):
            found.append(f"{item.get('name')}: a template of a block or variable")
    return found


def apply(
    document: Mapping[str, Any], flows: Mapping[str, Flow[..., Any]], file: Path, say: Callable[[str], None], client: SyncPrefectClient
) -> None:
    """Puts every deployment onto the server; those that exist are replaced. Safe to repeat.

    Raises UsageError (`bad-deployments`) with Prefect's reason where it refuses one.
    """
    if others := beyond(document):
        say(f"{file.name} is applied by Prefect's own command: {', '.join(others)}")
        _by_command(file)
    else:
        from prefect.utilities.templating import apply_values

        for item in document["deployments"]:
            filled = apply_values(item, {}, remove_notset=False)  # fills in `{{ $VARIABLE }}`, as Prefect's command does
            try:
                _deployment(filled, flows[item["name"]]).apply()
            except Exception as error:  # noqa: BLE001 - a refusal by the server, or a value that Prefect's models refuse
                raise _bad(f"Prefect refused {item['name']} of {file.name}: {error}", "correct that deployment") from None
    for item in document["deployments"]:
        _bare(client, f"{flows[item['name']].name}/{item['name']}")


def _bare(client: SyncPrefectClient, name: str) -> None:
    """Takes from a deployment whatever else than a flow's name and parameters it may carry: greylag's workers refuse it (Prefect's update leaves it)."""
    from prefect.client.schemas.actions import DeploymentUpdate

    found = client.read_deployment_by_name(name)
    nothing: dict[str, Any] = {"path": None, "pull_steps": [], "storage_document_id": None, "infrastructure_document_id": None}
    if any(getattr(found, key) != value for key, value in nothing.items()):
        client.update_deployment(found.id, DeploymentUpdate(**nothing, tags=found.tags))


def _deployment(item: Any, flow: Flow[..., Any]) -> RunnerDeployment:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.deployments.runner import RunnerDeployment
    from prefect.schedules import Schedule

    pool, limit = item.get("work_pool") or {}, item.get("concurrency_limit")
    given = {key: item[key] for key in ("paused", "parameters", "tags", "version", "enforce_parameter_schema") if item.get(key) is not None}
    made: RunnerDeployment = RunnerDeployment.from_flow(
        flow,
        name=item["name"],
        description=item.get("description") or flow.description,
        work_pool_name=pool.get("name"),
        work_queue_name=pool.get("work_queue_name"),
        job_variables=pool.get("job_variables"),
        concurrency_limit=ConcurrencyLimitConfig(**limit) if isinstance(limit, dict) else limit,
        schedules=[Schedule(**schedule) for schedule in item.get("schedules") or []],
        **given,
    )
    made.entrypoint = item["entrypoint"]
    made._path = None
    return made


def _by_command(file: Path) -> None:
    """Prefect's command; its exit code is 1 when any deployment was refused (prefect.md §7)."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", file.name],
        cwd=file.parent,
        env={"PYTHONWARNINGS": "ignore", **os.environ},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise errors.UsageError(
            f"Prefect refused {file.name}", code="bad-deployments", hint="see above", detail=(done.stdout + done.stderr).strip()[-2000:]
        )


def _bad(message: str, hint: str) -> errors.UsageError:
    return errors.UsageError(message, code="bad-deployments", hint=hint)
