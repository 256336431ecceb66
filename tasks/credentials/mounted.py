"""Credentials that Kubernetes brings: the files of a mounted Secret, or the worker's own variables. Read anew each time: kubelets renew files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from migrator import errors
from tasks.credentials import secret
from tasks.fleet_models import Target
from tasks.sources import SourceKind


def read(target: Target, environment: Mapping[str, str] = os.environ) -> secret.Credentials:
    """The credentials that a target's `files` or `variables` hold.

    Raises NotFound (`secret-missing`: there is no such directory, `key-missing`), UsageError (`bad-secret`, `bad-port`).
    """
    names = {name for aliases in secret.keys(target).values() for name in aliases}
    if target.source.kind is SourceKind.VARIABLES:
        return secret.credentials({name: environment[name] for name in environment if name in names}, target)
    return secret.credentials(_files(target, Path(target.source.place), names), target)


def _files(target: Target, directory: Path, names: set[str]) -> dict[str, str]:
    try:
        present = sorted(path.name for path in directory.iterdir() if not path.name.startswith(".") and path.is_file())
    except OSError as error:
        raise errors.NotFound(
            f"{target.label}: the directory {directory} can't be read: {error.strerror}",
            code="secret-missing",
            hint=f"mount the Secret at {directory}, or correct `credentials` in fleet.yaml",
        ) from None
    # A file that nobody asks for is named, where a key is missing, but not read.
    return {name: _text(directory / name) if name in names else "" for name in present}


def _text(path: Path) -> str:
    """A file's text without the one line break that `echo` leaves at the end of what it writes; spaces may belong to a password."""
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise errors.UsageError(
            f"{path} can't be read: {reason}", code="bad-secret", hint=f"write {path.name} anew into its Secret"
        ) from None
    return text.removesuffix("\n").removesuffix("\r")
