"""`greylag worker`: serves an environment's work pool, or the promotion's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deployments.console import edge, flow_runs
from deployments.worker import place
from migrator import errors
from migrator.cli.calls import Call
from migrator.cli.go_flags import Flag
from migrator.cli.verbs import VerbEntry
from tasks import fleet

if TYPE_CHECKING:
    from deployments.worker import jobs
    from deployments.worker.worker import GreylagWorker


def run(call: Call) -> int:
    """Serves until SIGTERM or Ctrl-C. Raises UsageError (`unknown-environment`, `bad-commit`, `prefect-address`)."""
    (environment,), values = call.arguments, call.values
    flow_runs.require_configured()
    asked = place.of_environment(fleet.load(), environment, values.string("pool"))
    with place.pinned(asked, values.string("commit")) as own:
        _tell(own)
        _serve(own, values.string("name") or f"greylag-{own.environment}", values.given_value("limit"), _cluster(call, own))
    return 0


def _cluster(call: Call, own: place.Place) -> jobs.Cluster | None:
    """Returns where runs are Jobs, if they are to be."""
    values = call.values
    given, image = values.strings("setting"), values.string("image")
    if not image:
        if given or values.string("job-template"):
            raise errors.UsageError(
                "-setting and -job-template are of runs in pods", hint="-image names the worker image that the pods run"
            )
        return None
    if bad := next((word for word in given if "=" not in word), ""):
        raise errors.UsageError(f'"{bad}" is not NAME=VALUE', hint="-setting GREYLAG_VAULT_ADDRESS=https://vault.example:8200")
    from deployments.worker import jobs
    from tasks import settings
    from tasks.kubernetes import api

    found = fleet.load()
    namespace = found.namespace.replace("{environment}", own.environment)
    if own.environment in found.environments:
        namespace = found.target(next(iter(found.services)), own.environment).namespace
    template = Path(values.string("job-template")) if values.string("job-template") else jobs.TEMPLATE
    job = jobs.JobSettings(namespace, image, dict(word.split("=", 1) for word in given), template)
    return jobs.Cluster(api.connect(settings.load().kube_context or api.IN_CLUSTER), job)


def _tell(own: place.Place) -> None:
    edge.say(f"worker of {own.environment}, work pool {own.pool}")
    edge.say(f"runs start from {f'commit {own.commit[:12]}, copied to {own.home}' if own.commit else f'{own.home} as it stands'}")
    if own.commit and not own.fleet_file.is_relative_to(own.home):
        edge.say(f"{own.fleet_file} lies outside the checkout: it is read as it stands")


def _serve(own: place.Place, name: str, limit: object, cluster: jobs.Cluster | None) -> None:
    import asyncio

    from deployments.worker.worker import GreylagWorker

    given = limit if isinstance(limit, int) else None
    worker = GreylagWorker(own.pool, name=name, limit=given, place=own, cluster=cluster)
    asyncio.run(_until_signalled(worker))


async def _until_signalled(worker: GreylagWorker) -> None:
    import asyncio
    import signal

    serving = asyncio.ensure_future(worker.start(printer=edge.say))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        edge.say(f"worker {worker.name} stopped")


VERB = VerbEntry(
    "worker",
    run,
    "serves an environment's work pool (or `promotion`): starts greylag's flows by name, with this process's own login",
    arguments="ENVIRONMENT",
    flags=(
        Flag("limit", "integer", None, "runs at once; the pool's own limit counts as well"),
        Flag("name", "string", "", "the worker's name on the server; greylag-ENVIRONMENT unless given"),
        Flag("pool", "string", "", "another work pool than fleet.yaml's"),
        Flag("commit", "string", "", "what runs start from: a commit of the checkout, copied aside; `none`: the files as they stand"),
        Flag("image", "string", "", "runs are Kubernetes Jobs in this worker image, best by digest"),
        Flag("setting", "strings", (), "Jobs: NAME=VALUE, a variable of the pods; may be repeated"),
        Flag("job-template", "string", "", "Jobs: a file with the Job, instead of deployments/worker/job.json"),
    ),
)
