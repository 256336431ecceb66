"""`greylag fleet`: what fleet.yaml says, as it was understood."""

from __future__ import annotations

from deployments.console import edge
from migrator.cli import calls
from migrator.cli.calls import Call
from migrator.cli.verbs import VerbEntry
from tasks import fleet

SERVICES = ("Service", "Engine", "Database", "Migrations", "Depends on", "Workload")
ENVIRONMENTS = ("Environment", "Suffix", "Namespace", "Work pool", "Protected")


def run(call: Call) -> int:
    """Prints services and environments. Raises UsageError (`bad-fleet`) for a file that can't be understood."""
    found = fleet.load()
    services, environments = _services(found), _environments(found)
    calls.note(file=str(found.path), services=edge.records(SERVICES, services), environments=edge.records(ENVIRONMENTS, environments))
    if not call.json:
        edge.show(f"{found.path}\n\n{edge.table(SERVICES, services)}\n\n{edge.table(ENVIRONMENTS, environments)}")
    return 0


def _services(found: fleet.Fleet) -> list[tuple[str, ...]]:
    names = [name for wave in found.order() for name in wave]
    return [
        (
            name,
            str(service.engine),
            service.database,
            service.migrations,
            ", ".join(service.depends_on) or "-",
            f"{service.workload.kind}/{service.workload.name or name}",
        )
        for name in names
        for service in (found.services[name],)
    ]


def _environments(found: fleet.Fleet) -> list[tuple[str, ...]]:
    first = next(iter(found.services))
    rows: list[tuple[str, ...]] = []
    for name, environment in found.environments.items():
        target = found.target(first, name)
        also = f" ({', '.join(environment.aliases)})" if environment.aliases else ""
        rows.append((name + also, environment.suffix or "-", target.namespace, target.work_pool, "yes" if environment.protected else "no"))
    return rows


VERB = VerbEntry("fleet", run, "prints the fleet: services and environments, as fleet.yaml was understood")
