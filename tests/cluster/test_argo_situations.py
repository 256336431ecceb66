"""The chart under a real Argo CD, strategy by strategy and situation by situation, and the usual recipe's layout beside it (docs/argocd-layouts.md).

GREYLAG_TEST_TABLE names a file to which what is seen is added, one line each.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import secrets
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import argo_order
from sandbox.argocd.installation import ArgoCD
from sandbox.argocd.repository import Repository
from sandbox.cluster.api import Object
from sandbox.databases.clickhouse import ClickHouseServer
from sandbox.databases.postgres import PostgresServer
from tests.cluster.argo_databases import ClickHouse, Database, Postgres
from tests.cluster.argo_layouts import LAYOUTS, RECIPE, SERVICE, STRATEGIES
from tests.cluster.argo_story import FOLLOWS, OTHER_PATH, PATH, SITUATIONS, Story
from tests.cluster.chart_stage import parts
from tests.cluster.external_secrets_double import ExternalSecretsDouble
from tests.cluster.workloads import Namespace
from tests.conftest import AWKWARD_PASSWORD

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "argocd-layouts.md"
PLAIN_PASSWORD = "plain-words-2"  # the recipe's sed loses some others
TITLES = {"postgres": "PostgreSQL", "clickhouse": "ClickHouse"}
STORIES = [*((layout, "postgres") for layout in LAYOUTS), *((layout, "clickhouse") for layout in STRATEGIES)]


def documented(layout: str, engine: str, situation: str) -> str:
    """What the page says of a situation in a layout, in the section of the engine."""
    (section,) = [part for part in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.M) if part.startswith(TITLES[engine])]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    (row,) = [cells for cells in rows if cells[0] == situation]
    return row[rows[0].index("the recipe" if layout == RECIPE else layout)]


@pytest.fixture(scope="module", params=STORIES, ids="-".join)
def story(
    request: pytest.FixtureRequest,
    argocd: ArgoCD,
    goose_binary: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Story]:
    """A service in one layout, with a database of its own and a double of External Secrets."""
    layout, engine = request.param
    name = argocd.cluster.create_namespace(f"test-{secrets.token_hex(4)}")
    namespace = Namespace(argocd.cluster, name)
    repository = Repository(tmp_path_factory.mktemp(layout) / "repository")
    # Asked for by name: the recipe on PostgreSQL needs no ClickHouse.
    server = request.getfixturevalue(f"{engine}_server")
    with (clickhouse if engine == "clickhouse" else postgres)(server) as database, ExternalSecretsDouble(argocd.cluster, name) as double:
        double.store = {PATH: database.login, OTHER_PATH: dict(database.login)}
        made = Story(layout, argocd, repository, namespace, database, double)
        yield made
        argocd.delete_application(name)
    argocd.cluster.delete_namespace(name)


@contextlib.contextmanager
def postgres(server: PostgresServer) -> Iterator[Database]:
    """A fresh PostgreSQL database with an owner of its own."""
    name = f"test_{secrets.token_hex(5)}"
    url = server.create_database(name, owner=name, password=PLAIN_PASSWORD)
    yield Postgres(parts(url, "postgres"), url, lambda text: server.execute(text, name))
    server.drop_database(name, owner=name)


@contextlib.contextmanager
def clickhouse(server: ClickHouseServer) -> Iterator[Database]:
    """A fresh ClickHouse database."""
    name = f"test_{secrets.token_hex(5)}"
    server.create_database(name)
    yield ClickHouse(parts(server.url("migrator", AWKWARD_PASSWORD, name), "clickhouse"), lambda text: server.execute(text, name))
    server.drop_database(name)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_seen_is_what_the_page_says(story: Story, situation: str) -> None:
    if story.releases and situation not in FOLLOWS:
        story.settle()
    seen = SITUATIONS[situation](story)
    if record := os.environ.get("GREYLAG_TEST_TABLE"):
        with Path(record).open("a", encoding="utf-8") as file:
            file.write(f"{situation} | {story.layout}, {story.database.engine} | {seen}\n")
    assert seen == documented(story.layout, story.database.engine, situation), story.told()
    if situation == "first install" and story.layout in STRATEGIES:
        model_holds(story)


def model_holds(story: Story) -> None:
    """The model of Argo CD's order is what the controller did: phases and hooks as it reports them, and nothing of a later step made before an earlier one."""
    found = story.argocd.application(story.name)
    objects = [each for each in rendered(story) if each["metadata"].get("name")]
    expected = {(task.kind, task.name): task for task in argo_order.tasks(objects)}
    results = {(item["kind"], item["name"]): item for item in found["status"]["operationState"]["syncResult"]["resources"]}
    assert set(results) == set(expected)
    phases = {argo_order.Phase.PRE_SYNC: "PreSync", argo_order.Phase.SYNC: "Sync"}
    for key, task in expected.items():
        assert results[key]["syncPhase"] == phases[task.phase], key
        assert bool(results[key].get("hookType")) == task.hook, key
    times = {(task.kind, task.name): live(story, task.object)["metadata"]["creationTimestamp"] for task in expected.values()}
    for one in expected.values():
        for other in expected.values():
            if one.step < other.step:
                assert times[one.kind, one.name] <= times[other.kind, other.name], (one, other)
    job = story.job()
    assert job is not None
    late = [times[task.kind, task.name] for task in expected.values() if task.step > expected["Job", job["metadata"]["name"]].step]
    assert late and all(job["status"]["completionTime"] <= moment for moment in late)


def rendered(story: Story) -> list[Object]:
    """The release's objects, as Argo CD's own repository server renders them."""
    manifests = story.argocd.api.request("GET", f"applications/{story.name}/manifests", None, project="default")["manifests"]
    return [json.loads(text) for text in manifests]


def live(story: Story, found: Object) -> Object:
    """An object as the cluster has it."""
    group = {"v1": "/api/v1", "apps/v1": "/apis/apps/v1", "batch/v1": "/apis/batch/v1"}.get(
        found["apiVersion"], f"/apis/{found['apiVersion']}"
    )
    plural = f"{found['kind'].lower()}s"
    return story.argocd.cluster.api.get(f"{group}/namespaces/{story.name}/{plural}/{found['metadata']['name']}")


def test_no_value_of_the_login_is_in_anything_that_is_rendered_kept_or_logged(story: Story) -> None:
    if story.layout == RECIPE:
        pytest.skip("the recipe puts the password into the arguments of a process")
    kinds = ("job", "pod", "event", "deployment", "replicaset", "configmap", "serviceaccount")
    kept = [story.argocd.application(story.name), rendered(story), *(story.namespace.list(kind) for kind in kinds)]
    logs = [
        story.namespace.logs(pod["metadata"]["name"], "--container", each["name"])
        for pod in story.namespace.list("pod")
        for each in pod["status"].get("initContainerStatuses", []) + pod["status"].get("containerStatuses", [])
        if "waiting" not in each["state"]
    ]
    own = [path.read_text(encoding="utf-8", errors="replace") for path in (story.argocd.directory / "logs").glob("*.log")]
    assert logs and own
    everything = "\n".join([json.dumps(kept, ensure_ascii=False), *logs, *own])
    password = story.database.login["password"]
    encoded = base64.b64encode(password.encode()).decode().rstrip("=")
    forms = {
        password,
        json.dumps(password, ensure_ascii=False)[1:-1],
        json.dumps(password)[1:-1],
        urllib.parse.quote(password, safe=""),
        encoded,
    }
    assert SERVICE in everything and not [form for form in forms if form in everything]
