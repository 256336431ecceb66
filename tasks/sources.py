"""Where a service's credentials come from: one line of fleet.yaml, for a service, an environment or the whole fleet.

`vault` is a KV version 2 secret at `vault.path`, and what holds where nothing is written. `{dynamic: database/creds/ROLE}` is a short-lived
PostgreSQL login. `{files: /DIRECTORY}` is a mounted Kubernetes Secret, `variables` are the worker's own POSTGRES_* or CLICKHOUSE_*.
"""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class SourceKind(enum.StrEnum):
    """The kinds of source; each is a word of fleet.yaml."""

    VAULT = "vault"
    DYNAMIC = "dynamic"
    FILES = "files"
    VARIABLES = "variables"


_EXAMPLES = "vault, variables, {dynamic: database/creds/ROLE} or {files: /DIRECTORY}"
_CREDS = re.compile(r"[^\s/][^\s]*/creds/[^\s/]+")
_PREFIX = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|")


class Source(BaseModel):
    """A source. References only; `{environment}`, `{service}` and `{store}` in its texts are replaced.

    Attributes:
        place: of `dynamic` the path that is read, of `files` the directory, of `variables` what the names begin with (envFrom's prefix).
        host: of `dynamic`: where the database listens. Empty: the KV secret at `vault.path` says it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: SourceKind
    place: str = ""
    host: str = ""

    def filled(self, fill: Callable[[str], str]) -> Source:
        """The source with its words in braces replaced."""
        return self.model_copy(update={"place": fill(self.place), "host": fill(self.host)})

    @model_validator(mode="before")
    @classmethod
    def _written(cls, value: Any) -> Any:
        """Reads the two ways of writing: a word, or a mapping of one word to its place."""
        if isinstance(value, str):
            value = {value: ""}
        if not isinstance(value, Mapping) or "kind" in value:
            return value
        words = [word for word in value if word in set(SourceKind)]
        host = value.get("host", "")
        strange = [str(word) for word in value if word not in words and word != "host"]
        if strange or len(words) != 1:
            near = difflib.get_close_matches(strange[0], list(SourceKind), n=1) if strange else []
            what = f'"{strange[0]}" is no source of credentials' if strange else "credentials have one source"
            raise ValueError(f"{what}: {f'did you mean {near[0]}? ' if near else ''}write {_EXAMPLES}")
        kind, place = SourceKind(words[0]), value[words[0]]
        if not isinstance(place or "", str) or not isinstance(host, str):
            raise ValueError(f"what follows {kind} is a text: write {_EXAMPLES}")
        return {"kind": kind, "place": (place or "").strip(), "host": host.strip()}

    @model_validator(mode="after")
    def _fits(self) -> Source:
        if self.kind is SourceKind.DYNAMIC and not _CREDS.fullmatch(self.place):
            raise ValueError("dynamic names the path that gives a login: write {dynamic: database/creds/ROLE}")
        if self.kind is SourceKind.FILES and not self.place.startswith("/"):
            raise ValueError("files names an absolute directory: write {files: /run/secrets/{service}}")
        if self.kind is SourceKind.VARIABLES and not _PREFIX.fullmatch(self.place):
            raise ValueError("variables takes what their names begin with: write variables, or {variables: AUTH_} for AUTH_POSTGRES_HOST")
        if self.kind is SourceKind.VAULT and self.place:
            raise ValueError("vault takes nothing here: write vault; the path is vault.path of the fleet")
        if self.host and self.kind is not SourceKind.DYNAMIC:
            raise ValueError("host goes with dynamic: the other sources hold it themselves")
        return self


VAULT = Source(kind=SourceKind.VAULT)
"""Where credentials come from where nothing is written."""
