"""The pictures of docs/images, made anew: `python -m tests.browser.screenshots [URL]`.

Without an address it runs the demo in a temporary directory first; with one it takes a Prefect server where the demo has run, e.g. that of
`make demo KEEP=1`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tasks import approval
from tests import demonstration
from tests.browser.ui import PrefectUI, browser

IMAGES = demonstration.ROOT / "docs/images"


def take(ui: PrefectUI) -> None:
    """Takes the four pictures that docs/screenshots.md shows."""
    ui.open_form("deploy-service-dev")
    ui.open_dropdown("service")
    _save(ui, "form")
    ui.open_graph(ui.flow_run("deploy-service auth-service dev"))
    _save(ui, "graph")
    plan = ui.flow_run("approve-release prod")
    given = next(run for run in ui.api("/flow_runs/filter", flow_runs={"id": {"any_": [plan]}}))["parameters"]
    ui.page.set_viewport_size({"width": 1400, "height": 1050})
    ui.open_form("approve")
    ui.choose("environment", "prod")
    for name, text in {
        "bundle": given["bundle"],
        "plan": given["plan"],
        "approver": "Ada Lovelace",
        "reason": "CHG-1042: release 12",
    }.items():
        ui.fill(name, text)
    assert ui.open_dropdown("confirm") == [approval.CONFIRMATION.format(environment="prod")]
    _save(ui, "approval")
    ui.page.set_viewport_size({"width": 1800, "height": 640})
    ui.open_table(ui.artifact("result-prod"))
    _save(ui, "result")


def _save(ui: PrefectUI, name: str) -> None:
    ui.settle()
    path = IMAGES / f"{name}.png"
    ui.page.screenshot(path=path)
    print(f"{path.relative_to(demonstration.ROOT)}: {path.stat().st_size:,} bytes")


def main() -> int:
    """Takes the pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    if sys.argv[1:]:
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
