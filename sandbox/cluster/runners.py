"""One container of a pod through its starts, probes, ends and restarts.

Everything here runs in the pod's thread: other threads pass on what they notice (an end, a probe's verdict) with `Owner.post`.
"""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from sandbox.cluster import containers, descriptions, environment, logs, probes, statuses, supervisor
from sandbox.cluster.api import Api, Object
from sandbox.cluster.images import Image, Registry
from sandbox.cluster.volumes import Volume

_RETRY_SECONDS = 1.0  # between checks for a missing image, ConfigMap or Secret; the kubelet takes longer, but tests should not
_LONGEST_BACKOFF_SECONDS = 300.0
_STEADY_SECONDS = 600.0  # a container that ran for so long starts with the first backoff again
_MESSAGE_BYTES = 4096  # a termination message's limit
_DEFAULT_GRACE_SECONDS = 30
# Without a probe a container is ready once the kubelet has noticed that it runs. The kubelet checks once a second, so that a program which fails
# at once is never ready; otherwise a Deployment would count it as available.
_NO_READINESS_PROBE = {"initialDelaySeconds": 0.5, "periodSeconds": 86_400}


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """The state that all pods of a node share.

    Attributes:
        name: the Node's.
        images: the images that can be started.
        directory: holds every pod's files.
        hidden: directories of the host that are empty in containers.
        restart_backoff_seconds: the delay before the second restart of a container, doubled after that (10 s on a real node).
    """

    name: str
    api: Api
    images: Registry
    directory: Path
    hidden: tuple[str, ...]
    restart_backoff_seconds: float


class Owner(Protocol):
    """The pod, as its containers see it."""

    node: Node
    object: Object
    address: str
    directory: Path
    ending: bool

    def post(self, act: Callable[[], None]) -> None: ...

    def lookup(self, kind: str, name: str, optional: bool) -> Mapping[str, bytes]: ...

    def event(self, kind: str, reason: str, message: str) -> None: ...


