"""Prefect's UI as a person sees it: forms, graphs, tables, read from the page's own elements."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Locator, Page, ViewportSize, expect, sync_playwright

CHROMIUM = os.environ.get("GREYLAG_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
"""Debian's; Playwright's own browsers are downloads of 150 MB and more, and none is ever made here."""
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PATIENCE_MS = 60_000
SIZE: ViewportSize = {"width": 1400, "height": 900}


@dataclass(frozen=True)
class Field:
    """A parameter in a form."""

    name: str
    optional: bool
    description: str
    dropdown: bool
    value: str


class PrefectUI:
    """One page of a browser, and the API that it shows."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        page.set_default_timeout(_PATIENCE_MS)
        expect.set_options(timeout=_PATIENCE_MS)

    def api(self, path: str, **body: Any) -> Any:
        """What the API says to a POST."""
        answer = httpx.post(f"{self.url}/api{path}", json=body, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def deployment(self, name: str) -> str:
        """A deployment's id."""
        return next(str(item["id"]) for item in self.api("/deployments/filter") if item["name"] == name)

    def flow_run(self, name: str) -> str:
        """The id of the first run whose name begins so."""
        runs = self.api(
            "/flow_runs/filter", sort="START_TIME_ASC", flow_runs={"name": {"like_": name}, "state": {"type": {"any_": ["COMPLETED"]}}}
        )
        return str(runs[0]["id"])

    def artifact(self, key: str) -> str:
        """The id of the first artifact of that key."""
        return str(self.api("/artifacts/filter", sort="UPDATED_DESC", artifacts={"key": {"any_": [key]}})[-1]["id"])

    def open_form(self, deployment: str) -> dict[str, Field]:
        """Opens the form in which a person starts a deployment; the fields in the order of the page."""
        self.page.goto(f"{self.url}/deployments/deployment/{self.deployment(deployment)}/run")
        expect(self.page.locator(".schema-form-property__description").first).to_be_visible()
        return {field.name: field for field in map(_field, self.page.locator(".schema-form-property").all())}

    def open_dropdown(self, name: str) -> list[str]:
        """Opens a field's dropdown, and leaves it open; what it offers."""
        self._property(name).locator(".p-select-button__control").focus()
        self.page.keyboard.press("ArrowDown")  # Chromium opens it by mouse too, but closes it again on the label's click
        options = self.page.locator(".p-select-option")
        expect(options.first).to_be_visible()
        return [text.strip() for text in options.all_inner_texts()]

    def choose(self, name: str, option: str) -> None:
        """Chooses from a dropdown."""
        self.open_dropdown(name)
        self.page.locator(".p-select-option").get_by_text(option, exact=True).click()
        expect(self._property(name).locator(".p-select-button__value")).to_have_text(option)

    def fill(self, name: str, text: str) -> None:
        """Types into a field."""
        self._property(name).locator("textarea, input").first.fill(text)

    def submit(self) -> None:
        """Presses the form's button."""
        self.page.get_by_role("button", name="Submit").click()

    def quick_run(self, deployment: str) -> str:
        """Starts a deployment by *Quick run*, with the parameters that it has, which the dialog shows; the run's id."""
        self.page.goto(f"{self.url}/deployments/deployment/{self.deployment(deployment)}")
        self.page.get_by_role("button", name="Run", exact=True).first.click()
        self.page.get_by_text("Quick run", exact=True).click()
        with self.page.expect_response(lambda answer: "/create_flow_run" in answer.url and answer.ok) as made:
            self.page.locator(".p-modal, [role=dialog]").get_by_role("button", name="Run", exact=True).click()
        return str(made.value.json()["id"])

    def open_graph(self, run: str) -> list[str]:
        """Opens a run and its graph, laid out in the order of time; the labels that the page was given to draw (the graph itself is a canvas)."""
        with self.page.expect_response(lambda answer: f"/flow_runs/{run}/graph" in answer.url and answer.ok) as graph:
            self.page.goto(f"{self.url}/runs/flow-run/{run}")
        expect(self.page.locator("canvas").first).to_be_visible()
        self.page.get_by_label("Run Graph Options").click()
        self.page.get_by_text("Temporal sequence").click()
        self.page.keyboard.press("Escape")
        self.page.locator("#logs").click()  # leaves the menu
        nodes = [node for _, node in graph.value.json()["nodes"]]
        return [str(node["label"]) for node in sorted(nodes, key=lambda node: str(node["start_time"]))]

    def task_runs(self) -> dict[str, str]:
        """The tab that lists an open run's tasks: name and state, the oldest first."""
        self.page.locator("#task-runs").click()
        items = self.page.locator(".task-run-list-item")
        expect(items.first).to_be_visible()
        found = [(item.inner_text().split("\n"), item.locator(".state-badge, .p-tag").all_inner_texts()) for item in items.all()]
        return {lines[0]: "Completed" if "Completed" in lines else str(tags) for lines, tags in reversed(found)}

    def open_table(self, artifact: str) -> tuple[str, list[list[str]]]:
        """Opens a table artifact; its description, and its lines with the header as the first."""
        self.page.goto(f"{self.url}/artifacts/artifact/{artifact}")
        expect(self.page.locator("table tbody tr").first).to_be_visible()
        lines = [[cell.strip() for cell in row.locator("th, td").all_inner_texts()] for row in self.page.locator("table tr").all()]
        return self.page.locator(".artifact-description, .markdown-renderer").first.inner_text(), lines

    def settle(self) -> None:
        """Waits until the page has loaded what it shows, and its animations have ended: for pictures."""
        self.page.wait_for_load_state("networkidle")
        self.page.evaluate("document.fonts.ready.then(() => true)")
        self.page.wait_for_timeout(1500)

    def _property(self, name: str) -> Locator:
        return next(item for item in self.page.locator(".schema-form-property").all() if _field(item).name == name)


def _field(item: Locator) -> Field:
    label = item.locator(".schema-form-property__label").inner_text()
    select = item.locator(".p-select-button__value")
    dropdown = select.count() > 0
    return Field(
        label.removesuffix("(Optional)").strip(),
        label.endswith("(Optional)"),
        item.locator(".schema-form-property__description").inner_text().strip(),
        dropdown,
        select.inner_text().strip() if dropdown else "",
    )


@contextmanager
def browser(url: str) -> Iterator[PrefectUI]:
    """A fresh browser on a Prefect server's UI."""
    with sync_playwright() as playwright:
        assert CHROMIUM is not None
        chromium = playwright.chromium.launch(executable_path=Path(CHROMIUM), args=list(_FLAGS))
        try:
            page = chromium.new_page(viewport=SIZE, color_scheme="dark", locale="en-GB", timezone_id="UTC")
            yield PrefectUI(page, url)
        finally:
            chromium.close()
