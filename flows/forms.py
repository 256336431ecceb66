"""The approval's form and command for one plan, and the page that shows what is to be approved."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from flows import reports
from tasks import approval

DEPLOYMENT = f"{approval.FLOW}/approve"

LEFT_TO_THE_PERSON = frozenset({"confirm"})
"""Fields that a link does not fill in: a form that is complete when it opens can be sent by a slip."""


@dataclass(frozen=True)
class Asked:
    """What is to be approved: the release's digest and that of its plan in the environment."""

    environment: str
    bundle: str
    plan: str

    @property
    def values(self) -> dict[str, str]:
        """Returns the form's values, as a program gives them."""
        confirm = approval.CONFIRMATION.format(environment=self.environment)
        return {"environment": self.environment, "bundle": self.bundle, "plan": self.plan, "confirm": confirm}

    @property
    def command(self) -> str:
        """Returns greylag's own command, up to the reason."""
        return f'greylag approve {self.environment} -bundle {self.bundle} -plan {self.plan} -reason "…"'


def filled(ui: str, deployment_id: str, asked: Asked) -> str:
    """Returns the address of the approval's form with the values filled in (pure). `ui` is the address of Prefect's UI, of either version."""
    given = {name: value for name, value in asked.values.items() if name not in LEFT_TO_THE_PERSON}
    query = urllib.parse.quote(json.dumps(given, separators=(",", ":")), safe="")
    return f"{ui.rstrip('/').removesuffix('/v2')}/v2/deployments/deployment/{deployment_id}/run?parameters={query}"


def link(asked: Asked) -> str:
    """Returns the address of the form; empty where the server has no approval's deployment, or its UI's address isn't known."""
    ui = get_current_settings().ui_url
    if not ui:
        return ""
    with get_client(sync_client=True) as client:
        try:
            return filled(ui, str(client.read_deployment_by_name(DEPLOYMENT).id), asked)
        except ObjectNotFound:
            return ""


def page(asked: Asked, rows: Sequence[reports.Row], address: str) -> str:
    """Returns the page of a plan that waits for its approval, as markdown (pure)."""
    lines = [
        f"# {asked.environment} waits for an approval",
        "",
        f"**[Open the approval's form, filled in]({address})**" if address else "Start `approve-release/approve` in the UI.",
        "Choose the confirmation, and say who you are and why. Or type:",
        "",
        reports.fenced(asked.command, "sh"),
        "",
        "| release | `" + asked.bundle + "` |",
        "|---|---|",
        f"| release plan | `{asked.plan}` |",
        "",
        "| service | migrations | from | to | warnings | bundle | plan |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shown = [str(row.get(name, "")) for name in ("service", "migrations", "from", "to", "warnings")]
        digests = [f"`{str(row.get(name, ''))[:12]}`" for name in ("bundle", "plan")]
        lines.append("| " + " | ".join(reports.cell(text) for text in [*shown, *digests]) + " |")
    pages = ", ".join(f"`plan-{row['service']}-{asked.environment}`" for row in rows if row.get("migrations"))
    return "\n".join([*lines, "", f"The files' own text: the artifacts {pages}."])
