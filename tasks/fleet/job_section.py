"""The settings of a migration Job: the section `job` of fleet.yaml, for the fleet and for a service. References only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Job(BaseModel):
    """The settings of a migration Job (mode `job`). `{environment}`, `{service}`, `{store}` and `{migrations}` are replaced in its texts.

    A service's own `job` overrides the fleet's, field by field. `image` is the repository, without a tag: each run names the release's. `directory`
    is the directory of the migrations in that image; `secret` the Kubernetes Secret with the keys host, port, username, password and database.
    `external_secret` is the ExternalSecret that makes this Secret: a run has it synced anew and waits for that; empty: nobody asks.
    `user` is the uid that the container runs as.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    image: str = ""
    directory: str = "/app/{migrations}"
    secret: str = "{service}-{store}-credentials"
    external_secret: str = ""
    command: Annotated[tuple[str, ...], Field(min_length=1)] = ("greylag",)
    service_account: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    user: Annotated[int, Field(ge=1)] = 65532
    resources: Mapping[str, Mapping[str, str]] = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
    annotations: Mapping[str, str] = {}
    node_selector: Mapping[str, str] = {}

    @model_validator(mode="after")
    def _places(self) -> Job:
        if not self.directory.startswith("/"):
            raise ValueError(f'directory: "{self.directory}" is not absolute: it is a place in the image')
        if "@" in self.image or ":" in self.image.rpartition("/")[2]:
            raise ValueError(f'image: "{self.image}" has a tag or a digest: give the repository alone, each run names the release')
        return self

    def overridden(self, other: Job) -> Job:
        """Returns a copy in which the fields that `other` sets replace this one's."""
        return self.model_copy(update={name: getattr(other, name) for name in other.model_fields_set})

    def filled(self, fill: Callable[[str], str]) -> Job:
        """Returns a copy with the words in braces replaced."""
        return self.model_copy(update={name: fill(getattr(self, name)) for name in TEMPLATES})

    def reference(self, given: str) -> str:
        """Returns the release's image as the cluster knows it, for a run's `image`: a tag (`1.4.2`), a digest (`sha256:…`), or a whole reference, which
        is taken as it is. Without a repository every text is taken as it is; an empty text stays empty.
        """
        if not given or not self.image or "/" in given:
            return given
        if given.startswith(("@", ":")):
            return self.image + given
        return f"{self.image}{'@' if given.startswith('sha256:') else ':'}{given}"


TEMPLATES = ("image", "directory", "secret", "external_secret", "service_account")
"""The texts that may hold words in braces."""

WORDS = frozenset({"environment", "service", "store", "migrations"})
"""The words that may stand in the braces."""
