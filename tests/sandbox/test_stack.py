"""The whole stack leaves nothing running when a part of it does not start, and when it is killed.

That its logins, secrets, ports and data are right is what the demo proves, twice on one directory: tests/flows/test_demo.py.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from migrator import errors
from sandbox.stack import stack
from sandbox.stack import state as stack_state

pytestmark = pytest.mark.slow


def processes_of(directory: Path) -> list[str]:
    """Command lines of living processes that mention the directory, or hold it as their PREFECT_HOME."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:
                continue
            if command and str(directory).encode() in command + environment:
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


def test_a_stack_that_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    started = subprocess.Popen(
        [sys.executable, "-m", "sandbox.stack.stack", "--directory", str(tmp_path)],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "{\n", started.communicate()[1]
    assert len([line for line in processes_of(tmp_path) if "migrator.cli worker" in line]) == 4
    started.send_signal(signal.SIGKILL)
    started.wait(60)
    deadline = time.monotonic() + 45
    while processes_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_of(tmp_path) == []
    with pytest.raises(errors.Unavailable, match="no sandbox is running"):
        stack_state.running(tmp_path)


def test_bad_flow_a_component_that_does_not_start_stops_the_others(tmp_path: Path) -> None:
    (tmp_path / "clickhouse").mkdir()
    (tmp_path / "clickhouse" / "data").write_text("a file where the server wants a directory")
    with pytest.raises(errors.Unavailable, match="ClickHouse ended"):
        stack.Stack(tmp_path, workers=False).start()
    assert processes_of(tmp_path) == []
    with pytest.raises(errors.Unavailable, match="no sandbox is running"):
        stack_state.running(tmp_path)
