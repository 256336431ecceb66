"""The sources `files` (a mounted Secret) and `variables` (the worker's own variables). Both are read anew each time, because kubelets renew files."""

from __future__ import annotations

import os
import re
from pathlib import Path

from migrator.address import mounted_secret
from tasks.credentials.source import Credentials, SecretReader, Source, Wanted, credentials, named_as_variables
from tasks.settings import Settings

_PREFIX = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|")


class MountedFiles(Source):
    """A directory with one file for each key."""

    word = "files"
    example = "{files: /DIRECTORY}"

    def problem(self) -> str:
        return "" if self.place.startswith("/") else "files names an absolute directory: write {files: /run/secrets/{service}}"

    def read(self, target: Wanted, settings: Settings, reader: SecretReader | None = None) -> Credentials:
        names = {name for aliases in self.key_names(target).values() for name in aliases}
        found = mounted_secret.read(
            Path(self.place),
            names,
            name=f"{target.label}: the directory {self.place}",
            hint=f"mount the Secret at {self.place}, or correct `credentials` in fleet.yaml",
        )
        return credentials(found, target)

    def key_names(self, target: Wanted) -> dict[str, tuple[str, ...]]:
        """Returns the names of the files: each may be named as the key in Vault or as the variable, because Secrets use both."""
        named = named_as_variables(target)
        return {part: (*own, *named[part]) for part, own in super().key_names(target).items()}

    def remedy(self, target: Wanted, key: str, value: str = "…") -> str:
        return f'give the Secret that is mounted at {self.place} the key "{key}"'


class Variables(Source):
    """POSTGRES_* or CLICKHOUSE_* of the worker; `place` is a prefix of their names (as in envFrom)."""

    word = "variables"
    example = "variables"
    aliased = False

    def problem(self) -> str:
        if _PREFIX.fullmatch(self.place):
            return ""
        return "variables takes what their names begin with: write variables, or {variables: AUTH_} for AUTH_POSTGRES_HOST"

    def read(self, target: Wanted, settings: Settings, reader: SecretReader | None = None) -> Credentials:
        names = {name for aliases in self.key_names(target).values() for name in aliases}
        return credentials({name: os.environ[name] for name in os.environ if name in names}, target)

    def key_names(self, target: Wanted) -> dict[str, tuple[str, ...]]:
        return named_as_variables(target, self.place)

    def reference(self, target: Wanted) -> str:
        return f"{self.place}{target.engine.upper()}_*"

    def remedy(self, target: Wanted, key: str, value: str = "…") -> str:
        return f"set {key}={value} for the worker"

    def variables(self, target: Wanted) -> frozenset[str]:
        return frozenset(self.key_names(target)["password"])
