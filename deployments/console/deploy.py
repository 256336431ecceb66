"""`greylag deploy`: puts everything that the fleet needs onto the Prefect server; with a target it deploys that target.

Without a target: a closed work pool per environment, a concurrency limit per database, and the deployments of prefect.yaml. Safe to repeat: what
exists is kept (a pool that is open is named, and closed where that is asked for), deployments are replaced by the file's. With `@environment` or
`@environment/service`: starts the flow and follows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.console import deployment_file, edge, flow_runs, targets
from deployments.work_pools import templates
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

PROMOTION = "promotion"
"""Stands for the environment's name in what a pool is given that is no environment's."""


def run(call: Call) -> int:
    """Installs what the fleet needs on the Prefect server; with a target deploys that instead."""
    values = call.values
    if any(call.arguments):
        return _start(call)
    settings = _settings(values.strings("pool-setting"))
    given = Pools(
        values.string("pool-type"),
        values.string("pool-command"),
        values.string("pool-image"),
        settings,
        close=values.boolean("close-pools"),
    )
    return install(fleet.load(), given)


@dataclass(frozen=True)
class Pools:
    """How work pools are made: their type, and what is fixed in their templates. `close` also closes those that exist and are open."""

    kind: str = "process"
    command: str = ""
    image: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    close: bool = False


def _settings(words: Sequence[str]) -> dict[str, str]:
    if bad := next((word for word in words if "=" not in word), ""):
        raise errors.UsageError(f'"{bad}" is not NAME=VALUE', hint="-pool-setting GREYLAG_VAULT_ADDRESS=https://vault.example:8200")
    return dict(word.split("=", 1) for word in words)


def install(found: fleet.Fleet, given: Pools | None = None, file: Path = FILE) -> int:
    """Creates pools and limits, then applies prefect.yaml. Raises UsageError (`bad-deployments`, `bad-setting`, `pool-not-closed`), Unavailable."""
    given = given or Pools()
    document = deployment_file.read(file)
    flows = deployment_file.flows(document, found)
    made_of = {pool: _template(pool, found, given) for pool in pools(document, found)}
    with flow_runs.connected() as client:
        left_open = [pool for pool, template in made_of.items() if not prepare_pool(client, pool, template, given)]
        made = limits.create(found.targets())
        edge.say(f"concurrency limits: {len(made)} created, {len(found.targets()) - len(made)} exist")
    deployment_file.apply(document, flows, file, edge.say)
    calls.note(work_pools=list(made_of), open_work_pools=left_open, limits_created=len(made), deployments=len(document["deployments"]))
    edge.say(f"deployments: {len(document['deployments'])} applied from {file.name}")
    return 0


def pools(document: dict[str, Any], found: fleet.Fleet) -> list[str]:
    """Returns the work pools that fleet and deployments name."""
    environments = [found.target(next(iter(found.services)), name).work_pool for name in found.environments]
    named = [(item.get("work_pool") or {}).get("name") for item in document["deployments"]]
    return list(dict.fromkeys([*environments, *(name for name in named if name)]))


def _template(pool: str, found: fleet.Fleet, given: Pools) -> dict[str, Any]:
    """Returns the closed template of a pool. An environment's pods are in its namespace; the promotion's, which hold no login, are told nothing of Vault."""
    if given.kind == "process":
        if given.image or given.settings:
            raise errors.UsageError(
                "-pool-image and -pool-setting are of Kubernetes pools",
                hint="runs of a process pool inherit the worker's own environment; or add -pool-type kubernetes",
            )
        return templates.process(given.command)
    if not given.image or given.command:
        raise errors.UsageError(
            "a Kubernetes pool needs the worker image, and starts Prefect's own command",
            hint="-pool-type kubernetes -pool-image registry.example/greylag-worker@sha256:…",
        )
    environment = next((name for name in found.environments if _of(found, name).work_pool == pool), "")
    namespace = _of(found, environment).namespace if environment else found.namespace.replace("{environment}", PROMOTION)
    settings = {
        name: value.replace("{environment}", environment or PROMOTION)
        for name, value in given.settings.items()
        if environment or not name.startswith("GREYLAG_VAULT_")
    }
    return templates.kubernetes(namespace, given.image, settings)


def _of(found: fleet.Fleet, environment: str) -> fleet.Target:
    return found.target(next(iter(found.services)), environment)


def prepare_pool(client: SyncPrefectClient, name: str, template: Mapping[str, Any], given: Pools) -> bool:
    """Creates a work pool where there is none, closes one where that is asked for, and says what it found; whether the pool is closed."""
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        try:
            client.create_work_pool(WorkPoolCreate(name=name, type=given.kind, base_job_template=dict(template)))
            edge.say(f"work pool {name}: created")
            return True
        except ObjectAlreadyExists:  # somebody else was quicker
            pool = client.read_work_pool(name)
    chosen = templates.free(pool.base_job_template)
    if given.close and pool.type == given.kind and (given.image or given.command):
        client.update_work_pool(name, WorkPoolUpdate(base_job_template=dict(template)))
        edge.say(f"work pool {name}: closed, with what was given")
        return True
    if not chosen:
        edge.say(f"work pool {name}: exists")
        return True
    if given.close:
        try:
            mended = templates.closed(pool.base_job_template, pool.type)
        except errors.UsageError as error:
            error.message = f"work pool {name} can't be closed: {error.message}"
            raise
        client.update_work_pool(name, WorkPoolUpdate(base_job_template=mended))
        edge.say(f"work pool {name}: closed (each run could choose {', '.join(chosen)})")
        return True
    edge.say(
        f"work pool {name}: exists\n"
        f"warning: work pool {name} is open: whoever starts a run chooses its {', '.join(chosen)} [open-work-pool]\n"
        "hint: `greylag deploy -close-pools` fixes each of them to the pool's default; workers take it up with their next run"
    )
    return False


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
        Flag("pool-type", "string", "process", "type of work pools that are created", choices=tuple(templates.KINDS)),
        Flag("pool-command", "string", "", "process pools: what starts the engine, where all workers share one Python"),
        Flag("pool-image", "string", "", "Kubernetes pools: the worker image, best by digest"),
        Flag("pool-setting", "strings", (), "Kubernetes pools: NAME=VALUE, a variable of the pods; may be repeated"),
        Flag(
            "close-pools",
            "bool",
            False,
            "closes pools that leave command or environment to each run; with -pool-command or -pool-image: gives every pool these",
        ),
        Flag("bundle", "string", "", "digest that the service's files must have"),
        Flag("approval", "string", "", "id of the approval run, for a protected environment"),
        Flag("image", "string", "", "the release's image, whose rollout is awaited"),
        *RETRIES,
        Flag("no-wait", "bool", False, "start, but don't follow"),
    ),
)
