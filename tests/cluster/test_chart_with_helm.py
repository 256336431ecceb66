"""The chart with the real Helm on a real cluster and real databases: install, upgrade, a migration that fails, rollback, uninstall."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.cluster.api import Object
from sandbox.databases.clickhouse import ClickHouseServer
from sandbox.databases.postgres import PostgresServer
from tests import chart_cases as cases
from tests.cluster.chart_stage import ChartStage, parts
from tests.cluster.external_secrets import DEFINITION
from tests.cluster.job_stage import GATED, USERS, gate
from tests.cluster.workloads import Namespace
from tests.conftest import AWKWARD_PASSWORD

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

SECOND = "-- +goose Up\nALTER TABLE users ADD COLUMN email text;\n-- +goose Down\nALTER TABLE users DROP COLUMN email;\n"
BROKEN = "-- +goose Up\nALTER TABLE nobody ADD COLUMN email text;\n"
SHOP = "/app/services/shop/migrations"


@pytest.fixture
def stage(namespace: Namespace, tmp_path: Path) -> ChartStage:
    return ChartStage(namespace, tmp_path)


@pytest.fixture
def shop(stage: ChartStage, new_postgres_url: Callable[[], str]) -> str:
    """A service `shop` with three releases, whose third has a migration that fails; returns its database's address."""
    url = new_postgres_url()
    stage.add("shop", "postgres", url)
    stage.push("shop", "1", {"00001_users.sql": USERS}, SHOP)
    stage.push("shop", "2", {"00001_users.sql": USERS, "00002_email.sql": SECOND}, SHOP)
    stage.push("shop", "3", {"00001_users.sql": USERS, "00002_email.sql": SECOND, "00003_broken.sql": BROKEN}, SHOP)
    return url


def versions(server: PostgresServer, url: str) -> list[int]:
    """The versions in goose's table."""
    database = parts(url, "postgres")["database"]
    return [
        int(line) for line in server.execute("SELECT version_id FROM goose_db_version WHERE version_id > 0 ORDER BY 1", database).split()
    ]


def use(stage: ChartStage, strategy: str) -> None:
    stage.values["shop"]["migration"]["strategy"] = strategy


def test_good_flow_all_six_services_are_installed_with_their_own_values(
    stage: ChartStage,
    new_postgres_url: Callable[[], str],
    new_clickhouse_database: Callable[[], str],
    postgres_server: PostgresServer,
    clickhouse_server: ClickHouseServer,
) -> None:
    expected: dict[str, int] = {}
    addresses: dict[str, str] = {}
    for service in cases.SERVICES:
        engine = cases.CASES[service]["migration"]["engine"]
        place = cases.CASES[service]["migration"].get("sql", {}).get("directory", f"/app/services/{service}/migrations")
        texts = {path.name: path.read_text(encoding="utf-8") for path in (cases.ROOT / place.removeprefix("/app/")).glob("*.sql")}
        if engine == "clickhouse":
            addresses[service] = clickhouse_server.url("migrator", AWKWARD_PASSWORD, new_clickhouse_database())
            sql = {"sql": {"source": "configMap", "glob": f"migrations/{service}/*.sql"}}  # the recipe's wave -4
            stage.push(service, "1", {}, "/nothing")
        else:
            addresses[service] = new_postgres_url()
            sql = {}
            stage.push(service, "1", texts, place)
        stage.add(service, engine, addresses[service], strategy="helm-hook", **sql)
        expected[service] = len(texts)
    for service in cases.SERVICES:
        stage.helm("install", service, "--wait", tag="1")
        assert stage.deployment(service)["status"]["readyReplicas"] == 1
        database = stage.values[service]["migration"]["database"]
        statement = "SELECT count() FROM goose_db_version WHERE version_id > 0"
        if stage.values[service]["migration"]["engine"] == "clickhouse":
            count = int(clickhouse_server.execute(statement, database))
        else:
            count = len(versions(postgres_server, addresses[service]))
        assert count == expected[service]
    assert AWKWARD_PASSWORD not in stage.everything()


