"""The flows that a worker starts: by name, from its own checkout or image. No module, path or command ever comes from the Prefect server."""

from __future__ import annotations

import enum
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect import Flow


class Kind(enum.StrEnum):
    """The kinds of work pools: an environment's holds its login, the promotion's holds none."""

    ENVIRONMENT = "environment"
    PROMOTION = "promotion"


@dataclass(frozen=True)
class Entry:
    """A flow: its name on the server, its place in the checkout, and the kind of pool that it runs in."""

    name: str
    module: str
    function: str
    kind: Kind

    @property
    def entrypoint(self) -> str:
        """Returns its place as prefect.yaml writes it."""
        return f"{self.module.replace('.', '/')}.py:{self.function}"

    def load(self) -> Flow[..., Any]:
        """Imports the flow. Raises what its module raises: a fleet.yaml that can't be read, for example."""
        found: Flow[..., Any] = getattr(importlib.import_module(self.module), self.function)
        return found


ENTRIES = {
    item.name: item
    for item in (
        Entry("deploy-service", "flows.deploy_service", "deploy_service", Kind.ENVIRONMENT),
        Entry("deploy-environment", "flows.deploy_environment", "deploy_environment", Kind.ENVIRONMENT),
        Entry("verify-environment", "flows.verify_environment", "verify_environment", Kind.ENVIRONMENT),
        Entry("plan-environment", "flows.plan_environment", "plan_environment", Kind.ENVIRONMENT),
        Entry("rollback-service", "flows.rollback_service", "rollback_service", Kind.ENVIRONMENT),
        Entry("promote-release", "flows.promote_release", "promote_release", Kind.PROMOTION),
        Entry("approve-release", "flows.approve_release", "approve_release", Kind.PROMOTION),
    )
}
"""Every flow by its name on the server. A new one needs a line here; tests/unit/test_worker.py compares this with prefect.yaml."""


def of(kind: Kind) -> dict[str, Entry]:
    """Returns the flows of a kind of pool."""
    return {name: item for name, item in ENTRIES.items() if item.kind is kind}
