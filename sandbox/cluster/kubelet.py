"""A node without containers: registers itself, runs the pods that are bound to it as processes, serves their logs.

It is a program of its own (`python -m sandbox.cluster.kubelet`), authenticated as `system:node:<name>`, and may do only what the API
server's node authorizer allows. Pods share the machine's network; each has an address of its own in 127.0.0.0/8.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from migrator import errors
from sandbox import ports
from sandbox.certificates import Pair
from sandbox.cluster import execution, statuses
from sandbox.cluster.api import MERGE, Api, ApiRefused, Login, Object
from sandbox.cluster.images import Registry
from sandbox.cluster.log_server import LogServer
from sandbox.cluster.pods import Pod
from sandbox.cluster.runners import Node

_WATCH_SECONDS = 240
_RETRY_SECONDS = 0.3
# More than pods ever ask for: their requests are not enforced, only added up by the scheduler.
_CAPACITY = {"cpu": "64", "memory": "256Gi", "pods": "1000", "ephemeral-storage": "100Gi"}
_HIDDEN = ("/tmp", "/var/tmp")  # empty in a container, as in an image


def addresses() -> Iterator[str]:
    """Yields addresses for pods: on Linux all of 127.0.0.0/8 is loopback, so that two pods can use the same port."""
    return (f"127.77.{number // 250}.{number % 250 + 1}" for number in itertools.count())


class Kubelet:
    """The node.

    Args:
        node: the state that its pods share.
        version: the kubelet version that it reports.
        log_port: the port of its log server.
    """

    def __init__(self, node: Node, version: str, log_port: int) -> None:
        self._node, self._version, self._log_port = node, version, log_port
        self._pods: dict[str, Pod] = {}
        self._addresses = addresses()

    def find(self, namespace: str, name: str) -> Pod | None:
        """Returns the pod of this name; the newest, if an older one is still ending."""
        return next((pod for pod in reversed(list(self._pods.values())) if pod.key == (namespace, name)), None)

    def stop(self) -> None:
        """Kills every container, because nothing would supervise them."""
        for pod in list(self._pods.values()):
            pod.kill()

    def register(self) -> None:
        """Creates the Node, or takes over an existing one, and reports it ready.

        Raises:
            Unavailable: the API server does not answer, or refuses.
        """
        name, api = self._node.name, self._node.api
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": _architecture()}
        try:
            api.create("/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
        except ApiRefused as refused:
            if refused.reason != "AlreadyExists":
                raise
        api.patch(f"/api/v1/nodes/{name}/status", {"status": self._status()}, MERGE)

    def serve(self) -> None:
        """Follows the API server's pods of this node for ever; after an interruption all of them are listed again."""
        told = ""
        while True:
            try:
                self._follow()
            except errors.GreylagError as problem:
                if problem.message != told:
                    told = problem.message
                    print(told, flush=True)
                time.sleep(_RETRY_SECONDS)

    def _follow(self) -> None:
        api, chosen = self._node.api, {"fieldSelector": f"spec.nodeName={self._node.name}"}
        listed = api.get("/api/v1/pods", **chosen)
        present = {found["metadata"]["uid"] for found in listed["items"]}
        for found in listed["items"]:
            self._bound(found)
        for uid in [uid for uid in self._pods if uid not in present]:
            self._pods.pop(uid).removed()
        version = listed["metadata"]["resourceVersion"]
        while True:
            for kind, found in api.watch("/api/v1/pods", version=version, seconds=_WATCH_SECONDS, **chosen):
                if kind == "ERROR":  # usually 410: the changes since are no longer known, so all is listed again
                    return
                version = found["metadata"]["resourceVersion"]
                if kind == "DELETED":
                    pod = self._pods.pop(found["metadata"]["uid"], None)
                    if pod is not None:
                        pod.removed()
                elif kind != "BOOKMARK":
                    self._bound(found)

    def _bound(self, found: Object) -> None:
        uid = found["metadata"]["uid"]
        pod = self._pods.get(uid)
        if pod is None:
            self._pods[uid] = pod = Pod(found, self._node, next(self._addresses))
            pod.start()
        pod.update(found)

    def _status(self) -> Object:
        condition = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "pods run as processes of this machine",
            "lastHeartbeatTime": statuses.now(),
            "lastTransitionTime": statuses.now(),
        }
        info = {
            "architecture": _architecture(),
            "bootID": "",
            "containerRuntimeVersion": "process://1",
            "kernelVersion": os.uname().release,
            "kubeProxyVersion": "",
            "kubeletVersion": self._version,
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": "the machine itself",
            "systemUUID": "",
        }
        return {
            "capacity": _CAPACITY,
            "allocatable": _CAPACITY,
            "addresses": [{"type": "InternalIP", "address": ports.LOOPBACK}, {"type": "Hostname", "address": self._node.name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._log_port}},
            "nodeInfo": info,
            "declaredFeatures": [execution.FEATURE],
            "conditions": [condition],
        }


def _architecture() -> str:
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


@dataclasses.dataclass(frozen=True, slots=True)
class _Options:
    """The command line's options."""

    name: str
    url: str
    authority: Path
    certificate: Path
    key: Path
    directory: Path
    images: Path
    hide: Path
    log_port: int
    version: str
    restart_backoff: float


def _parsed(arguments: list[str] | None) -> _Options:
    parser = argparse.ArgumentParser(prog="python -m sandbox.cluster.kubelet", description=__doc__)
    kinds = {"log_port": int, "restart_backoff": float, "name": str, "url": str, "version": str}
    for field in dataclasses.fields(_Options):
        parser.add_argument(f"--{field.name.replace('_', '-')}", required=True, type=kinds.get(field.name, Path), dest=field.name)
    return _Options(**vars(parser.parse_args(arguments)))


def main(arguments: list[str] | None = None) -> int:
    """Serves until SIGTERM."""
    options = _parsed(arguments)
    pair = Pair(options.certificate, options.key)
    node = Node(
        name=options.name,
        api=Api(options.url, options.authority, Login(pair.certificate, pair.key)),
        images=Registry(options.images),
        directory=options.directory / "pods",
        hidden=(*_HIDDEN, str(options.hide)),
        restart_backoff_seconds=options.restart_backoff,
    )
    shutil.rmtree(node.directory, ignore_errors=True)  # left by a node that was killed: none of its containers is alive
    node.directory.mkdir(parents=True)
    kubelet = Kubelet(node, options.version, options.log_port)

    def leave(_number: int, _frame: object) -> None:
        kubelet.stop()
        os._exit(0)  # pods' threads wait for ever

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    LogServer(options.log_port, pair, options.authority, kubelet.find).start()
    while True:
        with contextlib.suppress(errors.Unavailable):
            kubelet.register()
            break
        time.sleep(_RETRY_SECONDS)
    kubelet.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
