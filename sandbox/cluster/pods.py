"""One pod of the node: its volumes, its init containers in order, its containers, its status, its end.

Each pod is a thread that sleeps until something happens: a container ends, a probe's verdict changes, the API server reports a change,
or a time is due. Other threads pass the work that follows to the pod (`post`), and only the pod's own thread does it.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import queue
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from migrator import errors
from sandbox.cluster import environment, statuses, volumes
from sandbox.cluster.api import ApiRefused, Object
from sandbox.cluster.runners import ContainerRunner, Node

_RETRY_SECONDS = 1.0
_DEFAULT_GRACE_SECONDS = 30
# The node authorizer learns about a new pod's references a moment later than the kubelet does.
_AUTHORIZER_TRIES, _AUTHORIZER_SECONDS = 5, 0.2


class _Ending(Exception):
    """Raised when the pod is to end: it was deleted, evicted, or over its deadline."""


class Pod(threading.Thread):
    """A pod that was bound to this node.

    Args:
        found: the object.
        node: shared by all pods.
        address: the pod's own, of 127.0.0.0/8.
    """

    def __init__(self, found: Object, node: Node, address: str) -> None:
        super().__init__(name=f"pod-{found['metadata']['name']}", daemon=True)
        self.node = node
        self.address = address
        self.ending = False
        self.uid: str = found["metadata"]["uid"]
        self.key: tuple[str, str] = (found["metadata"]["namespace"], found["metadata"]["name"])
        self.directory = node.directory / self.uid
        self._before: Object = found.get("status") or {}
        self._start_time = self._before.get("startTime") or statuses.now()
        self.object = _with_address(found, address)
        spec = found["spec"]
        self._init_runners = [ContainerRunner(self, container, init=True) for container in spec.get("initContainers") or []]
        self._main_runners = [ContainerRunner(self, container, init=False) for container in spec["containers"]]
        self._volumes: dict[str, volumes.Volume] | None = None
        self._phase = statuses.PENDING
        self._reason = self._message = ""
        self._gone = False
        self._reported = ""
        self._conditions: Sequence[Object] = self._before.get("conditions") or []
        self._acts: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    @property
    def runners(self) -> list[ContainerRunner]:
        """Returns all containers, init containers first."""
        return self._init_runners + self._main_runners

    def find(self, container: str) -> ContainerRunner | None:
        """Returns the container of this name."""
        return next((runner for runner in self.runners if runner.name == container), None)

    def post(self, act: Callable[[], None]) -> None:
        """Queues work for the pod's thread."""
        self._acts.put(act)

    def update(self, found: Object) -> None:
        """Takes a newer version of the object from the API server."""
        self.post(lambda: self._updated(found))

    def removed(self) -> None:
        """Ends the whole pod, because its object is gone from the API server."""
        self.post(self._removed)

    def kill(self) -> None:
        """Kills every container at once, from any thread, because the node stops."""
        for runner in self.runners:
            runner.kill()

    def lookup(self, kind: str, name: str, optional: bool) -> Mapping[str, bytes]:
        """Returns the data of a ConfigMap or Secret of the pod's namespace (environment.Lookup)."""
        path = f"/api/v1/namespaces/{self.key[0]}/{kind}s/{name}"
        for _ in range(_AUTHORIZER_TRIES):
            try:
                return environment.data_of(kind, self.node.api.get(path))
            except ApiRefused as refused:
                if refused.status == 404:
                    break
                if refused.status != 403:
                    raise
                time.sleep(_AUTHORIZER_SECONDS)
        if optional:
            return {}
        raise environment.NotConfigured(f'{kind} "{name}" not found')

    def event(self, kind: str, reason: str, message: str) -> None:
        """Creates an Event about the pod, for `kubectl describe` and `kubectl get events`."""
        namespace, name = self.key
        about = {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": self.uid}
        body = {
            "metadata": {"generateName": f"{name[:200]}.", "namespace": namespace},
            "involvedObject": about,
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": "kubelet", "host": self.node.name},
            "firstTimestamp": statuses.now(),
            "lastTimestamp": statuses.now(),
            "count": 1,
        }
        with contextlib.suppress(errors.GreylagError):  # a namespace that is being deleted accepts no events
            self.node.api.create(f"/api/v1/namespaces/{namespace}/events", body)

    def run(self) -> None:
        """Runs the pod's whole life."""
        try:
            self._live()
        except _Ending:
            pass
        except Exception:  # noqa: BLE001 - the node must go on, and the pod must say what happened
            traceback.print_exc()
            self._reason, self._message = "KubeletError", traceback.format_exc(limit=-2)[-1000:]
        self._end()
        self._await_deletion()
        self._delete()

    def _live(self) -> None:
        if self._before.get("phase") in statuses.OVER:
            self._phase = self._before["phase"]
            self._reported = "before"  # its status was reported before this node was restarted
            return
        if self._before.get("phase") == statuses.RUNNING and self.object["spec"].get("restartPolicy") != "Always":
            self._reason, self._message = "NodeRestarted", "the node was restarted while the pod ran"
            return
        self._report()
        self._prepare_volumes()
        for runner in self._init_runners:
            self._serve([runner])
            if runner.code != 0:
                return
        self._serve(self._main_runners)

    def _prepare_volumes(self) -> None:
        sources = volumes.Sources(self.lookup, self._token)
        told = ""
        while True:
            try:
                self._volumes = volumes.prepare(self.object, self.directory / "volumes", sources)
                return
            except environment.NotConfigured as problem:
                if str(problem) != told:
                    told = str(problem)
                    self.event("Warning", "FailedMount", f"MountVolume.SetUp failed: {told}")
            self._wait(_RETRY_SECONDS)

    def _token(self, source: Mapping[str, Any]) -> str:
        path = f"/api/v1/namespaces/{self.key[0]}/serviceaccounts/{self.object['spec']['serviceAccountName']}/token"
        try:
            return str(self.node.api.create(path, volumes.token_request(self.object, source))["status"]["token"])
        except ApiRefused as refused:
            raise environment.NotConfigured(f"failed to fetch token: {refused.message}") from None

    def _serve(self, runners: Sequence[ContainerRunner]) -> None:
        """Starts these containers and keeps them running until all have ended for good."""
        assert self._volumes is not None
        for runner in runners:
            runner.due = time.monotonic()
        while not all(runner.over for runner in runners):
            for runner in runners:
                if runner.due is not None and runner.due <= time.monotonic():
                    runner.try_start(self._volumes)
            self._report()
            due = [runner.due for runner in runners if runner.due is not None]
            self._wait(max(0.0, min(due) - time.monotonic()) if due else None)

    def _wait(self, seconds: float | None) -> None:
        """Does the next queued work, or returns after the given seconds.

        Raises:
            _Ending: the pod is to end.
        """
        limits = [limit for limit in (seconds, self._deadline_in()) if limit is not None]
        if not self._reported and not self._gone:
            limits.append(_RETRY_SECONDS)  # the API server did not accept the status: it is sent again
        try:
            act = self._acts.get(timeout=min(limits)) if limits else self._acts.get()
        except queue.Empty:
            if not self.ending and self._deadline_in() == 0:
                self._reason = "DeadlineExceeded"
                self._message = "Pod was active on the node longer than the specified deadline"
                raise _Ending from None
            return
        act()
        if not self.ending and (self._gone or self.object["metadata"].get("deletionTimestamp")):
            raise _Ending

    def _deadline_in(self) -> float | None:
        limit: int | None = self.object["spec"].get("activeDeadlineSeconds")
        if limit is None or self.ending:
            return None
        began = datetime.datetime.fromisoformat(self._start_time)
        return max(0.0, limit - (datetime.datetime.now(datetime.UTC) - began).total_seconds())

    def _updated(self, found: Object) -> None:
        self.object = _with_address(found, self.address)

    def _removed(self) -> None:
        self._gone = True
        self.kill()

    def _end(self) -> None:
        """Ends the containers that still run within the grace period, and determines the phase."""
        self.ending = True
        grace = self.object["metadata"].get("deletionGracePeriodSeconds")
        if grace is None:
            grace = self.object["spec"].get("terminationGracePeriodSeconds", _DEFAULT_GRACE_SECONDS)
        if any(runner.process is not None for runner in self.runners):
            self.event("Normal", "Killing", "Stopping containers")
        for runner in self.runners:
            runner.terminate(0 if self._gone else grace)
        while any(runner.process is not None for runner in self.runners):
            self._wait(None)
        if self._phase not in statuses.OVER:
            if self._initialised or self._before.get("phase") == statuses.RUNNING:
                self._settle_unseen()
            self._phase = statuses.FAILED if self._reason else statuses.final_phase([runner.code for runner in self.runners])
        self._report()

    def _settle_unseen(self) -> None:
        """Replaces the state of containers that still wait, which an ended pod can't have: by their last end, or by an unknown end."""
        for runner in self._main_runners:
            if "waiting" in runner.state:
                runner.state = runner.last_state or statuses.terminated(statuses.KILLED, since=None, reason="ContainerStatusUnknown")

    @property
    def _initialised(self) -> bool:
        return all(runner.over and runner.code == 0 for runner in self._init_runners)

    def _await_deletion(self) -> None:
        while not self._gone and not self.object["metadata"].get("deletionTimestamp"):
            self._wait(None)
            self._report()

    def _delete(self) -> None:
        if not self._gone:
            path = f"/api/v1/namespaces/{self.key[0]}/pods/{self.key[1]}"
            with contextlib.suppress(errors.GreylagError):  # gone already, or replaced by another of the same name
                self.node.api.delete(path, {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}})
        shutil.rmtree(self.directory, ignore_errors=True)

    def _current_phase(self) -> str:
        if self.ending or self._phase in statuses.OVER:
            return self._phase
        if all(runner.over for runner in self._main_runners):
            return statuses.final_phase([runner.code for runner in self._main_runners])
        begun = all("waiting" not in runner.state or runner.last_state for runner in self._main_runners)
        return statuses.RUNNING if begun else statuses.PENDING

    def _report(self) -> None:
        """Writes the status if it has changed; if that fails now, it is written later."""
        if self._gone or self._reported == "before":
            return
        self._phase = self._current_phase()
        self._conditions = statuses.conditions(
            self._phase,
            sandbox=self._volumes is not None,
            initialised=self._initialised,
            ready=all(runner.ready for runner in self._main_runners),
            before=self._conditions,
        )
        status = {
            "phase": self._phase,
            "reason": self._reason or None,
            "message": self._message or None,
            "hostIP": "127.0.0.1",
            "hostIPs": [{"ip": "127.0.0.1"}],
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "startTime": self._start_time,
            "observedGeneration": self.object["metadata"].get("generation"),
            "conditions": list(self._conditions),
            "initContainerStatuses": [runner.status for runner in self._init_runners],
            "containerStatuses": [runner.status for runner in self._main_runners],
        }
        text = json.dumps(status, sort_keys=True)
        if text == self._reported:
            return
        path = f"/api/v1/namespaces/{self.key[0]}/pods/{self.key[1]}/status"
        try:
            self.node.api.patch(path, {"metadata": {"uid": self.uid}, "status": status})
            self._reported = text
        except ApiRefused as refused:
            if refused.status in (404, 409):  # gone, or another pod of the same name: the status is no longer wanted
                self._reported = text
            else:
                print(f"status of {self.key}: {refused.message}", flush=True)
                self._reported = ""
        except errors.Unavailable:
            self._reported = ""


def _with_address(found: Object, address: str) -> Object:
    """Returns the pod with the status fields that the downward API reads."""
    own = {"podIP": address, "podIPs": [{"ip": address}], "hostIP": "127.0.0.1", "hostIPs": [{"ip": "127.0.0.1"}]}
    return found | {"status": (found.get("status") or {}) | own}
