"""Runs as forks: the worker's end of `fork_server`. A run begins in a process that has imported everything already."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployments.worker import starting
from deployments.worker.place import Place

MODULE = "deployments.worker.fork_server"

READY_SECONDS = 60.0
"""Seconds for importing Prefect and the flows: 2 on an idle machine."""

ORPHAN_SECONDS = 0.5
"""Seconds between two looks at a process whose fork server is gone: nobody can wait for it any more."""

SOURCES = ("migrator", "tasks", "flows", "deployments")
"""The parts of the checkout whose files a fork server has imported."""


class Gone(Exception):
    """There is no fork server: it did not start, or was killed."""


def fingerprint(place: Place) -> frozenset[tuple[str, int, int]]:
    """Returns what the imported files and fleet.yaml are now: name, size and time of change of each. Takes about 5 ms."""
    files = [place.fleet_file, *(file for part in SOURCES for file in (place.home / part).rglob("*.py"))]
    found = set()
    for file in files:
        try:
            told = file.stat()
        except OSError:
            continue
        found.add((str(file), told.st_size, told.st_mtime_ns))
    return frozenset(found)


class ForkServer:
    """One fork server with the children that it has forked."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.files = fingerprint(place)
        self._starting: dict[str, asyncio.Future[starting.Child]] = {}
        self._running: dict[str, starting.Child] = {}

    async def open(self) -> None:
        """Starts the program and returns once it has imported everything. Raises Gone."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                MODULE,
                str(theirs.fileno()),
                str(self._place.kind),
                pass_fds=[theirs.fileno()],
                cwd=self._place.home,
                env={**os.environ, **self._place.variables()},
                start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL,
            )
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        try:
            told = await asyncio.wait_for(self._reader.readline(), READY_SECONDS)
        except (TimeoutError, OSError):
            told = b""
        if b"ready" not in told:
            self._writer.close()
            raise Gone("the fork server did not start")
        self._pump = asyncio.create_task(self._read())
        self._orphans: set[asyncio.Task[None]] = set()

    @property
    def alive(self) -> bool:
        """Tells whether it can fork."""
        return not self._pump.done()

    async def fork(self, words: tuple[str, ...], variables: Mapping[str, str]) -> starting.Child:
        """Forks a run's process. Raises Gone where the server is gone."""
        run = words[1]
        future: asyncio.Future[starting.Child] = asyncio.get_running_loop().create_future()
        self._starting[run] = future
        try:
            self._writer.write(json.dumps({"run": run, "words": words, "variables": dict(variables)}).encode() + b"\n")
            await self._writer.drain()
        except OSError:
            self._starting.pop(run, None)
            raise Gone("the fork server has ended") from None
        return await future

    def retire(self) -> None:
        """Lets it end once its last child has; children under way are still followed."""
        if self.alive and self._writer.can_write_eof():
            self._writer.write_eof()

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                self._heard(json.loads(line))
        except OSError:
            pass
        for future in self._starting.values():
            future.set_exception(Gone("the fork server has ended"))
        self._starting.clear()
        for child in self._running.values():
            task = asyncio.create_task(_watched(child))
            self._orphans.add(task)
            task.add_done_callback(self._orphans.discard)
        self._writer.close()
        await self._process.wait()

    def _heard(self, told: dict[str, Any]) -> None:
        if "pid" in told:
            child = self._running[told["run"]] = starting.Child(told["pid"])
            self._starting.pop(told["run"]).set_result(child)
        elif ended := self._running.pop(told["run"], None):
            ended.ended(told["code"])


async def _watched(child: starting.Child) -> None:
    """Notes the end of a process that nobody can wait for. Its exit code is unknown: the run's state then decides."""
    while Path(f"/proc/{child.pid}").exists():
        await asyncio.sleep(ORPHAN_SECONDS)
    child.ended(0)


class Forks:
    """Starts runs by fork; as new interpreters where that can't be done, for example while fleet.yaml can't be read.

    A fork server that was killed is replaced, and so is one whose files have changed: a run begins with what is there when it begins.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._plain = starting.Subprocesses(place.home)
        self._server: ForkServer | None = None
        self._guard = asyncio.Lock()

    async def prepare(self) -> None:
        """Starts the fork server before the first run needs it."""
        try:
            await self._current()
        except Gone:
            pass  # the first run tries again, and says what is wrong

    async def start(self, words: tuple[str, ...], variables: Mapping[str, str]) -> starting.Child:
        """Starts a run's process; as `Subprocesses.start`."""
        for _ in range(2):  # the second time with a new fork server: the first was killed
            try:
                return await (await self._current()).fork(words, variables)
            except Gone:
                self._server = None
        return await self._plain.start(words, variables)

    async def close(self) -> None:
        """Lets the fork server end."""
        if self._server is not None:
            self._server.retire()

    async def _current(self) -> ForkServer:
        async with self._guard:
            now = await asyncio.to_thread(fingerprint, self._place)
            if self._server is not None and (not self._server.alive or self._server.files != now):
                self._server.retire()
                self._server = None
            if self._server is None:
                fresh = ForkServer(self._place)
                await fresh.open()
                self._server = fresh
            return self._server
