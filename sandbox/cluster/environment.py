"""A container's variables, resolved as the kubelet does: `env`, `envFrom`, references and `$(NAME)`."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.cluster.api import Object


class NotConfigured(Exception):
    """A reference of a container is missing or makes no sense: the pod waits in CreateContainerConfigError until it can be resolved."""


Lookup = Callable[[str, str, bool], Mapping[str, bytes]]
"""(`configmap` or `secret`, its name, whether it is optional) -> its data. Raises NotConfigured."""

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.\-][A-Za-z0-9_.\-]*)\)")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")
_FROM = (("configmap", "configMapRef"), ("secret", "secretRef"))
_KEY = (("configmap", "configMapKeyRef"), ("secret", "secretKeyRef"))


def data_of(kind: str, found: Mapping[str, Any]) -> dict[str, bytes]:
    """Returns the data of a ConfigMap or Secret as bytes."""
    if kind == "secret":
        return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
    return {key: value.encode() for key, value in (found.get("data") or {}).items()}


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replaces `$(NAME)` by the variable; an unknown name stays as it is, `$$` is one dollar."""
    return _REFERENCE.sub(lambda found: "$" if found[0] == "$$" else variables.get(found[1], found[0]), text)


def resolve(pod: Object, container: Object, defaults: Mapping[str, str], lookup: Lookup) -> dict[str, str]:
    """Returns all variables of a container.

    Args:
        pod: with `status.podIP` for the downward API.
        container: its entry in the pod's spec.
        defaults: the image's and the kubelet's variables; the pod's own override them.
        lookup: reads ConfigMaps and Secrets.

    Raises:
        NotConfigured: a required reference leads nowhere.
    """
    variables = dict(defaults)
    for source in container.get("envFrom") or []:
        for kind, field in _FROM:
            if field in source:
                reference = source[field]
                data = lookup(kind, reference["name"], bool(reference.get("optional")))
                variables.update({source.get("prefix", "") + key: value.decode(errors="replace") for key, value in data.items()})
    for entry in container.get("env") or []:
        if "valueFrom" not in entry:
            variables[entry["name"]] = expand(entry.get("value") or "", variables)
            continue
        value = _referred(pod, entry["valueFrom"], lookup)
        if value is not None:
            variables[entry["name"]] = value
    return variables


def _referred(pod: Object, source: Mapping[str, Any], lookup: Lookup) -> str | None:
    for kind, field in _KEY:
        if field not in source:
            continue
        reference = source[field]
        optional = bool(reference.get("optional"))
        data = lookup(kind, reference["name"], optional)
        if reference["key"] in data:
            return data[reference["key"]].decode(errors="replace")
        if optional:
            return None
        raise NotConfigured(f"couldn't find key {reference['key']} in {kind} {pod['metadata']['namespace']}/{reference['name']}")
    if "fieldRef" in source:
        return field_value(pod, source["fieldRef"]["fieldPath"])
    raise NotConfigured(f"no such source of a variable: {', '.join(source)}")


def field_value(pod: Object, path: str) -> str:
    """Returns the downward API's value for a field path; the empty string for a label that does not exist."""
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript:
        return str((pod["metadata"].get(subscript[1]) or {}).get(subscript[2], ""))
    found: Any = pod
    for part in path.split("."):
        found = (found or {}).get(part)
    return "" if found is None else str(found)
