"""`make demo` as a process that tests start, read, interrupt, and whose traces they look for."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sandbox import cache
from sandbox.stack import stack
from sandbox.stack import state as stack_state

ROOT = Path(__file__).resolve().parents[1]
READY = "Ctrl-C stops everything; data are kept."
"""The last line that `--keep` prints: from then on the UI and the databases are there to be used."""
PATIENCE_SECONDS = 900.0
"""When to call a demo hung. The demo's own limit is 4 minutes; a test machine may be busy with other tests."""
_MARK = "DEMONSTRATION"


@dataclass
class Demonstration:
    """One run of the demo on a state directory; every process that it starts inherits a mark that tells it from others."""

    state: Path
    options: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    left: dict[int, str] | None = None
    """The processes that were still there at the moment of its end; None before."""
    _mark: str = field(default_factory=lambda: secrets.token_hex(16))
    _process: subprocess.Popen[str] | None = None
    _grown: threading.Condition = field(default_factory=threading.Condition)
    _reader: threading.Thread | None = None

    def start(self) -> Demonstration:
        """Starts it; its output is collected as it comes."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "GREYLAG_")) or name == "GREYLAG_CACHE"
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.stack.demo", "--state", self.state, *self.options],
            cwd=ROOT,
            env=kept | {_MARK: self._mark, "PYTHONUNBUFFERED": "1"} | dict(self.variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,  # as a shell starts it: a Ctrl-C reaches this group
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Waits until a line matches; fails with the whole output where the demo ends before, or never says it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        seen = 0
        with self._grown:
            while True:
                for line in self.lines[seen:]:
                    if found := re.search(pattern, line):
                        return found
                seen = len(self.lines)
                assert self._reader is not None and self._reader.is_alive(), f"ended without saying {pattern!r}:\n{self.output}"
                assert time.monotonic() < deadline, f"hung before it said {pattern!r}:\n{self.output}"
                self._grown.wait(1)

    def finish(self) -> int:
        """Waits for its end and returns its exit code."""
        assert self._process is not None and self._reader is not None
        code = self._process.wait(PATIENCE_SECONDS)
        if self.left is None:
            self.left = self.processes()
        self._reader.join(30)
        return code

    def interrupt(self) -> int:
        """Ctrl-C, as the terminal sends it: to the whole process group. Returns the exit code."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGINT)
        return self.finish()

    def kill(self) -> None:
        """Ends what a failed test left."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(60)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def processes(self) -> dict[int, str]:
        """Every living process that descends from this demo, or that was started for its state directory: pid and command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                marked = self._mark.encode() in (entry / "environ").read_bytes()
                if command and (marked or str(self.state) in command):  # a zombie has no command line any more
                    found[int(entry.name)] = command
        return found

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            with self._grown:
                self.lines.append(line.rstrip("\n"))
                self._grown.notify_all()
        with self._grown:
            self._grown.notify_all()


def result_rows(demo: Demonstration) -> dict[str, dict[str, str]]:
    """The result table that the demo printed, by target."""
    start = next(number for number, line in enumerate(demo.lines) if line.startswith("environment  service"))
    header, rule = demo.lines[start], demo.lines[start + 1]
    edges = [number for number, letter in enumerate(rule) if letter == "-" and (number == 0 or rule[number - 1] == " ")]
    rows = {}
    for line in demo.lines[start + 2 :]:
        if line.startswith("["):
            break
        if line:
            names, cells = ([text[a:b].strip() for a, b in zip(edges, [*edges[1:], None], strict=True)] for text in (header, line))
            row = dict(zip(names, cells, strict=True))
            rows[f"{row['environment']}/{row['service']}"] = row
    return rows


def greylag(state: Path, environment: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The command in a shell that acts as an environment's worker, as the demo's last lines tell to do it; `more` are variables."""
    variables = stack.client_environment(state, stack_state.running(state), environment)
    return subprocess.run(
        [sys.executable, "-m", "migrator.cli", *arguments],
        cwd=ROOT,
        env=os.environ | variables | more,
        capture_output=True,
        text=True,
        check=False,
    )


def newcomers_cache(directory: Path) -> dict[str, str]:
    """The variable with which nothing is built yet: a cache with all that this machine's has except programs."""
    directory.mkdir()
    for entry in cache.directory().glob("*"):
        if entry.name != "bin":
            (directory / entry.name).symlink_to(entry)
    return {"GREYLAG_CACHE": str(directory)}


@contextmanager
def running(state: Path, *options: str, **variables: str) -> Iterator[Demonstration]:
    """A demo that is running while the block runs, and gone after it."""
    demo = Demonstration(state, options, variables)
    try:
        yield demo.start()
    finally:
        demo.kill()
