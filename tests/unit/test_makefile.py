"""The Makefile: asked what it would do, it says so and does nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = re.findall(r"^([a-z][a-z-]*):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def asked(directory: Path, *words: str) -> str:
    """What `make -n` prints in a checkout that nothing was installed in; every program of its recipes would leave a mark."""
    shutil.copy(ROOT / "Makefile", directory)
    for name in ("pyproject.toml", "constraints.txt"):
        (directory / name).touch()
    before = sorted(directory.rglob("*"))
    done = subprocess.run(
        ["make", "-n", "PYTHON=python3", *words], cwd=directory, capture_output=True, encoding="utf-8", timeout=60, check=True
    )
    assert sorted(directory.rglob("*")) == before, "nothing was made"
    return done.stdout


@pytest.mark.parametrize("target", TARGETS)
def test_a_dry_run_of_any_target_starts_nothing(tmp_path: Path, target: str) -> None:
    """A recipe line with `$(MAKE)` in it is executed even then."""
    assert asked(tmp_path, target)


def test_a_dry_run_of_the_demo_prints_it(tmp_path: Path) -> None:
    told = asked(tmp_path, "demo")
    assert "python -m sandbox.stack.demo --state .sandbox/demo" in told
    assert "'.[flows,sandbox]'" in told and "'.[flows,sandbox,dev]'" not in told


def test_the_demo_on_kubernetes_installs_what_it_needs_first(tmp_path: Path) -> None:
    told = asked(tmp_path, "demo", "CLUSTER=1")
    assert 0 < told.index("'.[flows,sandbox,dev]'") < told.index("python -m sandbox.stack.demo --state .sandbox/demo-cluster --cluster")
