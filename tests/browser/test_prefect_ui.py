"""What a person meets in Prefect's UI, in a real browser, on the server of a demo that has promoted the whole fleet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tasks import approval, fleet
from tests import demonstration

if TYPE_CHECKING:
    from tests.browser.ui import PrefectUI

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # the fixtures run the whole demo, twice
TASKS = ["fetch credentials", "encode URL", "run migration", "verify tables", "await Deployment health"]
DIGEST = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def chromium() -> None:
    """Looked for before any server is started for nothing."""
    ui = pytest.importorskip("tests.browser.ui", reason="Playwright is not installed", exc_type=ModuleNotFoundError)
    if ui.CHROMIUM is None:
        pytest.skip("there is no Chromium here (apt-get install chromium); GREYLAG_TEST_CHROMIUM may name one")


@pytest.fixture
def page(chromium: None, kept_demo: demonstration.Demonstration) -> Iterator[PrefectUI]:
    from tests.browser import ui

    with ui.browser(kept_demo.wait_for(r"Prefect UI: (\S+)").group(1)) as found:
        yield found


def test_the_form_of_a_deployment_offers_services_and_environments_with_their_descriptions(page: PrefectUI) -> None:
    fields = page.open_form("deploy-service-dev")
    assert list(fields)[:2] == ["service", "environment"]
    assert all(field.description.endswith((".", "s")) and len(field.description) > 20 for field in fields.values())
    assert fields["service"].dropdown and not fields["service"].optional
    assert fields["environment"].dropdown
    assert fields["environment"].value == "dev"
    assert "work pool" in fields["environment"].description
    assert page.open_dropdown("service") == list(fleet.load().services)
    page.page.keyboard.press("Escape")
    page.open_form("deploy-service-dev")
    assert page.open_dropdown("environment") == [*fleet.load().environments, *fleet.load().aliases]


def test_the_graph_of_a_run_shows_the_five_named_tasks(page: PrefectUI) -> None:
    run = page.flow_run("deploy-service auth-service dev")
    assert page.open_graph(run) == [f"{name} dev/auth-service" for name in TASKS]
    assert page.task_runs() == {f"{name} dev/auth-service": "Completed" for name in TASKS}


def test_the_approval_form_asks_for_a_confirmation_that_has_no_default(page: PrefectUI) -> None:
    fields = page.open_form("approve")
    assert list(fields) == ["environment", "bundle", "plan", "confirm", "approver", "reason", "signature"]
    assert [field.name for field in fields.values() if field.optional] == ["signature"]
    assert fields["confirm"].dropdown and fields["confirm"].value == ""
    assert "no default" in fields["confirm"].description
    assert page.open_dropdown("confirm") == [approval.CONFIRMATION.format(environment="prod")]


def test_bad_flow_an_approval_without_confirmation_is_not_even_started(page: PrefectUI) -> None:
    before = {run["id"] for run in page.api("/flow_runs/filter", flows={"name": {"any_": [approval.FLOW]}})}
    page.open_form("approve")
    page.choose("environment", "prod")
    for name, text in {"bundle": DIGEST, "plan": DIGEST, "approver": "Ada", "reason": "a slip"}.items():
        page.fill(name, text)
    page.submit()
    page.page.get_by_text("is a required property").or_(page.page.get_by_text("is required")).first.wait_for()
    assert page.page.url.endswith("/run")
    assert {run["id"] for run in page.api("/flow_runs/filter", flows={"name": {"any_": [approval.FLOW]}})} == before


def test_a_quick_run_is_started_by_the_environments_own_worker(page: PrefectUI) -> None:
    started = page.quick_run("plan-environment-dev")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        (run,) = page.api("/flow_runs/filter", flow_runs={"id": {"any_": [started]}})
        if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            break
        time.sleep(0.5)
    assert (run["state_type"], run["work_pool_name"]) == ("COMPLETED", "greylag-dev"), run["state"]
    assert run["state"]["message"].startswith("dev: 0 migrations to apply")
    asked = run["parameters"]  # the form sends every default with it
    assert asked["environment"] == "dev"
    assert {
        name: value for name, value in asked.items() if value and name not in ("environment", "backoff_limit", "active_deadline_seconds")
    } == {}


def test_the_result_table_says_what_happened_where(page: PrefectUI) -> None:
    description, (header, *rows) = page.open_table(page.artifact("result-prod"))
    assert description.startswith("prod: 6 services up to date, 6 of them migrated by this run")
    assert header == [
        "service",
        "environment",
        "outcome",
        "migrations",
        "statements",
        "seconds",
        "verification",
        "schema",
        "rollout",
        "accepted",
        "versions",
        "bundle",
    ]
    assert {row[0] for row in rows} == set(fleet.load().services)
    for row in (dict(zip(header, row, strict=True)) for row in rows):
        assert (row["environment"], row["outcome"]) == ("prod", "migrated")
        assert int(row["migrations"]) >= 6
        assert row["verification"].partition(" ")[2].startswith("objects")
        assert row["rollout"].startswith("skipped: no cluster configured")
        assert len(row["bundle"]) == 12
