"""`Cluster(directory)`: a whole Kubernetes cluster of one node as a context manager."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from migrator import errors
from sandbox import builds, processes
from sandbox.cluster import control_plane, kubeconfigs
from sandbox.cluster.api import Api, Object
from sandbox.cluster.control_plane import ControlPlane, Ports
from sandbox.cluster.images import Image, Registry

NODE = "node1"
_ROOT_DIRECTORY = Path(__file__).resolve().parents[2]
_READY_SECONDS = 60.0
_COMMAND_SECONDS = 300.0
_TOKEN_SECONDS = 24 * 3600
_PROGRAMS = ("kubectl", "helm")


def unavailable() -> str | None:
    """Says why this machine can't run a cluster, or returns None; the reason of tests that skip."""
    if not sys.platform.startswith("linux"):
        return f"the sandbox's cluster needs Linux (namespaces, overlayfs), this is {sys.platform}"
    if os.geteuid() != 0:
        return "the sandbox's cluster needs root: its node makes namespaces and mounts"
    for program in ("nsenter", "unshare"):
        if shutil.which(program) is None:
            return f"the sandbox's cluster needs `{program}` (util-linux)"
    allowed = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    if allowed.returncode != 0:
        return "the sandbox's cluster needs CAP_SYS_ADMIN: this machine lets nobody make namespaces"
    if importlib.util.find_spec("cryptography") is None:
        return "the sandbox's cluster needs `cryptography` (pip install 'greylag[dev]')"
    if builds.binary(builds.CONTROLPLANE) is None:
        return builds.missing(builds.CONTROLPLANE)
    return None


