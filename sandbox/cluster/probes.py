"""Startup, readiness and liveness probes: exec, HTTP and TCP, each in a thread of its own beside its container."""

from __future__ import annotations

import dataclasses
import http.client
import threading
from collections.abc import Callable, Mapping
from typing import Any

from sandbox import ports
from sandbox.cluster.api import Object


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """The target of a container's probes.

    Attributes:
        address: the pod's IP.
        named_ports: those in the container's manifest.
        execute: runs a command in the container within the given seconds, and tells whether it ended with 0.
    """

    address: str
    named_ports: Mapping[str, int]
    execute: Callable[[list[str], float], bool]


def named_ports(container: Object) -> dict[str, int]:
    """Returns a container's named ports."""
    return {port["name"]: port["containerPort"] for port in container.get("ports") or [] if "name" in port}


def passes(probe: Object, endpoint: Endpoint) -> bool:
    """Tries a probe once, and tells whether it passed."""
    seconds = float(probe.get("timeoutSeconds", 1))
    if "exec" in probe:
        return endpoint.execute(probe["exec"]["command"], seconds)
    if "httpGet" in probe:
        return _http(probe["httpGet"], endpoint, seconds)
    if "tcpSocket" in probe:
        return ports.accepts_connections(_port(probe["tcpSocket"]["port"], endpoint), seconds, endpoint.address)
    return True


def _http(get: Object, endpoint: Endpoint, seconds: float) -> bool:
    connection = http.client.HTTPConnection(endpoint.address, _port(get["port"], endpoint), timeout=seconds)
    try:
        connection.request("GET", get.get("path") or "/")
        return 200 <= connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _port(port: Any, endpoint: Endpoint) -> int:
    return port if isinstance(port, int) else endpoint.named_ports.get(port, 0)


class Prober(threading.Thread):
    """Repeats a probe and reports each change of its verdict, by its thresholds.

    Args:
        probe: the manifest's.
        once: tries the probe once.
        verdict: called with True or False; never with the same twice in a row.
    """

    def __init__(self, probe: Object, once: Callable[[], bool], verdict: Callable[[bool], None]) -> None:
        super().__init__(name="prober", daemon=True)
        self._probe, self._once, self._verdict = probe, once, verdict
        self._over = threading.Event()

    def end(self) -> None:
        """Stops the tries."""
        self._over.set()

    def run(self) -> None:
        """Tries until `end`."""
        needed = {True: self._probe.get("successThreshold", 1), False: self._probe.get("failureThreshold", 3)}
        told: bool | None = None
        last, times = None, 0
        wait = float(self._probe.get("initialDelaySeconds", 0))
        while not self._over.wait(wait):
            wait = float(self._probe.get("periodSeconds", 10))
            passed = self._once()
            last, times = passed, times + 1 if passed is last else 1
            if passed is not told and times >= needed[passed] and not self._over.is_set():
                told = passed
                self._verdict(passed)
