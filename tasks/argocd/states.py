"""An Argo CD application as far as a run needs it, read from the API's own JSON. Pure; unknown fields are ignored, unknown phases are kept."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from migrator import errors

Json = Mapping[str, Any]


class Phase(enum.StrEnum):
    """The phases of an operation, as Argo CD names them."""

    RUNNING = "Running"
    TERMINATING = "Terminating"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    ERROR = "Error"


FINAL = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.ERROR})
"""The phases that nothing follows. `finishedAt` is none of them: it is set between two attempts too (argocd.md §3)."""


class State(BaseModel):
    """Base of what is read; never changes."""

    model_config = ConfigDict(frozen=True)


class Hook(State):
    """A hook of an operation: a resource with `hookType` in `syncResult`."""

    kind: str
    namespace: str
    name: str
    type: str
    phase: str
    message: str = ""
    images: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The hook as people write it: `Job dev/auth-service-migrate`."""
        return f"{self.kind} {self.namespace}/{self.name}"


class Asked(State):
    """What an operation was asked to do, and by whom. `infos` are its name-value pairs, `partial` whether it was limited to some resources."""

    infos: tuple[tuple[str, str], ...] = ()
    revision: str = ""
    dry_run: bool = False
    partial: bool = False
    by: str = ""
    automated: bool = False

    def says(self, name: str) -> str:
        """Returns the value of an info; empty when there is none."""
        return dict(self.infos).get(name, "")

    @property
    def whose(self) -> str:
        """The one who asked, as people write it."""
        return "Argo CD's auto-sync" if self.automated else (self.by or "somebody")


class Operation(State):
    """`status.operationState`: an operation that has begun."""

    asked: Asked
    phase: Phase
    message: str = ""
    revision: str = ""
    hooks: tuple[Hook, ...] = ()
    synced: int = 0
    finished_at: str = ""
    retries: int = 0

    @property
    def over(self) -> bool:
        """Tells whether nothing more will happen."""
        return self.phase in FINAL


class Differing(State):
    """A resource that is OutOfSync. `missing` tells whether the cluster has none of that name."""

    kind: str
    name: str
    missing: bool = False


class Application(State):
    """An application. `pending` is `.operation`: what is to be done or being done; Argo CD removes it with the last phase."""

    name: str
    pending: Asked | None = None
    operation: Operation | None = None
    sync: str = ""
    health: str = ""
    revision: str = ""
    automated: bool = False
    deleting: bool = False
    conditions: tuple[str, ...] = ()
    differing: tuple[Differing, ...] = ()


def application(found: Json) -> Application:
    """Reads an application. Raises Unavailable (`argocd-unexpected`) when the JSON is none."""
    try:
        metadata, spec, status = found["metadata"], found["spec"], found.get("status") or {}
        state, pending = status.get("operationState"), found.get("operation")
        return Application(
            name=str(metadata["name"]),
            pending=_asked(pending) if pending else None,
            operation=_operation(state) if state else None,
            sync=str((status.get("sync") or {}).get("status", "")),
            health=str((status.get("health") or {}).get("status", "")),
            revision=_revision(status.get("sync") or {}),
            automated=_automated(spec),
            deleting="deletionTimestamp" in metadata,
            conditions=tuple(f"{item.get('type')}: {item.get('message')}" for item in status.get("conditions") or ()),
            differing=tuple(_differing(item) for item in status.get("resources") or () if item.get("status") == "OutOfSync"),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise errors.Unavailable(
            f"Argo CD's answer is no application that can be read ({type(error).__name__})",
            code="argocd-unexpected",
            hint="is argocd.server of fleet.yaml the address of Argo CD's own API, and no proxy's login page? Is it version 2.4 or newer?",
        ) from None


def _differing(item: Json) -> Differing:
    health = (item.get("health") or {}).get("status")
    return Differing(kind=str(item.get("kind", "")), name=str(item.get("name", "")), missing=health == "Missing")


def _revision(found: Json) -> str:
    """Returns the revision; with several sources all of theirs, in their order."""
    return str(found.get("revision") or "") or ",".join(str(item) for item in found.get("revisions") or ())


def _automated(spec: Json) -> bool:
    found = (spec.get("syncPolicy") or {}).get("automated")
    return found is not None and found.get("enabled", True) is not False


def _asked(operation: Json) -> Asked:
    sync, by = operation.get("sync") or {}, operation.get("initiatedBy") or {}
    return Asked(
        infos=tuple((str(item.get("name", "")), str(item.get("value", ""))) for item in operation.get("info") or ()),
        revision=_revision(sync),
        dry_run=bool(sync.get("dryRun")),
        partial=bool(sync.get("resources")),
        by=str(by.get("username", "")),
        automated=bool(by.get("automated")),
    )


def _operation(state: Json) -> Operation:
    result = state.get("syncResult") or {}
    resources: Sequence[Json] = result.get("resources") or ()
    return Operation(
        asked=_asked(state.get("operation") or {}),
        phase=Phase(state["phase"]),
        message=str(state.get("message", "")),
        revision=_revision(result),
        hooks=tuple(_hook(item) for item in resources if item.get("hookType")),
        synced=sum(1 for item in resources if not item.get("hookType")),
        finished_at=str(state.get("finishedAt") or ""),
        retries=int(state.get("retryCount") or 0),
    )


def _hook(item: Json) -> Hook:
    return Hook(
        kind=str(item.get("kind", "")),
        namespace=str(item.get("namespace", "")),
        name=str(item.get("name", "")),
        type=str(item["hookType"]),
        phase=str(item.get("hookPhase", "")),
        message=str(item.get("message", "")),
        images=tuple(str(image) for image in item.get("images") or ()),
    )


class Node(State):
    """A resource of an application's tree."""

    group: str = ""
    version: str
    kind: str
    namespace: str
    name: str


def pods(tree: Json, jobs: Sequence[str]) -> tuple[Node, ...]:
    """Returns the pods of these Jobs (by name) that a resource tree shows, those that are being deleted included."""
    return tuple(
        _node(item)
        for item in tree.get("nodes") or ()
        if item.get("kind") == "Pod"
        and any(parent.get("kind") == "Job" and parent.get("name") in jobs for parent in item.get("parentRefs") or ())
    )


def _node(item: Json) -> Node:
    return Node(
        group=str(item.get("group", "")),
        version=str(item.get("version", "v1")),
        kind=str(item["kind"]),
        namespace=str(item.get("namespace", "")),
        name=str(item.get("name", "")),
    )
