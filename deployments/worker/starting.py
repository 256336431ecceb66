"""Processes of runs: each a new interpreter in a session of its own, with the worker's environment."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

MODULE = "deployments.worker.run"
"""What a run's process begins with."""


class Child:
    """A run's process. Signals reach it only until its end was seen: a pid that the server names, or that is used again, is never killed."""

    wait_after_graceful_kill = True

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pardoned = False
        self._code: int | None = None
        self._ended = asyncio.Event()

    @property
    def returncode(self) -> int | None:
        """Returns the exit code; 0 for one that was pardoned: its end was meant, and is no crash."""
        return 0 if self.pardoned and self._code is not None else self._code

    def ended(self, code: int) -> None:
        """Notes the process's end."""
        self._code = code
        self._ended.set()

    async def wait(self) -> None:
        """Returns once the process has ended."""
        await self._ended.wait()

    def is_alive(self, pid: int) -> bool:
        """Tells whether it runs."""
        return self._code is None

    def graceful_kill(self, pid: int) -> None:
        """Sends SIGTERM."""
        if self._code is None:
            os.kill(self.pid, signal.SIGTERM)

    def hard_kill(self, pid: int) -> None:
        """Kills it with everything that it started."""
        if self._code is None:
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Does nothing: there is nothing to give back."""


class Starter(Protocol):
    """Starts runs' processes: as new interpreters, or as forks."""

    async def prepare(self) -> None: ...

    async def start(self, words: tuple[str, ...], variables: Mapping[str, str]) -> Child: ...

    async def close(self) -> None: ...


class Subprocesses:
    """A new interpreter for each run.

    Args:
        home: the checkout, where they start.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._waiting: set[asyncio.Task[None]] = set()

    async def prepare(self) -> None:
        """Does nothing: each begins from nothing."""

    async def start(self, words: tuple[str, ...], variables: Mapping[str, str]) -> Child:
        """Starts a process; its end is seen whatever becomes of the caller.

        Args:
            words: what `deployments.worker.run` takes.
            variables: beside the worker's own.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            MODULE,
            *words,
            cwd=self._home,
            env={**os.environ, **variables},
            start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL,
        )
        child = Child(process.pid)

        async def reap() -> None:
            child.ended(await process.wait())

        task = asyncio.create_task(reap())
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        return child

    async def close(self) -> None:
        """Does nothing: the processes end with their runs."""
