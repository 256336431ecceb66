"""`make demo APPROVE=ssh` from outside: what is refused before two persons have signed, by the words of prod's own worker, and that it then passes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sandbox.stack.prefect_server import clean_environment
from tests.flows.stage import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def two_services(directory: Path) -> Path:
    """Writes a fleet of one service per engine: the whole fleet's promotion is tests/flows/test_demo.py's."""
    document = yaml.safe_load((ROOT / "deployments" / "fleet.yaml").read_text(encoding="utf-8"))
    document["root"] = str(ROOT)
    document["services"] = {name: document["services"][name] | {"depends_on": []} for name in ("auth-service", "audit-service")}
    file = directory / "fleet.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file


def test_a_wrong_a_revoked_the_promoters_and_an_ended_approval_are_refused_before_two_persons_pass(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox.stack.demo", "--state", str(tmp_path / "demo"), "--approve", "ssh"],
        cwd=ROOT,
        env=clean_environment() | {"GREYLAG_FLEET": str(two_services(tmp_path))},
        capture_output=True,
        encoding="utf-8",
        timeout=1100,
        check=False,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told[-4000:]
    refusals = [line.rpartition("[")[2].rstrip("]\n") for line in told.splitlines() if "prod's worker refuses it" in line]
    assert refusals == ["approval-signature", "approval-revoked", "approval-promoter", "approval-expired", "approval-minimum"]
    assert "6 of 6 databases are at their newest version" in told
