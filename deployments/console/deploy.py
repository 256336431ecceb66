"""`greylag deploy`: puts everything that the fleet needs onto the Prefect server; with a target it deploys that target.

Without a target: a work pool of greylag's own type per environment, a concurrency limit per database, and the deployments of prefect.yaml. Safe to
repeat: what exists is kept (a pool that is open is named, and closed where that is asked for), deployments are replaced by the file's. With `@environment` or
`@environment/service`: starts the flow and follows it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.console import automations, deployment_file, edge, flow_runs, targets
from deployments.worker import pool
from migrator import errors
from migrator.cli import calls
from migrator.cli.calls import Call
from migrator.cli.go_flags import Flag
from migrator.cli.verbs import VerbEntry
from tasks import fleet, limits

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

ROOT = Path(__file__).resolve().parents[2]

FILE = ROOT / "prefect.yaml"


def run(call: Call) -> int:
    """Installs what the fleet needs on the Prefect server; with a target deploys that instead."""
    if any(call.arguments):
        return _start(call)
    return install(fleet.load(), close=call.values.boolean("close-pools"), notify=call.values.string("notify"))


def install(found: fleet.Fleet, file: Path = FILE, *, close: bool = False, notify: str = "") -> int:
    """Creates pools and limits, applies prefect.yaml, makes the automations. Raises UsageError (`bad-deployments`), NotFound (`no-such-block`), Unavailable.

    Args:
        close: whether pools that exist and let runs choose something are closed.
        notify: the block by which people are told what waits and what fails.
    """
    document = deployment_file.read(file)
    flows = deployment_file.flows(document, found)
    names = pools(document, found)
    with flow_runs.connected() as client:
        left_open = [name for name in names if not prepare_pool(client, name, close=close)]
        made = limits.create(found.targets())
        edge.say(f"concurrency limits: {len(made)} created, {len(found.targets()) - len(made)} exist")
        deployment_file.apply(document, flows, file, edge.say, client)
        made_automations = automations.install(client, notify, edge.say)
    calls.note(
        work_pools=names,
        open_work_pools=left_open,
        limits_created=len(made),
        deployments=len(document["deployments"]),
        automations=made_automations,
    )
    edge.say(f"deployments: {len(document['deployments'])} applied from {file.name}")
    return 0


def pools(document: dict[str, Any], found: fleet.Fleet) -> list[str]:
    """Returns the work pools that fleet and deployments name."""
    environments = [found.target(next(iter(found.services)), name).work_pool for name in found.environments]
    named = [(item.get("work_pool") or {}).get("name") for item in document["deployments"]]
    return list(dict.fromkeys([*environments, *(name for name in named if name)]))


def prepare_pool(client: SyncPrefectClient, name: str, *, close: bool = False) -> bool:
    """Creates a work pool where there is none, closes one where that is asked for, and says what it found; whether the pool is closed.

    A pool of another type is kept with its runs: `greylag worker` serves it as well, since nothing of a pool is used but its queue.
    """
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    try:
        found = client.read_work_pool(name)
    except ObjectNotFound:
        try:
            client.create_work_pool(WorkPoolCreate(name=name, type=pool.TYPE, base_job_template=pool.template()))
            edge.say(f"work pool {name}: created")
            return True
        except ObjectAlreadyExists:  # somebody else was quicker
            found = client.read_work_pool(name)
    chosen = pool.free(found.base_job_template)
    if close and pool.changes(pool.TYPE, found.base_job_template):
        client.update_work_pool(name, WorkPoolUpdate(base_job_template=pool.template()))
        choice = f" (each run could choose {', '.join(chosen)})" if chosen else ""
        edge.say(f"work pool {name}: closed{choice}")
        chosen = []
    else:
        edge.say(f"work pool {name}: exists")
    if found.type != pool.TYPE:
        edge.say(
            f"warning: work pool {name} is of type {found.type}: a worker that is started without a type would be one, too [pool-type]\n"
            f"hint: `greylag worker` serves it all the same; delete the pool when nothing runs in it, and `greylag deploy` makes it anew"
        )
    if chosen:
        edge.say(
            f"warning: work pool {name} is open: the server takes {', '.join(chosen)} with each run; greylag's worker refuses such runs, "
            "others obey them [open-work-pool]\nhint: `greylag deploy -close-pools` closes it"
        )
    return not chosen


def _start(call: Call) -> int:
    expression, bundle = call.arguments[0], call.values.string("bundle")
    found = fleet.load()
    chosen = targets.select(found, expression)
    environments = {item.environment for item in chosen}
    if len(environments) != 1:
        raise errors.UsageError(
            f"{expression} spans {', '.join(sorted(environments))}",
            code="bad-target",
            hint="`greylag promote` goes from one to the next",
        )
    environment, services = environments.pop(), [item.service for item in chosen]
    given = {
        name.replace("-", "_"): value
        for name in ("approval", "image", "mode", "backoff-limit", "active-deadline-seconds")
        if (value := call.values.given_value(name)) is not None
    }
    more: dict[str, Any]
    if len(services) == 1:
        flow_name, more = "deploy-service", {"service": services[0], **({"bundle": bundle} if bundle else {})}
    elif bundle:
        raise errors.UsageError("--bundle is of one service", code="bad-target", hint="name one: @environment/service")
    else:
        flow_name, more = "deploy-environment", {"services": services if len(services) < len(found.services) else []}
    name = f"{flow_name} {services[0] + ' ' if len(services) == 1 else ''}{environment}"
    with flow_runs.connected() as client:
        started = flow_runs.start(
            client, f"{flow_name}/{flow_name}-{environment}", {"environment": environment, **more, **given}, name=name
        )
        if call.values.boolean("no-wait"):
            flow_runs.tell_started(started)
            return 0
        return flow_runs.interruptible(lambda: flow_runs.follow(client, started, pool=chosen[0].work_pool))


RETRIES = (
    Flag("mode", "string", "", "how the migration is run", choices=("", "inline", "job", "argocd")),
    Flag("backoff-limit", "integer", None, "retries after the first attempt of a step"),
    Flag("active-deadline-seconds", "number", None, "time for all attempts of a step together"),
)
"""What `deploy` and `promote` hand to the flows."""

VERB = VerbEntry(
    "deploy",
    run,
    "creates work pools, concurrency limits and deployments; with a target, @environment or @environment/service: deploys it",
    arguments="[TARGET]",
    flags=(
        Flag("close-pools", "bool", False, "gives pools that exist greylag's own template, which lets a run choose nothing"),
        Flag("notify", "string", "", "the notification block, TYPE/NAME, by which people are told what waits and what fails"),
        Flag("bundle", "string", "", "digest that the service's files must have"),
        Flag("approval", "string", "", "id of the approval run, for a protected environment"),
        Flag("image", "string", "", "the release's image, whose rollout is awaited"),
        *RETRIES,
        Flag("no-wait", "bool", False, "start, but don't follow"),
    ),
)