@pytest.mark.parametrize("strategy", ["helm-hook", "plain"])
def test_install_upgrade_failure_rollback_and_uninstall(
    stage: ChartStage, shop: str, strategy: str, postgres_server: PostgresServer
) -> None:
    use(stage, strategy)
    stage.helm("install", "shop", "--wait", tag="1")
    assert versions(postgres_server, shop) == [1]
    stage.helm("upgrade", "shop", "--wait", tag="1")  # nothing changed: nothing to do, and no error
    stage.helm("upgrade", "shop", "--wait", tag="2")
    assert versions(postgres_server, shop) == [1, 2]

    failed = stage.helm("upgrade", "shop", "--wait", "--timeout", "20s", tag="3", check=False)
    assert failed.returncode != 0
    assert versions(postgres_server, shop) == [1, 2]
    if strategy == "helm-hook":
        assert stage.running("shop") == stage.image("shop", "2")  # the Deployment was never touched
        (job,) = stage.namespace.list("job")
        assert [item["reason"] for item in job["status"]["conditions"] if item["type"] == "Failed"] == ["PodFailurePolicy"]  # one attempt
    else:  # everything is applied at once: the new pods wait, the old ones serve
        ready = [pod for pod in stage.namespace.list("pod") if pod["status"]["phase"] == "Running"]
        assert any(pod["spec"]["containers"][0]["image"] == stage.image("shop", "2") for pod in ready)

    stage.helm("rollback", "shop", "1", "--wait", "--timeout", "120s")
    assert stage.running("shop") == stage.image("shop", "1")  # an older image on the newer database: its pods start
    assert stage.deployment("shop")["status"]["readyReplicas"] == 1
    assert versions(postgres_server, shop) == [1, 2]

    stage.helm("uninstall", "shop", "--wait")
    assert stage.namespace.get("deployment", "shop") is None
    assert versions(postgres_server, shop) == [1, 2]  # data belongs to nobody's release
    left = [(kind, item["metadata"]["name"]) for kind in ("job", "serviceaccount") for item in stage.namespace.list(kind)]
    hooks = [("job", "shop-migration"), ("serviceaccount", "shop-migration")] if strategy == "helm-hook" else []
    assert sorted(item for item in left if item[1] != "default") == hooks


def test_pods_wait_when_nobody_migrates(stage: ChartStage, shop: str) -> None:
    use(stage, "external")
    stage.helm("install", "shop", tag="1")
    pods = stage.namespace
    pods.cluster.wait_until(lambda: "waiting for version 1" in "".join(_waiting(stage)), "the init container waits")
    assert "readyReplicas" not in stage.deployment("shop")["status"]
    use(stage, "plain")
    stage.helm("upgrade", "shop", "--wait", tag="1")
    assert stage.deployment("shop")["status"]["readyReplicas"] == 1


def _waiting(stage: ChartStage) -> list[str]:
    found = stage.namespace.list("pod", labelSelector="app.kubernetes.io/component=service")
    path = f"/api/v1/namespaces/{stage.namespace.name}/pods/{{}}/log"
    return [
        str(stage.namespace.cluster.api.get(path.format(pod["metadata"]["name"]), container="wait-for-migrations").get("message", ""))
        for pod in found
        if any("running" in status["state"] for status in pod["status"].get("initContainerStatuses", ()))
    ]


def test_a_terminated_job_ends_long_before_its_grace_period(stage: ChartStage, shop: str, postgres_server: PostgresServer) -> None:
    """Argo CD's terminate deletes the Job; its pod has 120 s. greylag is process 1, hears SIGTERM, cancels its statement and rolls back."""
    stage.push("shop", "gated", {"00001_users.sql": USERS, "00002_gated.sql": GATED}, SHOP)
    use(stage, "plain")
    with gate(shop):
        stage.helm("install", "shop", tag="gated")
        stage.namespace.cluster.wait_until(lambda: _held(postgres_server, shop), "the migration waits at the gate")
        (job,) = stage.namespace.list("job")
        assert job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 120
        name = f"job/{job['metadata']['name']}"
        began = time.monotonic()
        stage.namespace.cluster.kubectl(
            "delete", name, "--namespace", stage.namespace.name, "--cascade=foreground", "--wait", "--timeout=60s"
        )
        print(f"the terminated Job's pod was gone after {time.monotonic() - began:.1f} s")
        assert not stage.namespace.list("pod", labelSelector="app.kubernetes.io/component=migration")
        database = parts(shop, "postgres")["database"]
        assert postgres_server.execute("SELECT to_regclass('gated') IS NULL", database).strip() == "t"
    assert versions(postgres_server, shop) == [1]


