"""`make demo CLUSTER=1 ARGOCD=1`: the promotion with a sync of a real Argo CD as every service's third step, and the health gate on what it has brought."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import builds
from sandbox.argocd import installation
from tasks import fleet
from tasks.argocd import verdicts
from tests import demonstration
from tests.demonstration import Demonstration, result_rows

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

TARGETS = {target.label: target for target in fleet.load().targets()}


@pytest.fixture(scope="module")
def demo(session_directory: Path) -> Iterator[Demonstration]:
    """The demo with an Argo CD of its own, kept after its promotion."""
    if reason := installation.unavailable():
        pytest.skip(reason)
    with demonstration.running(session_directory / "demo-on-argocd", "--cluster", "--argocd", "--keep") as running:
        running.wait_for(demonstration.READY)
        yield running


def applications(demo: Demonstration) -> list[dict[str, Any]]:
    """Argo CD's applications, as the cluster holds them."""
    done = subprocess.run(
        [builds.require(builds.CONTROLPLANE), "kubectl", "get", "applications", "--namespace", "argocd", "--output", "json"],
        env={"KUBECONFIG": str(demo.state / "cluster" / "admin.kubeconfig"), "PATH": os.defpath, "HOME": str(demo.state)},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return found


def test_every_service_of_every_environment_is_migrated_by_a_sync_and_its_rollout_is_seen(demo: Demonstration) -> None:
    rows = result_rows(demo)
    assert set(rows) == set(TARGETS)
    for row in rows.values():
        assert row["outcome"] == "migrated", row
        assert row["health gate"].startswith("healthy: 1 of 1 replicas are updated and available"), row
    assert "read back by SQL: 18 of 18 databases are at their newest version" in demo.output
    synced = {}
    for found in applications(demo):
        state = found["status"]["operationState"]
        infos = {item["name"]: item["value"] for item in state["operation"]["info"]}
        hooks = [item for item in state["syncResult"]["resources"] if item.get("hookType") and item["kind"] == "Job"]
        synced[infos[verdicts.TARGET]] = (state["phase"], [hook["hookPhase"] for hook in hooks])
    assert synced == {label: ("Succeeded", ["Succeeded"]) for label in TARGETS}


def test_ctrl_c_ends_argo_cd_and_everything_else(demo: Demonstration) -> None:
    assert demo.interrupt() == 23
    assert demo.left == {}
