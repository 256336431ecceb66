"""What all of the sandbox's servers stand on: none outlives the process that started it, whatever ends that; one that does not come up says why."""

from __future__ import annotations

import os
import signal
import socket
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
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
print("pids", os.getpid(), child.pid, flush=True)
time.sleep(600)
"""

STARTER = """
import sys, time
from pathlib import Path
from sandbox import processes
processes.exit_on_signals()
server = processes.ServerProcess("sleeper", [sys.executable, "-S", "-c", sys.argv[2]], log=Path(sys.argv[1]))
server.start()
server.wait_until(lambda: "pids" in server.log_tail(), 60)
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
    while time.monotonic() < deadline and not condition():
        time.sleep(0.05)
    return condition()


def sleeper(log: Path, program: str = SERVER) -> processes.ServerProcess:
    return processes.ServerProcess("sleeper", [sys.executable, "-S", "-c", program], log=log)


def started(log: Path, program: str = SERVER) -> processes.ServerProcess:
    server = sleeper(log, program)
    server.start()
    server.wait_until(lambda: "pids" in server.log_tail(), 20)
    return server


def reported_pids(log: Path) -> list[int]:
    line = next(line for line in log.read_text().splitlines() if line.startswith("pids"))
    return [int(word) for word in line.split()[1:]]


@pytest.mark.parametrize("end", [processes.ServerProcess.stop, processes.ServerProcess.kill], ids=["stop", "kill"])
def test_the_server_ends_with_what_it_started(end: Callable[[processes.ServerProcess], None], tmp_path: Path) -> None:
    server = started(tmp_path / "log")
    pids = reported_pids(server.log)
    assert server.running and server.pid == pids[0] and all(alive(pid) for pid in pids)
    assert server.log.stat().st_mode & 0o777 == 0o600
    with pytest.raises(errors.Unavailable, match="already running"):
        server.start()
    end(server)
    assert not server.running and not any(alive(pid) for pid in pids)
    server.stop()


def test_a_server_that_ignores_its_signal_is_killed(tmp_path: Path) -> None:
    server = started(tmp_path / "log", "import signal, time; signal.signal(15, signal.SIG_IGN); print('pids', flush=True); time.sleep(600)")
    server.stop(grace_seconds=0.2)
    assert server.returncode == -signal.SIGKILL


def test_whatever_ends_the_parent_leaves_no_process_behind(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    endings = {"raise": 0, **{each.name: int(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL)}}
    starters = {
        name: subprocess.Popen(
            [sys.executable, "-c", STARTER, str(tmp_path / name), SERVER, name],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        for name in endings
    }
    request.addfinalizer(lambda: [starter.kill() for starter in starters.values()])
    left: dict[str, list[int]] = {}
    for name, starter in starters.items():
        with starter:
            assert starter.stdout is not None and starter.stdout.readline() == "ready\n", name
            pids = reported_pids(tmp_path / name)
            if endings[name]:
                starter.send_signal(endings[name])
            starter.wait(30)
        if name == "SIGKILL":  # the kernel tells children only (Linux), a moment later; real servers end their own
            assert not sys.platform.startswith("linux") or eventually(lambda: not alive(pids[0]))  # noqa: B023 - called at once
            os.kill(pids[1], signal.SIGKILL)
        else:
            left[name] = [pid for pid in pids if alive(pid)]
    assert not any(left.values()), left


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from sandbox import processes
processes.exit_on_signals()
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGINT))
server = processes.ServerProcess("sleeper", ["sleep", "600"], log=Path(sys.argv[1]))
server.start()
assert server.running
server.stop()
print(server.returncode)
"""


def test_ctrl_c_while_a_server_is_being_started_is_the_parents_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "log")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert (done.stdout, done.stderr) == (f"{-signal.SIGTERM}\n", ""), "it lives, hears its stop signal, and prints no traceback"


def test_a_server_survives_the_thread_that_started_it(tmp_path: Path) -> None:
    server = sleeper(tmp_path / "log")
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    server.wait_until(lambda: "pids" in server.log_tail(), 20)
    time.sleep(0.2)
    assert server.running
    server.stop()


def test_bad_flow_a_server_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    early = sleeper(tmp_path / "early", "import sys; print('the port is taken'); sys.exit(7)")
    early.start()
    with pytest.raises(errors.Unavailable, match="ended with exit code 7 before it was ready") as caught:
        early.wait_until(lambda: False, 20)
    assert "the port is taken" in caught.value.describe() and str(early.log) in caught.value.hint
    late = sleeper(tmp_path / "late")
    late.start()
    with pytest.raises(errors.Unavailable, match="was not ready within"):
        late.wait_until(lambda: False, 0.3)
    assert not late.running
    with pytest.raises(errors.Unavailable, match=r"/no/such/program: No such file"):
        processes.ServerProcess("nothing", ["/no/such/program"], log=tmp_path / "none").start()


def test_ports_are_never_given_twice_and_a_preferred_one_is_taken_if_it_is_free() -> None:
    given = [ports.free_port() for _ in range(50)]
    assert len(set(given)) == 50 and all(ports.is_free(port) for port in given)
    assert ports.preferred_port(given[0]) == given[0]
    with socket.socket() as taken:
        taken.bind((ports.LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert ports.accepts_connections(port) and not ports.is_free(port)
        assert ports.preferred_port(port) != port
