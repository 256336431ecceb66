"""The chart with `approval: required` on a real cluster: what people have signed is applied, and nothing else."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import migrator
from migrator.targets import Target, Verb
from sandbox.cluster import images
from sandbox.cluster.api import Object
from sandbox.databases.clickhouse import ClickHouseServer
from sandbox.databases.postgres import PostgresServer
from tasks.approval import documents
from tasks.approval.documents import Approval, Part
from tests import chart_cases as cases
from tests.cluster.chart_stage import ChartStage, parts
from tests.cluster.job_stage import EVENTS, USERS
from tests.cluster.workloads import Namespace
from tests.conftest import AWKWARD_PASSWORD
from tests.unit.approval_stage import Stage

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

SHOP = "/app/services/shop/migrations"
SECOND = {
    "postgres": "-- +goose Up\nALTER TABLE users ADD COLUMN email text;\n-- +goose Down\nALTER TABLE users DROP COLUMN email;\n",
    "clickhouse": "-- +goose Up\nALTER TABLE events ADD COLUMN kind String;\n-- +goose Down\nALTER TABLE events DROP COLUMN kind;\n",
}


@dataclasses.dataclass
class Shop:
    """A service whose Job demands a signature; `people` are ada, grace and eve, whom nobody knows."""

    stage: ChartStage
    people: Stage
    engine: str
    url: str

    def push(self, number: int, files: dict[str, str]) -> str:
        """Makes an image under a digest of its own; returns that digest."""
        copy = self.stage.directory / f"files-{number}"
        copy.mkdir()
        for name, text in files.items():
            (copy / name).write_text(text, encoding="utf-8")
        copy.chmod(0o755)
        digest = f"sha256:{number:064x}"
        users = self.stage.directory / "passwd"
        users.write_text("greylag:x:65532:65532:greylag:/tmp:/usr/sbin/nologin\n", encoding="utf-8")  # as deployments/images has it
        users.chmod(0o644)
        mounts = {SHOP: str(copy), "/etc/passwd": str(users)}
        self.stage.namespace.cluster.register(images.checkout(self.image(digest), cases.ROOT, Path(sys.executable), mounts))
        return digest

    def image(self, digest: str) -> str:
        return f"registry.example/{self.stage.namespace.name}/shop@{digest}"

    def signed(self, image: str, number: int, *people: str) -> str:
        """What people sign of a release: its files and its plan, as they are now."""
        with migrator.open_database(self.engine, self.url) as database:
            found = migrator.load(self.stage.directory / f"files-{number}")
            plan = migrator.plan(found, database.read_history(), Target(Verb.UP), engine=database.engine)
            identity = database.identity()
        now = datetime.now(UTC)
        rules = self.people.policy()
        part = Part(service="shop", database=identity, bundle=plan.bundle, plan=plan.digest, image=image)
        approval = Approval(
            id=documents.nonce(),
            environment="prod",
            made=documents.moment(now),
            expires=documents.moment(now + timedelta(hours=1)),
            policy=rules.digest,
            fleet="f" * 64,
            contents="c" * 64,
            services=(part,),
        )
        return " ".join(item.packed() for item in self.people.signed(approval, rules, people))

    def sync(self, digest: str, approval: str = "") -> tuple[str, str]:
        """`helm upgrade --install` of a release; returns the Job's condition and the last words of its pod."""
        values = self.stage.values["shop"]
        values["migration"]["signedApproval"] = approval
        values["image"]["digest"] = digest
        self.stage.helm("upgrade", "shop", "--install", "--timeout", "60s", tag="", check=False)
        (job,) = self.stage.namespace.list("job")
        ended = self.stage.namespace.finished(job["metadata"]["name"])
        pods = self.stage.namespace.list("pod", labelSelector="app.kubernetes.io/component=migration")
        assert len(pods) == 1  # a refusal is permanent: there is no second attempt
        return ("applied" if ended["status"].get("succeeded") else "refused"), said(pods[0])


def said(pod: Object) -> str:
    """The termination message."""
    return str(pod["status"]["containerStatuses"][0]["state"]["terminated"].get("message", ""))


@pytest.fixture(params=["postgres", "clickhouse"])
def shop(
    request: pytest.FixtureRequest,
    namespace: Namespace,
    tmp_path: Path,
    new_postgres_url: Callable[[], str],
    clickhouse_server: ClickHouseServer,
) -> Shop:
    if request.param == "postgres":
        url = new_postgres_url()
    else:
        name = request.getfixturevalue("clickhouse_database")
        url = clickhouse_server.url("migrator", AWKWARD_PASSWORD, name)
    stage = ChartStage(namespace, tmp_path)
    tmp_path.chmod(0o755)
    (tmp_path / "people").mkdir()
    people = Stage.made(tmp_path / "people")
    signers = (people.place / "allowed_signers").read_text(encoding="utf-8")
    namespace.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prod-approvers"}, "data": {"allowed_signers": signers}})
    stage.add(
        "shop", request.param, url, strategy="helm-hook", approval="required", approvers={"configMap": "prod-approvers", "minimum": 2}
    )
    return Shop(stage, people, request.param, url)


def versions(shop: Shop) -> list[int]:
    with migrator.open_database(shop.engine, shop.url) as database:
        return sorted(version for version in database.read_history().versions if version)


def test_a_job_applies_what_people_have_signed_and_nothing_else(
    shop: Shop, postgres_server: PostgresServer, clickhouse_server: ClickHouseServer
) -> None:
    files = {"00001_first.sql": USERS if shop.engine == "postgres" else EVENTS}
    first = shop.push(1, files)
    second = shop.push(2, files | {"00002_second.sql": SECOND[shop.engine]})

    assert_refused(shop.sync(first), "approval-unsigned")
    assert_refused(shop.sync(first, shop.signed(shop.image(first), 1, "ada", "eve")), "approval-minimum")
    assert versions(shop) == []

    genuine = shop.signed(shop.image(first), 1, "ada", "grace")
    assert_refused(shop.sync(second, genuine), "approval-other-run")  # another image, with other files
    assert_refused(
        shop.sync(first, shop.signed(shop.image(first), 2, "ada", "grace")), "approval-other-run"
    )  # the same image, another bundle
    assert versions(shop) == []

    outcome, words = shop.sync(first, genuine)
    assert (outcome, versions(shop)) == ("applied", [1]), words
    assert shop.sync(first, genuine)[0] == "applied"  # the same release is synced again: there is nothing to do
    assert shop.sync(first)[0] == "applied"  # and nothing to approve

    assert_refused(shop.sync(second, genuine), "approval-other-run")
    assert_refused(shop.sync(second), "approval-unsigned")
    outcome, words = shop.sync(second, shop.signed(shop.image(second), 2, "grace", "ada"))
    assert (outcome, versions(shop)) == ("applied", [1, 2]), words
    assert parts(shop.url, shop.engine)["password"] not in shop.stage.everything()


def assert_refused(found: tuple[str, str], code: str) -> None:
    outcome, words = found
    assert outcome == "refused" and code in words, words
