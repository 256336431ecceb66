"""deployments/images: what the Dockerfiles describe, built in a temporary root and run as its user, on a read-only root."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.cluster import cluster as sandbox
from tests import image_building

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.skipif(sandbox.unavailable() is not None, reason=str(sandbox.unavailable())),
]

IMAGES = image_building.ROOT / "deployments" / "images"
LOADED = "import ssl, zlib, hashlib, lzma, psycopg, postgast; print(open('/proc/self/maps').read())"
CHECKS = {
    "version": ["/opt/greylag/bin/greylag", "--version"],
    "on PATH": ["greylag", "--help"],
    "libraries": ["/bin/sh", "-c", f'LD_LIBRARY_PATH=/opt/greylag/lib exec /opt/greylag/bin/python3 -I -c "{LOADED}"'],
    "ssh-keygen": ["/bin/sh", "-c", "ssh-keygen -Y find-principals -s /dev/null -f /dev/null 2>&1; command -v ssh-keygen"],
    "user": ["/bin/sh", "-c", "id -u; touch /opt/greylag/x 2>/dev/null || echo read-only; touch /tmp/x && echo writable"],
}


@pytest.fixture(scope="module")
def migration(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found = image_building.build(IMAGES / "migration.Dockerfile", tmp_path_factory.mktemp("migration"), checks=CHECKS)
    assert "error" not in found, found["error"]
    return found


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    checks = {
        "flows": ["/opt/venv/bin/python", "-c", "import flows.deploy_service, flows.deploy_environment, tasks.steps, kubernetes, hvac"],
        "fleet": ["greylag", "targets", "@dev/*"],
        "prefect": ["/opt/venv/bin/prefect", "worker", "start", "--help"],
        "type": [
            "/opt/venv/bin/python",
            "-c",
            "from prefect.plugins import load_prefect_collections; from prefect.workers.base import BaseWorker;"
            " load_prefect_collections(); print(BaseWorker.get_worker_class_from_type('greylag').__name__)",
        ],
        "ssh-keygen": ["/bin/sh", "-c", "ssh-keygen -Y find-principals -s /dev/null -f /dev/null 2>&1; command -v ssh-keygen"],
        "healthcheck": ["/opt/venv/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:1/health')"],
        "user": ["/bin/sh", "-c", "id -u; touch /opt/greylag/x 2>/dev/null || echo read-only; touch /tmp/x && echo writable"],
    }
    found = image_building.build(IMAGES / "worker.Dockerfile", tmp_path_factory.mktemp("worker"), checks=checks)
    assert "error" not in found, found["error"]
    return found


def test_the_migration_image_is_greylag_alone(migration: dict[str, Any]) -> None:
    checks = migration["checks"]
    assert checks["version"]["code"] == 0 and checks["version"]["out"].startswith("greylag version: "), checks
    assert checks["on PATH"]["code"] == 0
    packages = {name.split("/")[5] for name in migration["files"] if "/site-packages/" in name and name.count("/") > 5}
    assert {"migrator", "psycopg", "urllib3"} <= packages
    assert not {"prefect", "kubernetes", "hvac", "pip", "tasks", "flows"} & packages
    added = {name for name in migration["files"] if not name.startswith(("opt/greylag/", "root/", "proc", "dev", "sys"))}
    assert added <= {"etc/passwd"}, "and a name for its uid, without which ssh-keygen checks no signature"
    print(f"{migration['bytes'] / 1e6:.0f} MB")


def test_its_interpreter_needs_nothing_of_the_base_but_the_c_library(migration: dict[str, Any]) -> None:
    told = migration["checks"]["libraries"]
    assert told["code"] == 0, told["err"]
    assert "/opt/greylag/" in told["out"] and sys.base_prefix not in told["out"]
    outside = {Path(path).name for path in re.findall(r"(/\S+\.so\S*)", told["out"]) if not path.startswith("/opt/greylag/")}
    assert not {name for name in outside if not re.match(r"(ld-linux|libc|libm|libdl|libpthread|librt|libutil|libresolv)[.-]", name)}


@pytest.mark.parametrize("image", ["migration", "worker"])
def test_an_image_runs_as_nobody_on_a_read_only_root(image: str, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(image)
    assert found["user"] == "65532:65532"
    assert found["checks"]["user"]["out"].split() == ["65532", "read-only", "writable"]
    assert found["writable"] == []


@pytest.mark.parametrize("image", ["migration", "worker"])
def test_an_image_can_check_the_signature_of_an_approval(image: str, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(image)["checks"]["ssh-keygen"]
    assert found["code"] == 0 and "No user exists" not in found["out"], found


@pytest.mark.parametrize("image", ["migration", "worker"])
def test_every_module_is_compiled(image: str, request: pytest.FixtureRequest) -> None:
    files = set(request.getfixturevalue(image)["files"])
    sources = [name for name in files if name.startswith("opt/") and "/migrator/" in name and name.endswith(".py")]
    assert len(sources) > 100
    tag = sys.implementation.cache_tag
    for name in sources:
        directory, _, base = name.rpartition("/")
        assert f"{directory}/__pycache__/{base.removesuffix('.py')}.{tag}.pyc" in files


def test_the_worker_image_has_the_flows_and_the_fleet(worker: dict[str, Any]) -> None:
    checks = worker["checks"]
    assert checks["flows"]["code"] == 0, checks["flows"]["err"]
    assert checks["fleet"]["code"] == 0 and checks["fleet"]["out"].count("@dev/") == 6, checks["fleet"]
    assert checks["prefect"]["code"] == 0 and "--with-healthcheck" in checks["prefect"]["out"]
    assert checks["healthcheck"]["code"] == 1  # no worker answers there
    assert (
        worker["entrypoint"][:5] == ["/opt/venv/bin/prefect", "worker", "start", "--type", "greylag"] and "/health" in worker["healthcheck"]
    )
    assert checks["type"]["out"].split() == ["GreylagWorker"], checks["type"]
    assert worker["environment"]["GREYLAG_HOME"] == "/opt/greylag"


@pytest.mark.parametrize("base", ["python:3.12-slim", "python:3.12-slim@sha256:abc", ""])
@pytest.mark.parametrize("image", ["migration", "worker"])
def test_bad_flow_a_base_that_may_move_is_refused(image: str, base: str, tmp_path: Path) -> None:
    found = image_building.build(IMAGES / f"{image}.Dockerfile", tmp_path, base=base)
    assert "name the base image by its digest" in found["error"]


def test_nothing_is_left_mounted() -> None:
    assert "greylag-tests" not in "".join(
        line for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines() if "overlay" in line
    )
