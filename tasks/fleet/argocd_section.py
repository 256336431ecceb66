"""Argo CD's settings: the section `argocd` of fleet.yaml, for the fleet, an environment and a service. No secret: the token is the worker's setting."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class Sync(enum.StrEnum):
    """The ways to an operation: a run starts it, or follows one that somebody else starts (auto-sync, a pipeline, a person)."""

    START = "start"
    FOLLOW = "follow"


def _address(value: str) -> str:
    if value and not value.startswith(("http://", "https://")):
        raise ValueError(f'"{value}" is no address: it begins with https:// (or http:// on a developer\'s machine)')
    if "@" in value or "?" in value:
        raise ValueError("an address holds no user, password or query")
    return value.rstrip("/")


class ArgoCD(BaseModel):
    """The settings of mode `argocd`. `{environment}` and `{service}` are replaced in its texts.

    A service's section overrides its environment's, and this one the fleet's, field by field. `server` is the address of Argo CD's API; `application`
    the service's application, in the project `project` and, where applications live in other namespaces than Argo CD's own, in `namespace`. `sync` says
    who starts the operation; `prune` whether a sync that a run starts deletes what is no longer in Git.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    server: Annotated[str, AfterValidator(_address)] = ""
    application: str = "{service}-{environment}"
    project: str = "default"
    namespace: str = ""
    sync: Sync = Sync.START
    prune: bool = False

    def overridden(self, other: ArgoCD) -> ArgoCD:
        """Returns a copy in which the fields that `other` sets replace this one's."""
        return self.model_copy(update={name: getattr(other, name) for name in other.model_fields_set})

    def filled(self, fill: Callable[[str], str]) -> ArgoCD:
        """Returns a copy with the words in braces replaced."""
        return self.model_copy(update={name: fill(getattr(self, name)) for name in TEMPLATES})


TEMPLATES = ("server", "application", "project", "namespace")
"""The texts that may hold words in braces."""

WORDS = frozenset({"environment", "service"})
"""The words that may stand in the braces."""
