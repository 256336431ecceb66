"""Image references: reads them, and decides whether two name the same image. Pure.

The rules are the ones that container runtimes share (distribution's reference grammar): a name without a registry is Docker Hub's, one without
a slash is in `library/`, one without tag and digest has the tag `latest`, and where there are both a tag and a digest, the digest counts.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from migrator import errors

DEFAULT_REGISTRY = "docker.io"
OFFICIAL = "library"
"""The account in which Docker Hub keeps images whose name has one part."""

DEFAULT_TAG = "latest"

_ALIASES = {"index.docker.io": DEFAULT_REGISTRY, "registry-1.docker.io": DEFAULT_REGISTRY}
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_REGISTRY = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")


class Match(enum.Enum):
    """Whether a workload's image is the wanted one."""

    SAME = "same"
    OTHER = "other"
    UNPROVEN = "unproven"
    """The names don't contradict each other, but one has only a tag and the other only a digest."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An image reference with its defaults filled in.

    Args:
        registry, repository: empty when only a tag or a digest was given (`:2.0.0`, `@sha256:…`), which then matches the workload's image in any
        repository.
        tag: empty when there is a digest and no tag.
        digest: `sha256:…`; empty when there is none.
    """

    registry: str
    repository: str
    tag: str
    digest: str


def parse(text: str) -> Reference:
    """Reads a reference: `repo:tag`, `repo@sha256:…`, `repo:tag@sha256:…`, `repo`; or `:tag`, `@sha256:…`, `sha256:…` alone.

    Raises UsageError (`bad-image`).
    """
    rest, at, digest = ("@" + text if _DIGEST.fullmatch(text) else text).partition("@")
    head, slash, last = rest.rpartition("/")
    last, colon, tag = last.partition(":")
    name = head + slash + last
    registry, repository = _place(name)
    valid = (
        (not at or _DIGEST.fullmatch(digest))
        and (not colon or _TAG.fullmatch(tag))
        and (not name or (_REGISTRY.fullmatch(registry) and _REPOSITORY.fullmatch(repository)))
        and (name or tag or digest)
    )
    if not valid:
        raise errors.UsageError(
            f'"{text}" is not an image reference',
            code="bad-image",
            hint="write registry/repository:tag, registry/repository@sha256:…, or :tag or @sha256:… alone for whatever repository",
        )
    return Reference(registry, repository, tag or ("" if digest else DEFAULT_TAG), digest.lower())


def is_tag(text: str) -> bool:
    """Tells whether the text could be a tag. Many names could be one, too: the fleet knows which of the two it is (`Target.image`)."""
    return bool(_TAG.fullmatch(text))


def compare(wanted: Reference, carried: Reference) -> Match:
    """Tells whether `carried`, the image of a workload's container, is `wanted`. If both have a digest, the tags don't count."""
    if wanted.repository and (wanted.registry, wanted.repository) != (carried.registry, carried.repository):
        return Match.OTHER
    if wanted.digest and carried.digest:
        return Match.SAME if wanted.digest == carried.digest else Match.OTHER
    if wanted.tag and carried.tag:
        if wanted.tag != carried.tag:
            return Match.OTHER
        return Match.UNPROVEN if wanted.digest else Match.SAME
    return Match.UNPROVEN


def digest_of(image_id: str) -> str:
    """Returns the digest in a pod's `imageID` (`repo@sha256:…`, `docker-pullable://repo@sha256:…`); empty for an identity that no registry knows."""
    return image_id.partition("@")[2].lower()


def _place(name: str) -> tuple[str, str]:
    if not name:
        return "", ""
    first, slash, rest = name.partition("/")
    # A first part is a registry only if it looks like one; `acme/web` is an account of Docker Hub.
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        registry, repository = first, rest
    else:
        registry, repository = DEFAULT_REGISTRY, name
    registry = _ALIASES.get(registry.lower(), registry.lower())
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"{OFFICIAL}/{repository}"
    return registry, repository
