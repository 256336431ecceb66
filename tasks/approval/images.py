"""Pins the image of a release: only from the repositories that are allowed, and by its digest, which a tag is resolved to once, when planning.

A registry is asked over the OCI distribution API: HEAD of a manifest, with a bearer token where it asks for one.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from migrator import errors
from tasks.rollout import images

if TYPE_CHECKING:
    import httpx

_TIMEOUT = 15.0

_ACCEPTED = ", ".join(
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ]
)
"""The index first: it stands for the image on every platform."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


def require_allowed(image: str, repositories: Sequence[str], label: str) -> images.Reference:
    """Returns the reference, if its repository is one of those. Raises PlanRefused (`image-refused`), UsageError (`bad-image`)."""
    found = images.parse(image)
    allowed = [images.parse(item) for item in repositories]
    if not found.repository or (found.registry, found.repository) not in [(item.registry, item.repository) for item in allowed]:
        raise errors.PlanRefused(
            f"{label}: the image {image} is not from {' or '.join(repositories) or 'a repository that is allowed'}",
            code="image-refused",
            hint="`images` of the worker's policy names the repositories, or job.image of fleet.yaml where it has none",
        )
    return found


def pinned(image: str, repositories: Sequence[str], label: str, credentials: Path | None = None) -> str:
    """Returns the image by its digest: `registry/repository@sha256:…`; a tag is resolved by asking its registry.

    Raises as `require_allowed`; NotFound (`image-unknown`), LoginFailed (`registry-login`), Unavailable (`registry-unreachable`).
    """
    found = require_allowed(image, repositories, label)
    digest = found.digest or _resolved(found, credentials)
    return f"{found.registry}/{found.repository}@{digest}"


def _resolved(reference: images.Reference, credentials: Path | None) -> str:
    import httpx

    # Docker Hub answers under another name than its images have
    host = "registry-1.docker.io" if reference.registry == images.DEFAULT_REGISTRY else reference.registry
    scheme = "http" if host.partition(":")[0] in ("localhost", "127.0.0.1") else "https"
    place = f"{scheme}://{host}/v2/{reference.repository}/manifests/{reference.tag}"
    login = _login(reference.registry, credentials)
    try:
        with httpx.Client(timeout=_TIMEOUT, follow_redirects=False) as client:
            answer = client.head(place, headers={"Accept": _ACCEPTED})
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                authorization = _authorised(client, answer, reference, login)
                answer = client.head(place, headers={"Accept": _ACCEPTED, "Authorization": authorization})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(reference, type(error).__name__) from None
    if answer.status_code in (401, 403):
        raise errors.LoginFailed(
            f"{reference.registry} does not let this worker look at {reference.repository}",
            code="registry-login",
            hint="`registry_credentials` of the policy names a file as Docker's config.json; or give the image by its digest",
        )
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise errors.NotFound(
            f"{reference.registry}/{reference.repository} has no tag {reference.tag}",
            code="image-unknown",
            hint="push the image, then plan again",
        )
    digest = str(answer.headers.get("docker-content-digest", ""))
    if answer.status_code != httpx.codes.OK or not _DIGEST.fullmatch(digest):
        raise _unreachable(reference, f"answer {answer.status_code} without a digest")
    return digest


def _authorised(client: httpx.Client, answer: httpx.Response, reference: images.Reference, login: str) -> str:
    """Returns the header that answers a registry's challenge."""
    challenge = answer.headers.get("www-authenticate", "")
    if not challenge.lower().startswith("bearer "):
        return f"Basic {login}"
    given = dict(_CHALLENGE.findall(challenge))
    realm = given.get("realm", "")
    if not realm.startswith("https://") and not realm.startswith(f"http://{reference.registry}"):
        raise _unreachable(reference, "its challenge names no safe place for a token")
    asked = {"service": given.get("service", ""), "scope": f"repository:{reference.repository}:pull"}
    token = client.get(realm, params=asked, headers={"Authorization": f"Basic {login}"} if login else {})
    try:
        found = token.json()
        return f"Bearer {found.get('token') or found['access_token']}"
    except (ValueError, KeyError, AttributeError):
        raise _unreachable(reference, "it gave no token") from None


def _login(registry: str, credentials: Path | None) -> str:
    """Returns a registry's `auth` in a file as Docker's config.json; empty when it has none."""
    if credentials is None:
        return ""
    try:
        auths = json.loads(credentials.read_text(encoding="utf-8")).get("auths", {})
        for name, item in auths.items():
            if name.removeprefix("https://").partition("/")[0] in (registry, f"index.{registry}"):
                return str(item.get("auth") or base64.b64encode(f"{item['username']}:{item['password']}".encode()).decode("ascii"))
    except (OSError, ValueError, AttributeError, KeyError):
        raise errors.UsageError(
            f"{credentials} can't be read as Docker's config.json", code="bad-policy", hint="`registry_credentials` of the policy names it"
        ) from None
    return ""


def _unreachable(reference: images.Reference, reason: str) -> errors.Unavailable:
    return errors.Unavailable(
        f"{reference.registry} can't say which digest {reference.repository}:{reference.tag} has: {reason}",
        code="registry-unreachable",
        hint="give the image by its digest, or let the worker reach the registry",
    )
