"""Argo CD's parts as processes: a Redis in memory first, then the repository server, the API server and the controller, all at once
(argocd.md §1)."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from sandbox import ports, processes

NAMESPACE = "argocd"
PROGRAMS = ("redis", "argocd-repo-server", "argocd-server", "argocd-application-controller")
VERIFY_WRAPPER = "git-verify-wrapper.sh"

_READY_SECONDS = 90.0  # 0.4 to 0.7 s on an idle machine
_DIRECTORIES = ("bin", "logs", "tls", "ssh", "gpg/keys", "tmp", "home", "plugins")


@dataclasses.dataclass(frozen=True, slots=True)
class Ports:
    """The ports on 127.0.0.1. The controller's metrics are the exception: it has no option for the address, and listens on all of them."""

    server: int
    redis: int
    repository: int
    metrics: tuple[int, int, int]

    @classmethod
    def choose(cls, server: int | None = None) -> Ports:
        """Takes free ports; `server` is the wanted one of the API server."""
        metrics = (ports.free_port(), ports.free_port(), ports.free_port())
        return cls(ports.preferred_port(server), ports.free_port(), ports.free_port(), metrics)


class Components:
    """The four processes.

    Args:
        directory: holds everything that they write.
        binary: what `sandbox.builds` made, and the directory of the files that are kept beside it.
        kubeconfig: the cluster; they act as its administrator.
        programs: a directory with `helm`, for the repository server.
        chosen: the ports.
        environment: further variables, e.g. ARGOCD_SYNC_WAVE_DELAY.
    """

    def __init__(
        self,
        directory: Path,
        binary: tuple[Path, Path],
        kubeconfig: Path,
        programs: Path,
        chosen: Ports,
        environment: Mapping[str, str],
    ) -> None:
        self.directory, self.ports = directory, chosen
        self._binary, self._companions = binary
        self._kubeconfig = kubeconfig
        self._environment = self._own_environment(programs) | dict(environment)
        self.processes = {name: self._process(name, options) for name, options in self._options().items()}

    def start(self) -> None:
        """Starts all of them and returns once each accepts connections.

        Raises Unavailable: one did not start; the detail shows its log's last lines.
        """
        self._prepare()
        listening = dict(zip(PROGRAMS, (self.ports.redis, self.ports.repository, self.ports.server, self.ports.metrics[2]), strict=True))
        try:
            for together in (PROGRAMS[:1], PROGRAMS[1:]):
                for name in together:
                    self.processes[name].start()
                for name in together:
                    self.processes[name].wait_until(lambda port=listening[name]: ports.accepts_connections(port), _READY_SECONDS)  # type: ignore[misc]
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops all of them; what they did not write into the cluster is gone."""
        for process in reversed(self.processes.values()):
            process.stop(grace_seconds=5)

    def _prepare(self) -> None:
        for name in _DIRECTORIES:
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        (self.directory / "ssh" / "ssh_known_hosts").touch()
        for name in PROGRAMS:
            link = self.directory / "bin" / name
            link.unlink(missing_ok=True)
            link.symlink_to(self._binary)
        # Without it every application is refused ("permission denied"), whether signatures are checked or not.
        wrapper = self.directory / "bin" / VERIFY_WRAPPER
        shutil.copyfile(self._companions / "hack" / VERIFY_WRAPPER, wrapper)
        wrapper.chmod(0o755)

    def _own_environment(self, programs: Path) -> dict[str, str]:
        place = self.directory
        return {
            "PATH": f"{place / 'bin'}:{programs}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(place / "home"),
            "TMPDIR": str(place / "tmp"),
            "KUBECONFIG": str(self._kubeconfig),
            "ARGOCD_FAKE_IN_CLUSTER": "true",  # https://kubernetes.default.svc is the kubeconfig's cluster
            "ARGOCD_GPG_ENABLED": "false",
            "ARGOCD_GNUPGHOME": str(place / "gpg" / "keys"),
            "ARGOCD_GPG_DATA_PATH": str(place / "gpg"),
            "ARGOCD_TLS_DATA_PATH": str(place / "tls"),
            "ARGOCD_SSH_DATA_PATH": str(place / "ssh"),
            "ARGOCD_PLUGINSOCKFILEPATH": str(place / "plugins"),
        }

    def _options(self) -> dict[str, list[str]]:
        redis = f"{ports.LOOPBACK}:{self.ports.redis}"
        repository = f"{ports.LOOPBACK}:{self.ports.repository}"
        cluster = ["--repo-server", repository, "--repo-server-plaintext", "--namespace", NAMESPACE, "--kubeconfig", str(self._kubeconfig)]

        def listening(port: int, metrics: int) -> list[str]:
            return ["--address", ports.LOOPBACK, "--port", str(port), "--metrics-address", ports.LOOPBACK, "--metrics-port", str(metrics)]

        repository_metrics, server_metrics, controller_metrics = self.ports.metrics
        shared = ["--redis", redis, "--logformat", "text"]
        return {
            "redis": [redis],
            # The repository server refuses to start without TLS as long as it is given clients' authority.
            "argocd-repo-server": [
                *listening(self.ports.repository, repository_metrics),
                *shared,
                "--disable-tls",
                "--client-ca-path=",
            ],
            "argocd-server": [*listening(self.ports.server, server_metrics), *shared, "--insecure", *cluster],
            "argocd-application-controller": ["--metrics-port", str(controller_metrics), *shared, *cluster],
        }

    def _process(self, name: str, options: list[str]) -> processes.ServerProcess:
        return processes.ServerProcess(
            name,
            [self.directory / "bin" / name, *options],
            log=self.directory / "logs" / f"{name}.log",
            environment=self._environment,
            directory=self.directory,
        )
