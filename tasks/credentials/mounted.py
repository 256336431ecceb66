"""Credentials that Kubernetes brings: the files of a mounted Secret, or the worker's own variables. Read anew each time: kubelets renew files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from migrator import mounted_secret
from tasks.credentials import secret
from tasks.fleet.models import Target
from tasks.sources import SourceKind


def read(target: Target, environment: Mapping[str, str] = os.environ) -> secret.Credentials:
    """The credentials that a target's `files` or `variables` hold.

    Raises NotFound (`secret-missing`, `key-missing`), UsageError (`bad-secret`, `bad-port`).
    """
    names = {name for aliases in secret.keys(target).values() for name in aliases}
    if target.source.kind is SourceKind.VARIABLES:
        return secret.credentials({name: environment[name] for name in environment if name in names}, target)
    directory = Path(target.source.place)
    found = mounted_secret.read(
        directory,
        names,
        name=f"{target.label}: the directory {directory}",
        hint=f"mount the Secret at {directory}, or correct `credentials` in fleet.yaml",
    )
    return secret.credentials(found, target)
