"""Makes a supervisor's description from a container's manifest: command, variables, mounts, user and privileges. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.cluster import supervisor
from sandbox.cluster.api import Object
from sandbox.cluster.environment import NotConfigured, expand
from sandbox.cluster.images import DEFAULT_PATH, Image
from sandbox.cluster.volumes import Volume

TERMINATION_PATH = "/dev/termination-log"


@dataclasses.dataclass(frozen=True, slots=True)
class HostFiles:
    """A container's files on the host.

    Attributes:
        scratch: an empty directory below which its root is made.
        log: the file for its output.
        termination: the file at its `terminationMessagePath`.
        hidden: directories of the host that are empty in the container.
    """

    scratch: Path
    log: Path
    termination: Path
    hidden: tuple[str, ...] = ("/tmp", "/var/tmp")


def defaults(pod: Object, image: Image, api_host: str, api_port: int) -> dict[str, str]:
    """Returns the variables that a container has before its manifest adds any."""
    kubelet = {"HOSTNAME": pod["metadata"]["name"], "KUBERNETES_SERVICE_HOST": api_host, "KUBERNETES_SERVICE_PORT": str(api_port)}
    return {"PATH": DEFAULT_PATH} | dict(image.environment) | kubelet


def describe(
    pod: Object, container: Object, image: Image, variables: Mapping[str, str], volumes: Mapping[str, Volume], host_files: HostFiles
) -> dict[str, Any]:
    """Returns the description for `supervisor`.

    Raises:
        NotConfigured: there is nothing to run, or it would run as a user that the manifest forbids.
    """
    security = dict(pod["spec"].get("securityContext") or {}) | dict(container.get("securityContext") or {})
    user = security.get("runAsUser", image.user)
    if security.get("runAsNonRoot") and user == 0:
        raise NotConfigured("container has runAsNonRoot and image will run as root")
    groups = {*security.get("supplementalGroups", ()), *([security["fsGroup"]] if "fsGroup" in security else [])}
    return {
        "scratch": str(host_files.scratch),
        "hidden": list(host_files.hidden),
        "hostname": pod["spec"].get("hostname") or pod["metadata"]["name"][:63],
        "command": command(container, image, variables),
        "environment": dict(variables),
        "working_directory": container.get("workingDir") or image.working_directory,
        "user": user,
        "group": security.get("runAsGroup", 0),
        "groups": sorted(groups),
        "read_only": bool(security.get("readOnlyRootFilesystem")),
        "no_new_privileges": security.get("allowPrivilegeEscalation") is False,
        "capabilities": _capabilities(security.get("capabilities") or {}),
        "mounts": [*_image_mounts(image), *_volume_mounts(container, volumes), _termination(container, host_files)],
        "log": str(host_files.log),
    }


def command(container: Object, image: Image, variables: Mapping[str, str]) -> list[str]:
    """Returns the program and its arguments: a manifest's `command` replaces the image's entrypoint *and* command, `args` only the latter.

    Raises:
        NotConfigured: neither names a program.
    """
    program = container.get("command") or image.entrypoint
    arguments = container.get("args") or (() if container.get("command") else image.command)
    whole = [expand(part, variables) for part in (*program, *arguments)]
    if not whole:
        raise NotConfigured("no command specified")
    return whole


def _capabilities(wanted: Mapping[str, Any]) -> list[str]:
    dropped = wanted.get("drop") or []
    kept = set() if "ALL" in dropped else set(supervisor.CAPABILITIES) - set(dropped)
    return sorted(kept | (set(wanted.get("add") or []) & set(supervisor.CAPABILITIES)))


def _image_mounts(image: Image) -> list[dict[str, Any]]:
    return [{"source": source, "target": target, "writable": False, "reachable": True} for target, source in image.mounts.items()]


def _volume_mounts(container: Object, volumes: Mapping[str, Volume]) -> list[dict[str, Any]]:
    mounts = []
    for mount in container.get("volumeMounts") or []:
        volume = volumes[mount["name"]]
        below = mount.get("subPath")
        source = volume.path / below if below else volume.path
        if below and not source.exists():
            source.mkdir(parents=True)
        writable = volume.writable and not mount.get("readOnly")
        mounts.append({"source": str(source), "target": mount["mountPath"], "writable": writable, "reachable": False})
    return mounts


def _termination(container: Object, host_files: HostFiles) -> dict[str, Any]:
    target = container.get("terminationMessagePath", TERMINATION_PATH)
    return {"source": str(host_files.termination), "target": target, "writable": True, "reachable": False}
