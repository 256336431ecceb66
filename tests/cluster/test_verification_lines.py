"""The recipe's verification lines as people type them, on a service that its chart has installed: get jobs, logs by the label, exec in the service's image."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import chart_cases as cases
from tests.cluster.chart_stage import ChartStage
from tests.cluster.workloads import Namespace
from tests.conftest import AWKWARD_PASSWORD

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

SERVICE = "auth-service"
DIRECTORY = f"/app/services/{SERVICE}/migrations"
Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def kubectl(namespace: Namespace, tmp_path: Path, new_postgres_url: Callable[[], str]) -> Iterator[Kubectl]:
    """kubectl in the namespace in which auth-service is installed, with its own values and files."""
    stage = ChartStage(namespace, tmp_path)
    texts = {path.name: path.read_text(encoding="utf-8") for path in (cases.ROOT / "services" / SERVICE / "migrations").glob("*.sql")}
    stage.push(SERVICE, "1", texts, DIRECTORY)
    stage.add(SERVICE, "postgres", new_postgres_url(), strategy="plain")
    stage.helm("install", SERVICE, "--wait", tag="1")

    def call(*words: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        verb, *rest = words
        return namespace.cluster.kubectl(verb, "-n", namespace.name, *rest, stdin=stdin, check=check)

    yield call
    stage.helm("uninstall", SERVICE)


def test_the_recipes_lines_say_what_the_recipe_wants_to_know(kubectl: Kubectl) -> None:
    files = sorted(path.name for path in (cases.ROOT / "services" / SERVICE / "migrations").glob("*.sql"))

    jobs = [line for line in kubectl("get", "jobs").stdout.splitlines() if "migrat" in line]
    assert len(jobs) == 1 and "Complete" in jobs[0]

    said = kubectl("logs", "-l", "app.kubernetes.io/component=migration", "--tail", "-1").stdout
    assert all(name in said for name in files) and "successfully migrated database" in said

    line = ("exec", f"deployment/{SERVICE}", "--", "greylag", "-dir", DIRECTORY, "postgres")
    told = kubectl(*line, "status")
    assert [name for name in files if name in told.stderr] == files and "Pending" not in told.stderr
    tables = kubectl(*line, "verify")  # in place of `psql … -c "\dt"`
    assert "as recorded" in tables.stderr + tables.stdout or "verified" in tables.stderr + tables.stdout

    everything = said + told.stdout + told.stderr + tables.stdout + tables.stderr
    assert AWKWARD_PASSWORD not in everything

    pending = kubectl("exec", f"deployment/{SERVICE}", "--", "sh", "-c", "echo here; echo there >&2; exit 7", check=False)
    assert (pending.returncode, pending.stdout) == (7, "here\n") and "there\n" in pending.stderr
    assert kubectl("exec", "-i", f"deployment/{SERVICE}", "--", "cat", stdin="x" * 70_000).stdout == "x" * 70_000
    assert kubectl("exec", f"deployment/{SERVICE}", "-c", "nobody", "--", "true", check=False).returncode != 0
