"""Containers as processes of this machine: started through `supervisor`, signalled, waited for."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox.cluster import supervisor


class StartFailed(Exception):
    """The program could not be started: it does not exist, or may not be executed."""


class Process:
    """A running container.

    Args:
        description: see `descriptions.describe`.
        ended: called once with this process and its exit code, in a thread of its own.

    Raises:
        StartFailed: the program could not be started.
    """

    def __init__(self, description: Mapping[str, Any], ended: Callable[[Process, int], None]) -> None:
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", supervisor.__file__],
            stdin=subprocess.PIPE,  # stays open: its end tells the supervisor that this process is gone
            stdout=subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", os.defpath)},
            start_new_session=True,
        )
        assert self._supervisor.stdin is not None and self._supervisor.stdout is not None
        self._supervisor.stdin.write(json.dumps(description).encode() + b"\n")
        self._supervisor.stdin.flush()
        answer = json.loads(self._supervisor.stdout.readline() or b'{"error": "the container could not be made"}')
        if "error" in answer:
            self._supervisor.wait()
            self._close()
            raise StartFailed(str(answer["error"]))
        self.pid = int(answer["pid"])
        self._timers: list[threading.Timer] = []
        threading.Thread(target=self._wait, args=(ended,), name=f"container-{self.pid}", daemon=True).start()

    @property
    def running(self) -> bool:
        """Tells whether the container's process 1 is alive."""
        return self._supervisor.poll() is None

    def terminate(self, grace_seconds: float) -> None:
        """Sends SIGTERM now, and SIGKILL once the grace is over. As in a real container, process 1 gets only signals that it handles."""
        self._signal(signal.SIGTERM)
        timer = threading.Timer(max(grace_seconds, 0), self.kill)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def kill(self) -> None:
        """Sends SIGKILL to everything that runs in the container."""
        self._signal(signal.SIGKILL)

    def execute(self, command: Sequence[str], environment: Mapping[str, str], user: int, seconds: float) -> bool:
        """Runs a command inside the container, and tells whether it ended with 0 within the given seconds."""
        try:
            done = subprocess.run(
                [*self._enter(user), *command],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
                check=False,
            )
        except (subprocess.TimeoutExpired, OSError):
            return False
        return done.returncode == 0

    def open(self, command: Sequence[str], environment: Mapping[str, str], user: int) -> subprocess.Popen[bytes]:
        """Starts a command inside the container, with three pipes."""
        pipe = subprocess.PIPE
        return subprocess.Popen([*self._enter(user), *command], env=dict(environment), stdin=pipe, stdout=pipe, stderr=pipe)

    def _enter(self, user: int) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--pid", "--root", "--wd", f"--setuid={user}"]

    def _signal(self, number: signal.Signals) -> None:
        # The pid belongs to the container until its supervisor, which alone reaps it, has ended.
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _wait(self, ended: Callable[[Process, int], None]) -> None:
        code = self._supervisor.wait()
        for timer in self._timers:
            timer.cancel()
        self._close()
        ended(self, code if code >= 0 else 128 - code)

    def _close(self) -> None:
        for pipe in (self._supervisor.stdin, self._supervisor.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def remove_scratch(scratch: Path) -> None:
    """Removes the directory of a container's root; the root itself was mounted in the container's namespace and is gone with it."""
    with contextlib.suppress(OSError):
        scratch.rmdir()
