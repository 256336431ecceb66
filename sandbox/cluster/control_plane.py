"""etcd, the API server, the controller manager and the scheduler as child processes on random ports of the loopback interface (servers.md §3.2)."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from migrator import errors
from sandbox import ports, processes
from sandbox.certificates import Authority, Pair, new_key, public_pem, write_key
from sandbox.cluster import kubeconfigs
from sandbox.cluster.api import Api, Login

JOB_BACKOFF = "GREYLAG_TEST_JOB_BACKOFF"
"""Read by the controller manager: the Job controller's first delay, e.g. `1s` (10 s in a released one)."""

ISSUER = "https://kubernetes.default.svc.cluster.local"
"""The issuer of service accounts' tokens."""

_READY_SECONDS = 120.0  # 3 s when the machine is idle
_STOP_SECONDS = 10.0
_NICENESS = 5  # tests that share the machine go first
_SERVICE_RANGE = "10.96.0.0/24"
# The controllers that Jobs, Deployments, tokens and clean-up need; the others (endpoints, node lifecycle, volumes, …) have nothing to do here.
_CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemonset-controller",
    "deployment-controller",
    "disruption-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "statefulset-controller",
    "ttl-after-finished-controller",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Ports:
    """The port of each component on 127.0.0.1."""

    api: int
    etcd: int
    etcd_peers: int
    controllers: int
    scheduler: int
    kubelet: int

    @classmethod
    def choose(cls, before: dict[str, int]) -> Ports:
        """Returns the ports of the last start if they are free, else others."""
        return cls(**{field.name: ports.preferred_port(before.get(field.name)) for field in dataclasses.fields(cls)})


class ControlPlane:
    """The control plane's processes and certificates.

    Args:
        directory: holds keys, data and logs.
        binary: the one program that all components are.
        chosen: the ports.
        job_backoff: for `JOB_BACKOFF`; None leaves the controller as released.
    """

    def __init__(self, directory: Path, binary: Path, chosen: Ports, job_backoff: str | None) -> None:
        self.directory, self.ports = directory, chosen
        self.url = f"https://{ports.LOOPBACK}:{chosen.api}"
        self.authority = Authority(directory / "pki", "kubernetes")
        self.admin = self.authority.issue("admin", "sandbox-admin", organization="system:masters")
        self._binary = binary
        self._tokens = directory / "pki" / "service-accounts.key"
        if not self._tokens.exists():
            key = new_key()
            write_key(self._tokens, key)
            self._tokens.with_suffix(".pub").write_text(public_pem(key), encoding="utf-8")
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(directory)}
        controllers = environment | ({JOB_BACKOFF: job_backoff} if job_backoff else {})
        self.etcd = self._process("etcd", self._etcd(), environment)
        # It holds nothing that etcd does not have; a polite stop while etcd ends too would wait minutes for etcd's answers.
        self.api_server = self._process("kube-apiserver", self._api_server(), environment, signal.SIGKILL)
        self.controller_manager = self._process("kube-controller-manager", self._controller_manager(), controllers)
        self.scheduler = self._process("kube-scheduler", self._scheduler(), environment)

    def api(self) -> Api:
        """Returns a client that may do everything."""
        return Api(self.url, self.authority.certificate, Login(self.admin.certificate, self.admin.key))

    def start(self) -> None:
        """Starts all four and returns once the API server is ready; the other two find their work by themselves.

        Raises:
            Unavailable: one did not start.
        """
        self.etcd.start()
        self.start_api_server()
        self.controller_manager.start()
        self.scheduler.start()

    def start_api_server(self) -> None:
        """Starts the API server and returns once it is ready."""
        self.api_server.start()
        api = self.api()
        self.api_server.wait_until(lambda: _ready(api), _READY_SECONDS)

    def stop(self) -> None:
        """Stops all four, the API server's clients first."""
        for process in (self.scheduler, self.controller_manager, self.api_server, self.etcd):
            process.stop(_STOP_SECONDS)

    def _process(
        self, name: str, flags: Sequence[str], environment: dict[str, str], stop_signal: signal.Signals = signal.SIGTERM
    ) -> processes.ServerProcess:
        command = [*_nice(), str(self._binary), name, *flags]
        log = self.directory / "logs" / f"{name}.log"
        return processes.ServerProcess(name, command, log=log, environment=environment, stop_signal=stop_signal)

    def _etcd(self) -> list[str]:
        clients = f"http://{ports.LOOPBACK}:{self.ports.etcd}"
        peers = f"http://{ports.LOOPBACK}:{self.ports.etcd_peers}"
        return [
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",  # a crash of the machine may lose the sandbox, a crash of etcd does not
            "--log-level=warn",
        ]

    def _api_server(self) -> list[str]:
        hosts = (ports.LOOPBACK, "localhost", "10.96.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
        serving = self.authority.issue("kube-apiserver", "kube-apiserver", hosts=hosts)
        to_kubelet = self.authority.issue("kubelet-client", "kube-apiserver-kubelet-client", organization="system:masters")
        return [
            f"--etcd-servers=http://{ports.LOOPBACK}:{self.ports.etcd}",
            f"--secure-port={self.ports.api}",
            f"--bind-address={ports.LOOPBACK}",
            f"--advertise-address={ports.LOOPBACK}",
            "--endpoint-reconciler-type=none",
            f"--service-cluster-ip-range={_SERVICE_RANGE}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--disable-admission-plugins=TaintNodesByCondition",  # the controller that takes the taint away is not started
            f"--client-ca-file={self.authority.certificate}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-key-file={self._tokens.with_suffix('.pub')}",
            f"--service-account-signing-key-file={self._tokens}",
            f"--kubelet-client-certificate={to_kubelet.certificate}",
            f"--kubelet-client-key={to_kubelet.key}",
            f"--kubelet-certificate-authority={self.authority.certificate}",
            "--kubelet-preferred-address-types=InternalIP",
            "--profiling=false",
            "--shutdown-delay-duration=0s",
        ]

    def _controller_manager(self) -> list[str]:
        return [
            *self._client("controller-manager", "system:kube-controller-manager", self.ports.controllers),
            "--use-service-account-credentials=true",  # each controller has its own role; the manager itself has nearly none
            f"--controllers={','.join(_CONTROLLERS)}",
            f"--root-ca-file={self.authority.certificate}",
            f"--service-account-private-key-file={self._tokens}",
            "--kube-api-qps=200",
            "--kube-api-burst=300",
        ]

    def _scheduler(self) -> list[str]:
        return self._client("scheduler", "system:kube-scheduler", self.ports.scheduler)

    def _client(self, file: str, user: str, port: int) -> list[str]:
        """Returns the flags that the controller manager and the scheduler share."""
        pair: Pair = self.authority.issue(file, user)
        config = kubeconfigs.write(
            self.directory / f"{file}.kubeconfig", self.url, self.authority.certificate, kubeconfigs.certificate(pair)
        )
        return [
            f"--kubeconfig={config}",
            f"--secure-port={port}",
            f"--bind-address={ports.LOOPBACK}",
            f"--cert-dir={self.directory / 'pki' / file}",
            "--leader-elect=false",
            "--authentication-skip-lookup=true",
            "--profiling=false",
        ]


def _ready(api: Api) -> bool:
    with contextlib.suppress(errors.Unavailable):
        return api.get("/readyz").get("message") == "ok"
    return False


def _nice() -> list[str]:
    return ["nice", "-n", str(_NICENESS)] if shutil.which("nice") else []