class ContainerRunner:
    """Starts a container, probes it, notices its ends, and restarts it.

    Args:
        pod: its owner.
        container: its entry in the manifest.
        init: an init container: it is restarted only if it failed.
    """

    def __init__(self, pod: Owner, container: Object, *, init: bool) -> None:
        self.container = container
        self.name: str = container["name"]
        self.init = init
        self.over = False  # it has ended for good
        self.due: float | None = None  # when to start it (monotonic)
        self.ready = self.started = False
        self.restarts = 0
        self.state = statuses.waiting("PodInitializing" if pod.object["spec"].get("initContainers") else "ContainerCreating")
        self.last_state: Object = {}
        self.process: containers.Process | None = None
        self._pod = pod
        self._image: Image | None = None
        self._environment: dict[str, str] = {}
        self._user = 0
        self._termination = Path()
        self._probers: list[probes.Prober] = []
        self._since = ""
        self._began = 0.0
        self._backoffs = 0

    @property
    def status(self) -> Object:
        """Returns its entry in the pod's status."""
        found = {
            "name": self.name,
            "image": self.container["image"],
            "imageID": self._image.identity if self._image is not None else "",
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last_state,
        }
        return found | ({"containerID": self._identity(self.process.pid)} if self.process is not None else {})

    @property
    def code(self) -> int | None:
        """Returns the exit code it ended with."""
        return statuses.exit_code(self.state)

    def log(self, number: int) -> Path:
        """Returns the file with the output of a start: 0 for the first."""
        return logs.place(self._pod.directory, self.name, number)

    def open(self, command: Sequence[str]) -> subprocess.Popen[bytes] | None:
        """Starts a command beside its process 1, with its variables and its user; None while it doesn't run."""
        process = self.process
        return process.open(command, self._environment, self._user) if process is not None and process.running else None

    def try_start(self, volumes: Mapping[str, Volume]) -> None:
        """Starts it if its image, variables and volumes are there; else sets `due` to the next try."""
        self.due = None
        image = self._pod.node.images.find(self.container["image"])
        if image is None:
            self._image_missing()
            return
        self._image = image
        try:
            description = self._describe(image, volumes)
        except environment.NotConfigured as problem:
            self._wait_for("CreateContainerConfigError", str(problem), "Failed", f"Error: {problem}")
            return
        self._since, self._began = statuses.now(), time.monotonic()
        try:
            self.process = containers.Process(description, self._ended_elsewhere)
        except containers.StartFailed as problem:
            self._pod.event("Warning", "Failed", f"Error: failed to start container {self.name}: {problem}")
            self._finish(supervisor.START_FAILED, reason="StartError", message=f"failed to start container: {problem}")
            return
        self.state = statuses.running(self._since)
        self._pod.event("Normal", "Started", f"Container started: {self.name}")
        self._begin_probes()

    def terminate(self, grace_seconds: float) -> None:
        """Sends SIGTERM now, and SIGKILL when the grace is over; `post` reports its end."""
        self.due = None
        for prober in self._probers:
            prober.end()
        if self.process is not None:
            self.process.terminate(grace_seconds)

    def kill(self) -> None:
        """Ends it at once."""
        self.due = None
        if self.process is not None:
            self.process.kill()

    def _describe(self, image: Image, volumes: Mapping[str, Volume]) -> Object:
        pod, node = self._pod, self._pod.node
        given = descriptions.defaults(pod.object, image, node.api.host, node.api.port)
        variables = environment.resolve(pod.object, self.container, given, pod.lookup)
        files = pod.directory / "containers" / f"{self.name}-{self.restarts}"
        host_files = descriptions.HostFiles(files / "root", self.log(self.restarts), files / "termination-log", node.hidden)
        description = descriptions.describe(pod.object, self.container, image, variables, volumes, host_files)
        host_files.scratch.mkdir(parents=True, exist_ok=True)
        host_files.log.parent.mkdir(parents=True, exist_ok=True)
        host_files.termination.touch()
        host_files.termination.chmod(0o666)  # any user of the container may write its termination message
        self._environment, self._user, self._termination = variables, description["user"], host_files.termination
        return description

    def _image_missing(self) -> None:
        image = self.container["image"]
        problem = f'failed to pull and unpack image "{image}": {image}: not found'
        if self.state.get("waiting", {}).get("reason") in ("ErrImagePull", "ImagePullBackOff"):
            self._wait_for("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {problem}', "BackOff", problem)
        else:
            self._wait_for("ErrImagePull", problem, "Failed", f'Failed to pull image "{image}": {problem}')

    def _wait_for(self, reason: str, message: str, event: str, told: str) -> None:
        if self.state.get("waiting", {}).get("reason") != reason:
            self._pod.event("Warning", event, told)
        self.state = statuses.waiting(reason, message)
        self.due = time.monotonic() + _RETRY_SECONDS

    def _begin_probes(self) -> None:
        self._probers = []
        if self.init:
            self.started = True  # and ready when it has passed
        elif self.container.get("startupProbe"):
            self.started = self.ready = False
            self._probe(self.container["startupProbe"], self._startup_verdict)
        else:
            self._started_up()

    def _started_up(self) -> None:
        self.started = True
        self._probe(self.container.get("readinessProbe") or _NO_READINESS_PROBE, self._readiness_verdict)
        if self.container.get("livenessProbe"):
            self._probe(self.container["livenessProbe"], functools.partial(self._must_pass, "Liveness"))

    def _probe(self, probe: Object, verdict: Callable[[bool], None]) -> None:
        process = self.process
        if process is None:
            return

        def execute(command: list[str], seconds: float) -> bool:
            return process.execute(command, self._environment, self._user, seconds)

        def tell(passed: bool) -> None:
            self._pod.post(lambda: verdict(passed) if self.process is process else None)

        endpoint = probes.Endpoint(self._pod.address, probes.named_ports(self.container), execute)
        prober = probes.Prober(probe, lambda: probes.passes(probe, endpoint), tell)
        self._probers.append(prober)
        prober.start()

    def _startup_verdict(self, passed: bool) -> None:
        for prober in self._probers:
            prober.end()
        if passed:
            self._started_up()
        else:
            self._must_pass("Startup", passed)

    def _readiness_verdict(self, passed: bool) -> None:
        self.ready = passed
        if not passed:
            self._pod.event("Warning", "Unhealthy", f"Readiness probe of {self.name} failed")

    def _must_pass(self, kind: str, passed: bool) -> None:
        if not passed:
            self._pod.event("Warning", "Unhealthy", f"{kind} probe of {self.name} failed")
            self._pod.event("Normal", "Killing", f"Container {self.name} failed {kind.lower()} probe, will be restarted")
            self.terminate(self._pod.object["spec"].get("terminationGracePeriodSeconds", _DEFAULT_GRACE_SECONDS))

    def _ended_elsewhere(self, process: containers.Process, code: int) -> None:
        self._pod.post(lambda: self._ended(process, code))

    def _ended(self, process: containers.Process, code: int) -> None:
        if self.process is process:
            self._finish(code, identity=self._identity(process.pid))

    def _finish(self, code: int, *, reason: str = "", message: str = "", identity: str = "") -> None:
        for prober in self._probers:
            prober.end()
        containers.remove_scratch(self._termination.with_name("root"))
        self.process = None
        self.ready, self.started = self.init and code == 0, False
        message = message or self._last_words(code)
        self.state = statuses.terminated(code, since=self._since, message=message, reason=reason, identity=identity)
        if self._pod.ending or not self._restarts_after(code):
            self.over = True
        else:
            self._back_off()

    def _restarts_after(self, code: int) -> bool:
        policy = self._pod.object["spec"].get("restartPolicy", "Always")
        return policy != "Never" if code != 0 else policy == "Always" and not self.init

    def _back_off(self) -> None:
        """Schedules a restart: the first at once, then after the node's delay, doubled each time, as a kubelet does."""
        if time.monotonic() - self._began > _STEADY_SECONDS:
            self._backoffs = 0
        first = self._pod.node.restart_backoff_seconds
        delay = 0.0 if self._backoffs == 0 else min(first * 2 ** (self._backoffs - 1), _LONGEST_BACKOFF_SECONDS)
        self._backoffs += 1
        self.last_state = self.state
        self.restarts += 1
        self.due = time.monotonic() + delay
        if delay:
            told = f"back-off {delay:.0f}s restarting failed container={self.name} pod={self._pod.object['metadata']['name']}"
            self.state = statuses.waiting("CrashLoopBackOff", told)
            self._pod.event("Warning", "BackOff", f"Back-off restarting failed container {self.name}")

    def _last_words(self, code: int) -> str:
        """Returns the container's termination log or, if the manifest says so and it failed, the end of its output."""
        text = self._termination.read_bytes()[:_MESSAGE_BYTES]
        if not text and code != 0 and self.container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            text = logs.last_words(self.log(self.restarts))
        return text.decode(errors="replace")

    @staticmethod
    def _identity(pid: int) -> str:
        return f"process://{pid}"
