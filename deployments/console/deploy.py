"""`greylag deploy`: puts everything that the fleet needs onto the Prefect server; with a target it deploys that target.

Without a target: a work pool per environment, a concurrency limit per database, and the deployments of prefect.yaml. Safe to repeat: what exists is
kept, deployments are replaced by the file's. With `@environment` or `@environment/service`: starts the flow and follows it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.console import deployment_file, edge, flow_runs, targets
from migrator import errors
from tasks import fleet, limits

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

SUMMARY = "creates work pools, concurrency limits and deployments; with a target: deploys it"

ROOT = Path(__file__).resolve().parents[2]

FILE = ROOT / "prefect.yaml"


@edge.guarded
def run(arguments: list[str]) -> int:
    """`greylag deploy [--pool-type process]`, `greylag deploy @environment[/service] [options]`."""
    parser = edge.Parser("deploy", SUMMARY)
    parser.add_argument("target", nargs="?", default="", help="@environment or @environment/service: deploys it through its own worker")
    parser.add_argument("--pool-type", default="process", help="type of work pools that are created (default: process)")
    parser.add_argument("--bundle", default="", help="digest that the service's files must have")
    parser.add_argument("--approval", default="", help="id of the approval run, for a protected environment")
    parser.add_argument("--image", default="", help="the release's image, whose rollout is awaited")
    parser.add_argument("--mode", default="", choices=["", "inline", "job"], help="how the migration is run")
    parser.add_argument("--backoff-limit", type=int, default=None, help="retries after the first attempt")
    parser.add_argument("--active-deadline-seconds", type=float, default=None, help="time for all attempts of a step together")
    parser.add_argument("--no-wait", action="store_true", help="start, but don't follow")
    options = parser.parse_args(arguments)
    if options.target:
        return _start(options)
    return install(fleet.load(), options.pool_type)


def install(found: fleet.Fleet, pool_type: str = "process", file: Path = FILE) -> int:
    """Creates pools and limits, then applies prefect.yaml. Raises UsageError (`bad-deployments`), Unavailable."""
    document = deployment_file.read(file)
    flows = deployment_file.flows(document, found)
    with flow_runs.connected() as client:
        for pool in pools(document, found):
            edge.say(f"work pool {pool}: {'created' if create_pool(client, pool, pool_type) else 'exists'}")
        made = limits.create(found.targets())
        edge.say(f"concurrency limits: {len(made)} created, {len(found.targets()) - len(made)} exist")
    deployment_file.apply(document, flows, file, edge.say)
    edge.note(work_pools=pools(document, found), limits_created=len(made), deployments=len(document["deployments"]))
    edge.say(f"deployments: {len(document['deployments'])} applied from {file.name}")
    return 0


def pools(document: dict[str, Any], found: fleet.Fleet) -> list[str]:
    """The work pools that fleet and deployments name."""
    environments = [found.target(next(iter(found.services)), name).work_pool for name in found.environments]
    named = [(item.get("work_pool") or {}).get("name") for item in document["deployments"]]
    return list(dict.fromkeys([*environments, *(name for name in named if name)]))


def create_pool(client: SyncPrefectClient, name: str, pool_type: str) -> bool:
    """Creates a work pool where there is none; whether it did."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        try:
            client.create_work_pool(WorkPoolCreate(name=name, type=pool_type))
        except ObjectAlreadyExists:  # somebody else was quicker
            return False
        return True
    return False


def _start(options: Any) -> int:
    found = fleet.load()
    chosen = targets.select(found, options.target)
    environments = {item.environment for item in chosen}
    if len(environments) != 1:
        raise errors.UsageError(
            f"{options.target} spans {', '.join(sorted(environments))}",
            code="bad-target",
            hint="`greylag promote` goes from one to the next",
        )
    environment, services = environments.pop(), [item.service for item in chosen]
    given = {
        name: value
        for name in ("approval", "image", "mode", "backoff_limit", "active_deadline_seconds")
        if (value := getattr(options, name)) not in ("", None)
    }
    if len(services) == 1:
        flow_name, more = "deploy-service", {"service": services[0], **({"bundle": options.bundle} if options.bundle else {})}
    elif options.bundle:
        raise errors.UsageError("--bundle is of one service", code="bad-target", hint="name one: @environment/service")
    else:
        flow_name, more = "deploy-environment", {"services": services if len(services) < len(found.services) else []}
    name = f"{flow_name} {services[0] + ' ' if len(services) == 1 else ''}{environment}"
    with flow_runs.connected() as client:
        started = flow_runs.start(
            client, f"{flow_name}/{flow_name}-{environment}", {"environment": environment, **more, **given}, name=name
        )
        if options.no_wait:
            flow_runs.tell_started(started)
            return 0
        return flow_runs.interruptible(lambda: flow_runs.follow(client, started, pool=chosen[0].work_pool))
