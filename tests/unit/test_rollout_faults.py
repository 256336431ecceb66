"""Twenty services awaited at once, over HTTP, at an API server that throttles, fails, compacts, hangs and hangs up (a fake: a real one won't on
demand)."""

from __future__ import annotations

import http.server
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from migrator import errors
from tasks import fleet, rollout
from tasks.fleet.models import Target, Workload
from tasks.kubernetes import api as kubernetes_api
from tasks.outcomes import RolloutState
from tasks.settings import Settings
from tests.unit.rollout_objects import NEW, OLD, deployment, pod, replica_set
from tests.unit.test_kubernetes_api import kubeconfig

SERVICES = 20
HANG_SECONDS = 1.0
FAULTS = ("429", "500", "502", "503", "504", "410", "hang", "hang up", "no JSON")
READS_BEFORE_MOVE = 3


class FaultyApiServer(http.server.ThreadingHTTPServer):
    """Answers a third of the requests with one of the faults, in turn. Each Deployment moves to the new image when it has been read a few times."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.served: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()
        self._chance = random.Random(5)
        self._faults = itertools.cycle(FAULTS)
        self._guard = threading.Lock()

    def fault(self) -> str:
        """The next request's fault; empty for a good answer."""
        with self._guard:
            if self._chance.random() > 1 / 3:
                return ""
            fault = next(self._faults)
            self.served[fault] += 1
            return fault

    def document(self, path: str) -> dict[str, Any]:
        """The answer to a good request."""
        if "/deployments/" in path:
            with self._guard:
                self.reads[path] += 1
                moved = self.reads[path] > READS_BEFORE_MOVE
            return deployment(image=NEW if moved else OLD, generation=2 if moved else 1)
        if "/replicasets" in path:
            return {"items": [replica_set("rs1", 1), replica_set("rs2", 2)]}
        return {"items": [pod("new")]}


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FaultyApiServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        fault = self.server.fault()
        if fault == "hang up":
            self.close_connection = True
            return
        if fault == "hang":
            time.sleep(HANG_SECONDS)
            self.close_connection = True
            return
        status, body = 200, json.dumps({"kind": "Status", "message": fault}).encode()
        if fault == "no JSON":
            body = b"<html>an impatient proxy</html>"
        elif fault:
            status = int(fault)
        else:
            body = json.dumps(self.server.document(self.path)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 429:
            self.send_header("Retry-After", "3600")  # nobody waits an hour for a look
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyApiServer]:
    with FaultyApiServer() as found:
        kubeconfig(tmp_path, monkeypatch, found.server_address[1])
        monkeypatch.setitem(kubernetes_api._RAW, "_request_timeout", (HANG_SECONDS, HANG_SECONDS / 4))
        threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True).start()
        yield found
        found.shutdown()


def named(number: int) -> Target:
    target = fleet.load().target("auth-service", "dev")
    return target.model_copy(update={"workload": Workload(name=f"service-{number}"), "kube_context": "dev"})


def test_twenty_services_at_once_ride_out_every_fault_of_the_api_server(server: FaultyApiServer) -> None:
    settings = Settings(rollout_timeout_seconds=120, rollout_poll_seconds=0.01)

    def awaited(number: int) -> RolloutState:
        return rollout.await_health(named(number), image=NEW, settings=settings).state

    with ThreadPoolExecutor(SERVICES) as pool:
        assert list(pool.map(awaited, range(SERVICES))) == [RolloutState.HEALTHY] * SERVICES
    assert set(server.served) == set(FAULTS)
    assert len(server.reads) == SERVICES and min(server.reads.values()) > READS_BEFORE_MOVE


def test_the_look_before_the_run_rides_them_out_too(server: FaultyApiServer) -> None:
    settings = Settings(rollout_poll_seconds=0.01)
    for number in range(4 * len(FAULTS)):
        found = rollout.observe(named(number), settings)
        assert found is not None and found.uid == "d1"
    assert set(server.served) == set(FAULTS)


def test_bad_flow_when_the_time_is_up_the_fault_itself_is_reported(server: FaultyApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "fault", lambda: "503")
    with pytest.raises(errors.Unavailable) as caught:
        rollout.await_health(named(1), image=NEW, settings=Settings(rollout_timeout_seconds=0.2, rollout_poll_seconds=0.01))
    assert caught.value.code == "kube-unavailable"