def _held(server: PostgresServer, url: str) -> bool:
    statement = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 77"
    return server.execute(statement, parts(url, "postgres")["database"]).strip() == "1"


def test_bad_flow_a_stale_secret_is_waited_for_and_tried_again(stage: ChartStage, shop: str, postgres_server: PostgresServer) -> None:
    """A double of External Secrets: the Secret is first that of another path, then this test syncs it."""
    source = cases.base()["migration"]["externalSecret"]["path"]
    values = stage.values["shop"]["migration"]
    del values["existingSecret"]
    values["externalSecret"] = {"path": source, "wait": "1s"}
    use(stage, "plain")
    stage.namespace.cluster.apply(DEFINITION)
    stage.namespace.cluster.kubectl("wait", "--for=condition=Established", "crd/externalsecrets.external-secrets.io", "--timeout=30s")
    stage.helm("install", "shop", tag="1")
    stage.namespace.cluster.wait_until(
        lambda: any(_ended(pod) == 24 for pod in stage.namespace.list("pod", labelSelector="app.kubernetes.io/component=migration")),
        "an attempt ends with 24",
    )
    database = parts(shop, "postgres")["database"]
    assert postgres_server.execute("SELECT to_regclass('goose_db_version') IS NULL", database).strip() == "t"
    path = f"/apis/external-secrets.io/v1/namespaces/{stage.namespace.name}/externalsecrets"
    (made,) = stage.namespace.cluster.api.get(path)["items"]
    said = made["spec"]["target"]["template"]["data"]["greylag-source"]
    stage.namespace.cluster.kubectl(
        "patch",
        f"secret/{made['spec']['target']['name']}",
        "--namespace",
        stage.namespace.name,
        "--patch",
        f'{{"stringData": {{"greylag-source": "{said}"}}}}',
    )
    job = stage.namespace.list("job")[0]["metadata"]["name"]
    stage.namespace.cluster.wait_until(
        lambda: bool((stage.namespace.get("job", job) or {}).get("status", {}).get("succeeded")), "the next attempt reads the new Secret"
    )
    assert versions(postgres_server, shop) == [1]
    # The sandbox's node changes no volume of a running pod, so the waiting pod is replaced; a real kubelet updates it within a minute or two.
    for pod in stage.namespace.list("pod", labelSelector="app.kubernetes.io/component=service"):
        stage.namespace.delete("pod", pod["metadata"]["name"])
    stage.namespace.cluster.wait_until(lambda: stage.deployment("shop")["status"].get("readyReplicas") == 1, "the service runs")


def _ended(pod: Object) -> int | None:
    for status in pod["status"].get("containerStatuses", ()):
        if "terminated" in status["state"]:
            return int(status["state"]["terminated"]["exitCode"])
    return None


def test_bad_flow_sigterm_is_heard_by_a_process_1_that_is_still_starting() -> None:
    """Before any verb's own handler is there, the kernel would drop the signal for a process 1."""
    program = "import time\nfrom migrator.cli import process\nprocess.begin()\nprint('up', flush=True)\ntime.sleep(100)"
    with subprocess.Popen(["unshare", "--pid", "--fork", sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=cases.ROOT) as outer:
        killer = threading.Timer(60, outer.kill)
        killer.start()
        try:
            assert outer.stdout is not None and outer.stdout.readline() == b"up\n"
            (inner,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text(encoding="utf-8").split()
            subprocess.run(["kill", f"-{signal.SIGTERM}", inner], check=True)
            assert outer.wait() == 23
        finally:
            killer.cancel()
            outer.kill()