class Cluster:
    """A control plane and one node. Its objects survive `stop`, and a new object on the same directory finds them, at the same address.

    Args:
        directory: holds keys, data, logs and registered images.
        job_backoff_seconds: the Job controller's first delay between pods; None takes GREYLAG_TEST_JOB_BACKOFF's, else the released
        10 s.
        restart_backoff_seconds: the node's delay before it restarts a container for the second time (10 s on a real one).
        binary: the control plane's program; None takes the cached one.

    Raises:
        NotFound: the program is not built.
    """

    def __init__(
        self,
        directory: Path,
        *,
        job_backoff_seconds: float | None = None,
        restart_backoff_seconds: float = 10.0,
        binary: Path | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self._binary = binary or builds.require(builds.CONTROLPLANE)
        self._ports = Ports.choose(self._remembered())
        backoff = f"{job_backoff_seconds}s" if job_backoff_seconds is not None else os.environ.get(control_plane.JOB_BACKOFF)
        self.control_plane = ControlPlane(self.directory, self._binary, self._ports, backoff)
        self.url = self.control_plane.url
        self.ca_file = self.control_plane.authority.certificate
        self.kubeconfig = self.directory / "admin.kubeconfig"
        self.api: Api = self.control_plane.api()
        self.images = Registry(self.directory / "images")
        self.kubelet = self._kubelet(restart_backoff_seconds)

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Cluster:
        """Starts everything and returns once pods can run in the default namespace.

        Raises:
            Unavailable: a component did not start; the detail shows its log's last lines.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "ports.json").write_text(json.dumps(dataclasses.asdict(self._ports)), encoding="utf-8")
        user = kubeconfigs.certificate(self.control_plane.admin)
        kubeconfigs.write(self.kubeconfig, self.url, self.ca_file, user)
        self._link_programs()
        try:
            self.control_plane.start()
            self.kubelet.start()
            self.kubelet.wait_until(lambda: self._node_ready() and self._namespace_ready("default"), _READY_SECONDS)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stops everything; containers are killed."""
        self.kubelet.stop()
        self.control_plane.stop()

    @property
    def programs(self) -> Path:
        """The directory with `kubectl` and `helm`, for PATH."""
        return self.directory / "bin"

    def register(self, *images: Image) -> None:
        """Makes images known to the node."""
        for image in images:
            self.images.register(image)

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs kubectl as the administrator.

        Args:
            arguments: after `kubectl`.
            stdin: e.g. manifests for `apply -f -`.
            check: False returns failures too.

        Raises:
            Unavailable: it failed.
        """
        return self._run("kubectl", arguments, stdin, check)

    def helm(self, *arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs helm as the administrator, with its files in the cluster's directory."""
        return self._run("helm", arguments, stdin, check)

    def apply(self, *objects: Mapping[str, Any], namespace: str = "default") -> None:
        """Applies objects, by `kubectl apply`.

        Raises:
            Unavailable: the API server refused one.
        """
        documents = {"apiVersion": "v1", "kind": "List", "items": [dict(each) for each in objects]}
        self.kubectl("apply", "--namespace", namespace, "--filename", "-", stdin=json.dumps(documents))

    def create_namespace(self, name: str) -> str:
        """Creates a namespace in which pods can run at once; an existing one is kept. Returns its name."""
        if self.api.find(f"/api/v1/namespaces/{name}") is None:
            self.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
        self.wait_until(lambda: self._namespace_ready(name), f"namespace {name} has its service account")
        return name

    def delete_namespace(self, name: str) -> None:
        """Deletes a namespace with everything in it, without waiting."""
        if self.api.find(f"/api/v1/namespaces/{name}") is not None:
            self.api.delete(f"/api/v1/namespaces/{name}")

    def token(self, namespace: str, service_account: str, *, audience: str | None = None, seconds: int = _TOKEN_SECONDS) -> str:
        """Returns a token of a service account (TokenRequest).

        Args:
            namespace, service_account: the service account.
            audience: the token's audience; None is the API server itself.
            seconds: its lifetime; 600 at least.
        """
        spec: Object = {"expirationSeconds": seconds} | ({"audiences": [audience]} if audience else {})
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        made = self.api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token", body)
        return str(made["status"]["token"])

    def service_account_kubeconfig(self, namespace: str, service_account: str) -> Path:
        """Returns a kubeconfig that acts as this service account, for a day."""
        path = self.directory / "kubeconfigs" / f"{namespace}-{service_account}.kubeconfig"
        user = kubeconfigs.token(self.token(namespace, service_account))
        return kubeconfigs.write(path, self.url, self.ca_file, user, namespace)

    def wait_until(self, ready: Callable[[], bool], what: str, seconds: float = _READY_SECONDS) -> None:
        """Polls until `ready` returns True.

        Raises:
            Unavailable: the time was over.
        """
        deadline, pause = time.monotonic() + seconds, 0.02
        while not ready():
            if time.monotonic() > deadline:
                raise errors.Unavailable(f"not so within {seconds:.0f} s: {what}", code="sandbox-kubernetes")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.25)

    def _run(self, program: str, arguments: Sequence[str], stdin: str, check: bool) -> subprocess.CompletedProcess[str]:
        own = {
            "KUBECONFIG": str(self.kubeconfig),
            "HOME": str(self.directory),
            "PATH": f"{self.programs}:{os.environ.get('PATH', os.defpath)}",
        }
        done = subprocess.run(
            [str(self._binary), program, *arguments],
            env=own,
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        if check and done.returncode != 0:
            raise errors.Unavailable(
                f"{program} {' '.join(arguments[:3])}: exit code {done.returncode}: {done.stderr.strip()[-2000:]}",
                code="sandbox-kubernetes",
            )
        return done

    def _kubelet(self, restart_backoff_seconds: float) -> processes.ServerProcess:
        authority = self.control_plane.authority
        hosts = ("127.0.0.1", NODE)
        pair = authority.issue("kubelet", f"system:node:{NODE}", organization="system:nodes", hosts=hosts)
        flags = {
            "name": NODE,
            "url": self.url,
            "authority": authority.certificate,
            "certificate": pair.certificate,
            "key": pair.key,
            "directory": self.directory / "kubelet",
            "images": self.directory / "images",
            "hide": self.directory,
            "log-port": self._ports.kubelet,
            "version": builds.kubernetes_release(),
            "restart-backoff": restart_backoff_seconds,
        }
        command = [sys.executable, "-m", "sandbox.cluster.kubelet"]
        command += [part for name, value in flags.items() for part in (f"--{name}", str(value))]
        own = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONUNBUFFERED": "1"}
        log = self.directory / "logs" / "kubelet.log"
        return processes.ServerProcess("kubelet", command, log=log, environment=own, directory=_ROOT_DIRECTORY)

    def _remembered(self) -> dict[str, int]:
        with contextlib.suppress(OSError, ValueError):
            found = json.loads((self.directory / "ports.json").read_text(encoding="utf-8"))
            return {str(name): int(port) for name, port in found.items()}
        return {}

    def _link_programs(self) -> None:
        self.programs.mkdir(exist_ok=True)
        for name in _PROGRAMS:
            link = self.programs / name
            link.unlink(missing_ok=True)
            link.symlink_to(self._binary)

    def _node_ready(self) -> bool:
        node = self.api.find(f"/api/v1/nodes/{NODE}")
        conditions = (node or {}).get("status", {}).get("conditions") or []
        return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

    def _namespace_ready(self, name: str) -> bool:
        """Tells whether pods can run there: they are refused without the service account, and wait without the certificate for their token's volume."""
        wanted = ("serviceaccounts/default", "configmaps/kube-root-ca.crt")
        return all(self.api.find(f"/api/v1/namespaces/{name}/{each}") is not None for each in wanted)
