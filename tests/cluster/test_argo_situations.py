"""The chart under a real Argo CD, strategy by strategy and situation by situation, and the usual recipe's layout beside it (docs/argocd-layouts.md).

GREYLAG_TEST_TABLE names a file to which what is seen is added, one line each.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import argo_order
from sandbox.argocd.installation import ArgoCD
from sandbox.argocd.repository import Repository
from sandbox.cluster.api import Object
from sandbox.databases.postgres import PostgresServer
from tests.cluster.argo_layouts import LAYOUTS, RECIPE, SERVICE, STRATEGIES
from tests.cluster.argo_story import FOLLOWS, OTHER_PATH, SITUATIONS, Story
from tests.cluster.external_secrets_double import ExternalSecretsDouble
from tests.cluster.workloads import Namespace

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "argocd-layouts.md"
PASSWORD = "plain-words-2"  # the recipe's sed loses some others


def documented(layout: str, situation: str) -> str:
    """What the page says of a situation in a layout."""
    rows = {
        cells[0]: cells[1:] for cells in re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.M)
    }
    return rows[situation][LAYOUTS.index(layout)]


@pytest.fixture(scope="module", params=LAYOUTS)
def story(
    request: pytest.FixtureRequest,
    argocd: ArgoCD,
    postgres_server: PostgresServer,
    goose_binary: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Story]:
    """A service in one layout, with a database of its own and a double of External Secrets."""
    name = argocd.cluster.create_namespace(f"test-{secrets.token_hex(4)}")
    namespace = Namespace(argocd.cluster, name)
    database = f"test_{secrets.token_hex(5)}"
    url = postgres_server.create_database(database, owner=database, password=PASSWORD)
    repository = Repository(tmp_path_factory.mktemp(request.param) / "repository")
    host, _, port = url.rpartition("@")[2].partition("/")[0].rpartition(":")
    login = {"host": host, "port": port, "username": database, "password": PASSWORD, "database": database}
    with ExternalSecretsDouble(argocd.cluster, name) as double:
        double.store = {"apps/dev/auth-service/postgres": login, OTHER_PATH: dict(login)}
        made = Story(
            request.param, argocd, repository, namespace, database, url, lambda text: postgres_server.execute(text, database), double
        )
        yield made
        argocd.delete_application(name)
    argocd.cluster.delete_namespace(name)
    postgres_server.drop_database(database, owner=database)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_seen_is_what_the_page_says(story: Story, situation: str) -> None:
    if story.releases and situation not in FOLLOWS:
        story.settle()
    seen = SITUATIONS[situation](story)
    if record := os.environ.get("GREYLAG_TEST_TABLE"):
        with Path(record).open("a", encoding="utf-8") as file:
            file.write(f"{situation} | {story.layout} | {seen}\n")
    assert seen == documented(story.layout, situation), story.told()
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
    import json

    return [json.loads(text) for text in manifests]


def live(story: Story, found: Object) -> Object:
    """An object as the cluster has it."""
    group = {"v1": "/api/v1", "apps/v1": "/apis/apps/v1", "batch/v1": "/apis/batch/v1"}.get(
        found["apiVersion"], f"/apis/{found['apiVersion']}"
    )
    plural = f"{found['kind'].lower()}s"
    return story.argocd.cluster.api.get(f"{group}/namespaces/{story.name}/{plural}/{found['metadata']['name']}")


def test_no_value_of_the_login_is_in_what_argo_cd_keeps_or_renders(story: Story) -> None:
    import json

    if story.layout == RECIPE:
        pytest.skip("the recipe puts the password into the arguments of a process")
    kept = json.dumps([story.argocd.application(story.name), rendered(story), story.namespace.list("event"), story.namespace.list("job")])
    assert PASSWORD not in kept and SERVICE in kept
