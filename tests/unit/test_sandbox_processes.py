"""No server outlives the process that started it, whatever ends that process; a server that does not come up says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator import errors
from sandbox import ports, processes

ROOT = Path(__file__).resolve().parents[2]

# A server that starts a child of its own, as Prefect's worker and PostgreSQL do, and reports both process ids.
SERVER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("pids", __import__("os").getpid(), child.pid, flush=True)
time.sleep(600)
"""

STARTER = """
import sys, time
from pathlib import Path
from sandbox import processes
processes.exit_on_signals()
server = processes.ServerProcess("sleeper", [sys.executable, "-c", sys.argv[2]], log=Path(sys.argv[1]))
server.start()
server.wait_until(lambda: "pids" in server.log_tail(), 20)
print("ready", flush=True)
if sys.argv[3] == "raise":
    raise RuntimeError("something else went wrong")
time.sleep(600)
"""


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie, whose parent has not asked for it yet, does not)."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def sleeper(log: Path, program: str = SERVER) -> processes.ServerProcess:
    return processes.ServerProcess("sleeper", [sys.executable, "-c", program], log=log)


def reported_pids(log: Path) -> list[int]:
    line = next(line for line in log.read_text().splitlines() if line.startswith("pids"))
    return [int(word) for word in line.split()[1:]]


def started_by_another_process(log: Path, ending: str) -> subprocess.Popen[str]:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(log), SERVER, ending],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    )
    assert starter.stdout is not None
    assert starter.stdout.readline() == "ready\n"
    return starter


def test_stop_ends_the_server_and_what_it_started(tmp_path: Path) -> None:
    server = sleeper(tmp_path / "log")
    server.start()
    server.wait_until(lambda: "pids" in server.log_tail(), 20)
    pids = reported_pids(server.log)
    assert server.running and server.pid == pids[0] and all(alive(pid) for pid in pids)
    server.stop()
    assert not server.running and not any(alive(pid) for pid in pids)
    server.stop()


def test_stop_kills_a_server_that_ignores_its_signal(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('pids', flush=True); time.sleep(600)"
    server = sleeper(tmp_path / "log", deaf)
    server.start()
    server.wait_until(lambda: "pids" in server.log_tail(), 20)
    server.stop(grace_seconds=0.2)
    assert server.returncode == -signal.SIGKILL


def test_kill_ends_the_whole_tree(tmp_path: Path) -> None:
    server = sleeper(tmp_path / "log")
    server.start()
    server.wait_until(lambda: "pids" in server.log_tail(), 20)
    pids = reported_pids(server.log)
    server.kill()
    assert not any(alive(pid) for pid in pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_parent_leaves_no_process_behind(number: signal.Signals, tmp_path: Path) -> None:
    starter = started_by_another_process(tmp_path / "log", "wait")
    pids = reported_pids(tmp_path / "log")
    starter.send_signal(number)
    starter.wait(30)
    assert not any(alive(pid) for pid in pids)


def test_an_exception_in_the_parent_leaves_no_process_behind(tmp_path: Path) -> None:
    starter = started_by_another_process(tmp_path / "log", "raise")
    starter.wait(30)
    assert not any(alive(pid) for pid in reported_pids(tmp_path / "log"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child that its parent was killed")
def test_the_server_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    starter = started_by_another_process(tmp_path / "log", "wait")
    server_pid, grandchild_pid = reported_pids(tmp_path / "log")
    starter.kill()
    starter.wait(30)
    try:
        assert eventually(lambda: not alive(server_pid))
    finally:
        if alive(grandchild_pid):  # the kernel tells children only; real servers end their own
            os.kill(grandchild_pid, signal.SIGKILL)


def test_a_server_survives_the_thread_that_started_it(tmp_path: Path) -> None:
    server = sleeper(tmp_path / "log")
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    server.wait_until(lambda: "pids" in server.log_tail(), 20)
    time.sleep(0.2)
    assert server.running
    server.stop()


def test_bad_flow_a_server_that_ends_early_shows_its_last_words(tmp_path: Path) -> None:
    server = sleeper(tmp_path / "log", "import sys; print('the port is taken'); sys.exit(7)")
    server.start()
    with pytest.raises(errors.Unavailable, match="ended with exit code 7 before it was ready") as caught:
        server.wait_until(lambda: False, 20)
    assert "the port is taken" in caught.value.describe()
    assert str(server.log) in caught.value.hint


def test_bad_flow_a_server_that_is_never_ready_is_stopped(tmp_path: Path) -> None:
    server = sleeper(tmp_path / "log")
    server.start()
    with pytest.raises(errors.Unavailable, match="was not ready within"):
        server.wait_until(lambda: False, 0.3)
    assert not server.running


def test_bad_flow_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    server = processes.ServerProcess("nothing", ["/no/such/program"], log=tmp_path / "log")
    with pytest.raises(errors.Unavailable, match=r"/no/such/program: No such file"):
        server.start()


def test_bad_flow_a_running_server_is_not_started_twice(tmp_path: Path) -> None:
    server = sleeper(tmp_path / "log")
    server.start()
    try:
        with pytest.raises(errors.Unavailable, match="already running"):
            server.start()
    finally:
        server.stop()


def test_the_log_is_private(tmp_path: Path) -> None:
    server = sleeper(tmp_path / "log", "pass")
    server.start()
    server.stop()
    assert server.log.stat().st_mode & 0o777 == 0o600


def test_free_ports_are_never_given_twice() -> None:
    given = [ports.free_port() for _ in range(50)]
    assert len(set(given)) == 50
    assert all(ports.is_free(port) for port in given)


def test_a_preferred_port_that_is_taken_gives_another() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind((ports.LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not ports.is_free(port)
        assert ports.accepts_connections(port)
        assert ports.preferred_port(port) != port
    wanted = ports.free_port()
    assert ports.preferred_port(wanted) == wanted
