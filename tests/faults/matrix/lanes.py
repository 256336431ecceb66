"""One lane of the matrix: a server of its own, the link before it, a process that forks greylag's command; one interruption after another."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from migrator.targets import Engine
from sandbox.databases.clickhouse import ClickHouseServer
from sandbox.databases.postgres import PostgresServer
from tests.faults.matrix import snapshots, verdicts
from tests.faults.matrix.interruptions import FakeLink, Fault, Interruption, draw
from tests.faults.matrix.mix import PROJECT, FileSet

_LEASE = "2s"  # a dead run's lock is free this soon after; 15 s as shipped
_MOST_SECONDS = 90.0  # a run that lasts longer is killed and counted as it stands


@dataclass(frozen=True)
class Undisturbed:
    """What a run without interruption exchanges and leaves."""

    sent: int
    received: int
    left: snapshots.Snapshot


class Lane:
    """A context manager; `interrupt` does one interruption from a fresh database to its verdict."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine = engine
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o711)  # the embedded PostgreSQL runs as another user
        self._undisturbed: dict[str, Undisturbed] = {}
        self._numbers = itertools.count()
        self._log = directory / "run.log"

    def __enter__(self) -> Lane:
        self._stack = contextlib.ExitStack()
        where = self.directory / f"server-{os.getpid()}"
        if self.engine is Engine.POSTGRES:
            self.postgres = self._stack.enter_context(PostgresServer(where))
            port = self.postgres.port
        else:
            self.clickhouse = self._stack.enter_context(ClickHouseServer(where, query_log=True))
            port = self.clickhouse.http_port
        self.link = self._stack.enter_context(FakeLink(port))
        self._forking = self._stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "tests.faults.matrix.forking"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=PROJECT,
                env={name: value for name, value in os.environ.items() if not name.startswith(("GOOSE_", "GREYLAG_", "PG"))},
            )
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._forking.stdin
        self._forking.stdin.close()
        self._stack.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def drawn(self, number: int, files: FileSet, chooser: random.Random) -> verdicts.Ending:
        """Does one interruption that `chooser` draws."""
        usual = self.undisturbed(files)
        return self.interrupt(number, files, draw(chooser, usual.sent, usual.received))

    def interrupt(self, number: int, files: FileSet, planned: Interruption) -> verdicts.Ending:
        """Applies the files with one interruption, then again until it is done, asked, or plainly not to be had."""
        usual = self.undisturbed(files)
        with self._fresh(files) as (database, folder):
            self._log.unlink(missing_ok=True)
            exits = [self._run(folder, database, planned)]
            happened = self.link.happened
            while verdicts.goes_on(exits[-1], len(exits)):
                exits.append(self._run(folder, database, None))
            left = self._snapshot(database, files) if exits[-1] == 0 else ()
            said = self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
        same = left == usual.left
        ending = verdicts.Ending(
            number,
            files.kind,
            f"{planned.fault} after {planned.after} bytes {planned.way}, {planned.delay:.2f} s later",
            tuple(exits),
            happened,
            same,
            "Traceback" in said or "internal error" in said,
            bool(files.asks),
        )
        if ending.verdict is verdicts.Verdict.SETTLED:
            return ending
        differing = sorted(set(left) ^ set(usual.left))[:4] if exits[-1] == 0 else said[-600:]
        return verdicts.Ending(**{**ending.__dict__, "detail": str(differing)})

    def undisturbed(self, files: FileSet) -> Undisturbed:
        """Returns what a run of these files exchanges and leaves when nothing disturbs it; measured once."""
        key = files.kind
        if key not in self._undisturbed:
            with self._fresh(files) as (database, folder):
                self._log.unlink(missing_ok=True)
                code = self._run(folder, database, None, through_link=True)
                if code != 0:
                    raise RuntimeError(f"{files.kind}: an undisturbed run ends with {code}: {self._log.read_text()[-1500:]}")
                self._undisturbed[key] = Undisturbed(self.link.sent, self.link.received, self._snapshot(database, files))
        return self._undisturbed[key]

    @contextlib.contextmanager
    def _fresh(self, files: FileSet) -> Iterator[tuple[str, Path]]:
        database = f"kill_{next(self._numbers)}"
        folder = self.directory / database
        folder.mkdir()
        for name, text in files.files:
            (folder / name).write_text(text.replace("{db}", database), encoding="utf-8")
        server = self.postgres if self.engine is Engine.POSTGRES else self.clickhouse
        server.create_database(database)
        try:
            yield database, folder
        finally:
            self.link.arm(None)
            server.drop_database(database)
            shutil.rmtree(folder, ignore_errors=True)

    def _snapshot(self, database: str, files: FileSet) -> snapshots.Snapshot:
        if self.engine is Engine.POSTGRES:
            return snapshots.postgres(self.postgres.superuser_url(database), counts_only=files.counts_only)
        return snapshots.clickhouse(self.clickhouse, database, counts_only=files.counts_only)

    def _run(self, folder: Path, database: str, planned: Interruption | None, *, through_link: bool = False) -> int:
        """Runs `greylag up` once; returns its exit code, or the signal as a negative number."""
        assert self._forking.stdin and self._forking.stdout
        self.link.arm(None)
        if self.engine is Engine.POSTGRES:
            url, port, driver = self.postgres.superuser_url(database), self.postgres.port, "postgres"
            linked = url.replace(f":{port}/", f":{self.link.port}/")
        else:
            url, port, driver = f"{self.clickhouse.admin_url(database)}&greylag_lease={_LEASE}", self.clickhouse.http_port, "clickhouse"
            linked = url.replace(f"http_port={port}", f"http_port={self.link.port}")
        pids: list[int] = []
        struck: list[Fault] = []
        ended = threading.Event()
        if planned is not None:
            self.link.arm(planned, lambda fault: self._strike(fault, pids, struck, ended))
        address = linked if planned is not None or through_link else url
        request = {
            "arguments": ["-env", "none", "-dir", str(folder), driver, address, "up"],
            "log": str(self._log),
            "variables": {"CLICKHOUSE_DATABASE": database},
        }
        self._forking.stdin.write(json.dumps(request) + "\n")
        self._forking.stdin.flush()
        pids.append(int(json.loads(self._forking.stdout.readline())["pid"]))
        guard = time.monotonic() + _MOST_SECONDS
        status = self._await(pids[0], guard)
        if planned is not None:
            ended.set()
            self.link.await_strike()
            if Fault.SERVER in struck:
                self._start_server()
        return status

    def _await(self, pid: int, guard: float) -> int:
        assert self._forking.stdout
        while not select.select([self._forking.stdout], [], [], 1.0)[0]:
            if time.monotonic() > guard:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return int(json.loads(self._forking.stdout.readline())["status"])

    def _strike(self, fault: Fault, pids: list[int], struck: list[Fault], ended: threading.Event) -> None:
        struck.append(fault)
        if fault is Fault.SERVER:
            (self.postgres if self.engine is Engine.POSTGRES else self.clickhouse).crash()
            return
        if ended.is_set():  # the run was quicker than the interruption
            return
        until = time.monotonic() + 2
        while not pids and time.monotonic() < until:  # the child's number is on its way
            time.sleep(0.001)
        for pid in pids[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM if fault is Fault.TERMINATE else signal.SIGKILL)

    def _start_server(self) -> None:
        server = self.postgres if self.engine is Engine.POSTGRES else self.clickhouse
        server.start()
