"""A pod's volumes as directories of the host, which are bound to their mount paths in containers.

Contents are written once, when the pod starts: a later change of a ConfigMap reaches the next pod, not this one, and a projected token
is not renewed (an hour by default; pods of a sandbox have shorter lives).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sandbox.cluster.api import Object
from sandbox.cluster.environment import Lookup, NotConfigured, field_value

_DEFAULT_MODE = 0o644
_TOKEN_SECONDS = 3600
_SHARED_MODE = 0o777  # an emptyDir is writable for any user of the containers

Tokens = Callable[[Mapping[str, Any]], str]
"""A `serviceAccountToken` source -> a token of the pod's service account."""


@dataclasses.dataclass(frozen=True, slots=True)
class Volume:
    """A volume that is ready.

    Attributes:
        path: the directory or file that is bound into containers.
        writable: whether containers may write to it (`emptyDir` and `hostPath`).
    """

    path: Path
    writable: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Sources:
    """The sources of contents."""

    lookup: Lookup
    tokens: Tokens


def prepare(pod: Object, directory: Path, sources: Sources) -> dict[str, Volume]:
    """Makes every volume of the pod below the directory.

    Raises:
        NotConfigured: a ConfigMap, Secret or key is missing, or the kind of volume is unknown here.
    """
    prepared = {volume["name"]: _prepare(pod, volume, directory / volume["name"], sources) for volume in pod["spec"].get("volumes") or []}
    group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    if group is not None and directory.exists():
        _give_to_group(directory, group)
    return prepared


def token_request(pod: Object, source: Mapping[str, Any]) -> Object:
    """Returns the TokenRequest for a projected token, bound to the pod, so that the token ends with it."""
    metadata = pod["metadata"]
    bound = {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]}
    spec: Object = {"expirationSeconds": source.get("expirationSeconds", _TOKEN_SECONDS), "boundObjectRef": bound}
    if source.get("audience"):
        spec["audiences"] = [source["audience"]]
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}


def _prepare(pod: Object, volume: Object, place: Path, sources: Sources) -> Volume:
    if "hostPath" in volume:
        return Volume(Path(volume["hostPath"]["path"]), writable=True)
    place.mkdir(parents=True, exist_ok=True)
    if "emptyDir" in volume:
        place.chmod(_SHARED_MODE)
        return Volume(place, writable=True)
    if "projected" in volume:
        projected = volume["projected"]
        for source in projected.get("sources") or []:
            _project(pod, source, place, projected.get("defaultMode", _DEFAULT_MODE), sources)
        return Volume(place, writable=False)
    for kind in ("configMap", "secret", "downwardAPI"):
        if kind in volume:
            source = volume[kind]
            _project(pod, {kind: source}, place, source.get("defaultMode", _DEFAULT_MODE), sources)
            return Volume(place, writable=False)
    raise NotConfigured(f'volume "{volume["name"]}" is of a kind that the sandbox does not have: {", ".join(set(volume) - {"name"})}')


def _project(pod: Object, source: Object, place: Path, mode: int, sources: Sources) -> None:
    if "serviceAccountToken" in source:
        wanted = source["serviceAccountToken"]
        _write(place / wanted["path"], sources.tokens(wanted).encode(), mode)
    for kind, name in (("configMap", "name"), ("secret", "secretName")):
        if kind in source:
            chosen = source[kind]
            known = chosen.get(name) or chosen["name"]
            _write_items(place, sources.lookup(kind.lower(), known, bool(chosen.get("optional"))), chosen, mode, f"{kind} {known}")
    if "downwardAPI" in source:
        for item in source["downwardAPI"].get("items") or []:
            path = (item.get("fieldRef") or {}).get("fieldPath", "")
            _write(place / item["path"], field_value(pod, path).encode(), item.get("mode", mode))


def _write_items(place: Path, data: Mapping[str, bytes], source: Object, mode: int, what: str) -> None:
    items = source.get("items") or [{"key": key, "path": key} for key in data]
    for item in items:
        if item["key"] in data:
            _write(place / item["path"], data[item["key"]], item.get("mode", mode))
        elif not source.get("optional"):
            raise NotConfigured(f"{what} references non-existent key: {item['key']}")


def _give_to_group(directory: Path, group: int) -> None:
    """Gives the pod's own volumes to the group of `fsGroup`, with the rights that their owner has."""
    for path in directory.rglob("*"):
        os.chown(path, -1, group)
        mode = path.stat().st_mode
        path.chmod(mode | (mode >> 3 & 0o070) | (0o2000 if path.is_dir() else 0))


def _write(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
