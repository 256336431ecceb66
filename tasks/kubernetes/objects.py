"""Reads the API's own JSON: the parts that every object has, a workload's pod template, a pod. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

Json = Mapping[str, Any]


def template(workload: Json) -> Json:
    """Returns the pod template."""
    found: Json = workload["spec"].get("template") or {}
    return found


def containers(workload: Json, name: str = "") -> list[Json]:
    """Returns the pod template's container of this name; all containers when no name is given."""
    found = (template(workload).get("spec") or {}).get("containers") or ()
    return [item for item in found if not name or item.get("name") == name]


def init_containers(workload: Json) -> list[Json]:
    """Returns the pod template's init containers."""
    return list((template(workload).get("spec") or {}).get("initContainers") or ())


def images(workload: Json, container: str) -> list[str]:
    """Returns the image of the named container; all images when none is named, because then no container is known to be a sidecar."""
    return [str(item.get("image", "")) for item in containers(workload, container)]


def controller(item: Json) -> Json:
    """Returns the owner reference of the object's controller; empty when it has none."""
    owners = item["metadata"].get("ownerReferences") or ()
    found: Json = next((owner for owner in owners if owner.get("controller")), {})
    return found


def owned_by(item: Json, uid: str) -> bool:
    """Tells whether the object with this uid is one of its owners. (A label would prove nothing: anybody can set one.)"""
    return any(owner.get("uid") == uid for owner in item["metadata"].get("ownerReferences") or ())


def condition(item: Json, *kinds: str) -> Json:
    """Returns the first of these conditions that is True; empty when none is."""
    found = {each["type"]: each for each in (item.get("status") or {}).get("conditions") or () if each.get("status") == "True"}
    return next((found[kind] for kind in kinds if kind in found), {})


def container_statuses(pod: Json) -> list[Json]:
    """Returns the statuses of a pod's containers in the order in which they run, init containers first."""
    state = pod.get("status") or {}
    return [*(state.get("initContainerStatuses") or ()), *(state.get("containerStatuses") or ())]


def label(item: Json, name: str) -> str:
    """Returns a label's value; empty when it is not set."""
    return str((item["metadata"].get("labels") or {}).get(name, ""))


def annotation(item: Json, name: str) -> str:
    """Returns an annotation's value; empty when it is not set."""
    return str((item["metadata"].get("annotations") or {}).get(name, ""))


def name(item: Json) -> str:
    """Returns the object's name."""
    return str(item["metadata"]["name"])


def deleting(item: Json) -> bool:
    """Tells whether the object is being deleted."""
    return bool(item["metadata"].get("deletionTimestamp"))


def generation(item: Json) -> int:
    """Returns the generation of its specification."""
    return int(item["metadata"].get("generation", 0))


def age(item: Json, now: datetime) -> float:
    """Returns the seconds since it was created."""
    created = item["metadata"].get("creationTimestamp")
    return since(created, now) if created else 0.0


def since(moment: str | datetime, now: datetime) -> float:
    """Returns the seconds since a time that the API wrote."""
    found = moment if isinstance(moment, datetime) else datetime.fromisoformat(moment.replace("Z", "+00:00"))
    return (now - found).total_seconds()


def selector(workload: Json) -> str:
    """Returns a workload's label selector as the API takes it, `matchExpressions` included."""
    found = workload["spec"].get("selector") or {}
    parts = [f"{key}={value}" for key, value in sorted((found.get("matchLabels") or {}).items())]
    for item in found.get("matchExpressions") or ():
        values = ",".join(item.get("values") or ())
        parts.append(
            {
                "In": f"{item['key']} in ({values})",
                "NotIn": f"{item['key']} notin ({values})",
                "Exists": item["key"],
                "DoesNotExist": f"!{item['key']}",
            }[item["operator"]]
        )
    return ",".join(parts)
