"""Whether a run may be started as it was asked for. Pure: what the server says of the run and its deployment against what the worker is.

A run brings a flow's name and parameters. Whatever else it carries would be ignored anyway; it is refused, because somebody put it there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deployments.worker import catalogue

DEPLOY = "`greylag deploy` makes the deployments anew"


@dataclass(frozen=True)
class Asked:
    """What the server says of a run, its deployment and its flow; of a run without a deployment the run's alone."""

    flow: str
    deployment: str = ""
    job_variables: Mapping[str, Any] = field(default_factory=dict)
    deployment_job_variables: Mapping[str, Any] = field(default_factory=dict)
    pull_steps: tuple[Any, ...] = ()
    path: str = ""
    entrypoint: str = ""
    storage: bool = False
    infrastructure: bool = False


def refusal(asked: Asked, kind: catalogue.Kind, home: str) -> str:
    """Returns why a worker of this kind doesn't start the run; empty when it does.

    Args:
        home: the worker's checkout: a deployment may name it as its path, which changes nothing.
    """
    if not asked.deployment:
        return "it belongs to no deployment"
    entry = catalogue.of(kind).get(asked.flow)
    if entry is None:
        elsewhere = " (that flow belongs to another kind of pool)" if asked.flow in catalogue.ENTRIES else ""
        return f'this worker does not start a flow named "{asked.flow}"{elsewhere}'
    carried = {
        "job_variables of the run": bool(asked.job_variables),
        "job_variables of the deployment": bool(asked.deployment_job_variables),
        "pull_steps": bool(asked.pull_steps),
        f'the path "{asked.path}"': asked.path not in ("", ".", home),
        f'the entrypoint "{asked.entrypoint}"': asked.entrypoint not in ("", entry.entrypoint),
        "a storage document": asked.storage,
        "an infrastructure document": asked.infrastructure,
    }
    if found := [name for name, there in carried.items() if there]:
        return f"it carries {', '.join(found)}; this worker takes a flow's name and parameters only: {DEPLOY}"
    return ""


def parameters_refusal(
    given: Mapping[str, Any], known: Iterable[str], kind: catalogue.Kind, environment: str, named: Callable[[str], str]
) -> str:
    """Returns why the run's parameters aren't taken; empty when they are. Their values are validated by the flow's own types.

    Args:
        known: the names of the flow's parameters.
        environment: the worker's own.
        named: returns an environment's own name for a name or an alias; raises ValueError where there is none.
    """
    if unknown := sorted(set(given) - set(known)):
        return f"the flow has no parameter {', '.join(unknown)}"
    if kind is catalogue.Kind.PROMOTION:
        return ""
    asked = given.get("environment")
    if not isinstance(asked, str):
        return "its parameter environment names none"
    try:
        own = named(asked)
    except ValueError:
        return f'its parameter environment names none of the fleet: "{asked}"'
    return "" if own == environment else f"it is for {own}, and this worker is {environment}'s"
