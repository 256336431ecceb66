"""The pictures of docs/images, made anew: `python -m tests.browser.screenshots [URL]`; `… waiting` makes those of a signed promotion that waits, and of one
that failed, on the demo that `make attack` attacks.

Without an address it runs the demo in a temporary directory first; with one it takes a Prefect server where the demo has run, e.g. that of
`make demo KEEP=1`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tasks import approval
from tests import demonstration
from tests.browser.ui import PrefectUI, browser

if TYPE_CHECKING:
    from tests.attacks.siege import Siege

IMAGES = demonstration.ROOT / "docs/images"


def take(ui: PrefectUI) -> None:
    """Takes the pictures of docs/screenshots.md that a finished demo shows."""
    ui.open_form("deploy-service-dev")
    ui.open_dropdown("service")
    _save(ui, "form")
    ui.open_graph(ui.flow_run("deploy-service auth-service dev"))
    _save(ui, "graph")
    ui.page.set_viewport_size({"width": 1800, "height": 640})
    ui.open_table(ui.artifact("result-prod"))
    _save(ui, "result")


def take_waiting(siege: Siege) -> None:
    """Takes a promotion that waits for two persons, the form as one of them fills it in, and a promotion that release's data stopped."""
    from flows import plan_documents

    parameters = siege.people.promoted(siege.stack.fleet)
    run = siege.start("promote-release/promote", until="prod", **parameters)
    _until(siege, run, "AwaitingApproval")
    with browser(siege.stack.prefect.url) as ui:
        ui.page.set_viewport_size({"width": 1400, "height": 760})
        ui.page.goto(f"{ui.url}/runs/flow-run/{run}")
        ui.page.locator("#logs").click()
        _save(ui, "waiting")
        found = plan_documents.read("prod")[0]
        manifest = found.approval.manifest
        ui.page.set_viewport_size({"width": 1400, "height": 1130})
        ui.open_form("approve")
        ui.choose("environment", "prod")
        for name, text in {
            "bundle": manifest.bundle,
            "plan": manifest.plan,
            "approver": "Ada Lovelace",
            "reason": "CHG-1042: release 12",
            "signature": siege.people.signed(found, "ada"),
        }.items():
            ui.fill(name, text)
        ui.choose("confirm", approval.CONFIRMATION.format(environment="prod"))
        _save(ui, "approval")
        siege.api("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        _until(siege, run, "Cancelled")
        failed = _stopped_by_data(siege)
        ui.page.set_viewport_size({"width": 1400, "height": 760})
        ui.page.goto(f"{ui.url}/runs/flow-run/{failed}")
        ui.page.locator("#details").click()
        ui.page.get_by_text("See More").first.click()
        _save(ui, "failed")


def _stopped_by_data(siege: Siege) -> str:
    """Promotes a file that dev's data take and release's don't; the id of the run that failed in release."""
    siege.sql("INSERT INTO notes VALUES (1, 'ada'), (2, 'ada')", environment="release")
    name = "20990102000000_notes_have_one_owner_each.sql"
    text = "-- +goose Up\nALTER TABLE notes ADD CONSTRAINT notes_owner_unique UNIQUE (owner);\n"
    with siege.merged(f"services/auth-service/migrations/{name}", text):
        siege.ended(siege.start("promote-release/promote", until="release"))
        wanted = {"flows": {"name": {"any_": ["deploy-environment"]}}, "flow_runs": {"state": {"type": {"any_": ["FAILED"]}}}}
        return str(siege.api("POST", "/flow_runs/filter", {**wanted, "sort": "START_TIME_DESC", "limit": 1})[0]["id"])


def _until(siege: Siege, run: str, name: str) -> None:
    deadline = time.monotonic() + 300
    while siege.api("GET", f"/flow_runs/{run}")["state_name"] != name:
        if time.monotonic() > deadline:
            raise TimeoutError(f"run {run} never became {name}")
        time.sleep(1)


def _save(ui: PrefectUI, name: str) -> None:
    ui.settle()
    path = IMAGES / f"{name}.png"
    ui.page.screenshot(path=path)
    print(f"{path.relative_to(demonstration.ROOT)}: {path.stat().st_size:,} bytes")


def _waiting() -> int:
    from tests.attacks import siege

    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)
        with siege.laid(Path(directory)) as found:
            take_waiting(found)
            for name, wall in found.walls.items():
                print(f"{name}: {sorted(wall.seen)}", flush=True)
    return 0


def main() -> int:
    """Takes the pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    if sys.argv[1:]:
        if sys.argv[1] == "waiting":
            return _waiting()
        with browser(sys.argv[1]) as ui:
            take(ui)
        return 0
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory)
        state.chmod(0o711)  # PostgreSQL's unprivileged user passes through it
        with demonstration.running(state / "demo", "--keep") as demo:
            demo.wait_for(demonstration.READY)
            with browser(demo.wait_for(r"Prefect UI: (\S+)").group(1)) as ui:
                take(ui)
    return 0


if __name__ == "__main__":
    sys.exit(main())
