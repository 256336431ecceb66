"""The fork server of a worker: `python -m deployments.worker.fork_server DESCRIPTOR KIND`. Imports Prefect and the flows once, then forks a process per run.

A program of its own, with one thread and no connection but the socket to its worker: a fork copies the forking thread alone, with every lock and
connection in the state it is in, so the worker itself (event loop, websockets, HTTP pool) must never be the one that forks. Requests and answers are
lines of JSON. A run's process leaves by the interpreter's normal end, which sends what is left of logs and events.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
from typing import Any
from uuid import UUID

from deployments.worker import catalogue, run

PRELOADED = (
    "prefect.artifacts",
    "prefect.concurrency.sync",
    "prefect.deployments",
    "prefect.events.clients",
    "prefect.logging.handlers",
    "prefect.runtime.flow_run",
    "prefect.task_engine",
    "prefect.task_runners",
)
"""What every run imports sooner or later, beside the flows themselves."""

CHUNK = 65536


class _Server:
    """The loop of the fork server's own process."""

    def __init__(self, worker: socket.socket) -> None:
        self._worker = worker
        self._children: dict[int, str] = {}
        self._buffer = b""
        self._open = True

    def serve(self) -> dict[str, Any] | None:
        """Returns a request in the process of a run; None in the server itself once its worker is gone and its last child has ended.

        Raises RuntimeError where a fork would copy threads.
        """
        wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM):  # its worker decides when it is over, and a terminal's Ctrl-C must not be quicker
            signal.signal(number, signal.SIG_IGN)
        selector = selectors.DefaultSelector()
        selector.register(self._worker, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while self._open or self._children:
            for key, _ in selector.select():
                if key.fd == wake:
                    os.read(wake, CHUNK)
                    continue
                for request in self._requests(selector):
                    if not self._forked(request):
                        selector.close()
                        self._worker.close()
                        os.close(wake)
                        os.close(woken)
                        return request
            self._reap()
        return None

    def _requests(self, selector: selectors.BaseSelector) -> list[dict[str, Any]]:
        data = self._worker.recv(CHUNK)
        if not data:  # the worker is gone, or has another fork server: runs under way end by themselves
            selector.unregister(self._worker)
            self._open = False
            return []
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def _forked(self, request: dict[str, Any]) -> bool:
        """Forks; tells whether this is still the server."""
        if threading.active_count() != 1:
            raise RuntimeError(f"threads would be lost in a fork: {threading.enumerate()}")
        pid = os.fork()
        if pid == 0:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            return False
        self._children[pid] = request["run"]
        self._tell(run=request["run"], pid=pid)
        return True

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._tell(run=self._children.pop(pid, ""), code=os.waitstatus_to_exitcode(status))

    def _tell(self, **message: Any) -> None:
        try:
            self._worker.sendall(json.dumps(message).encode() + b"\n")
        except OSError:  # the worker was killed
            pass


def main(words: list[str]) -> None:
    """Imports the flows, says so, serves; in a run's process runs its flow."""
    worker = socket.socket(fileno=int(words[0]))
    os.set_inheritable(worker.fileno(), False)
    for name in PRELOADED:
        importlib.import_module(name)
    flows = {name: entry.load() for name, entry in catalogue.of(catalogue.Kind(words[1])).items()}
    for flow in flows.values():
        flow.parameters  # noqa: B018 - computed once, here
    gc.collect()
    gc.freeze()  # the collector of a child would otherwise write to, and so copy, every page
    worker.sendall(b'{"ready": true}\n')
    request = _Server(worker).serve()
    if request is None:
        return
    os.environ.update(request["variables"])
    name, run_id, environment, pool, own = request["words"]
    sys.argv = [name, run_id]
    run.attempt(
        flows[name], UUID(run_id), environment, pool, own
    )  # at the outermost frame: threads are joined and atexit runs as in any process


if __name__ == "__main__":
    main(sys.argv[1:])
