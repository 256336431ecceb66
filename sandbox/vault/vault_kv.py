"""The two key-value engines of Vault, in memory: v2 with versions, soft deletion, destruction and check-and-set, and plain v1.

Each operation returns the body's `data`, or raises `Refused` with the status and the errors that OpenBao 2.4 answers (vault.md §2).
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_KEPT_VERSIONS = 10  # Vault's default for max_versions = 0
WRONG_V1_PATH = (
    "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use. "
    "If using the Vault CLI, use 'vault kv get' for this operation."
)


class Refused(Exception):
    """An answer other than success.

    Args:
        status: HTTP status.
        messages: the body's `errors`.
        data: a body's `data` in place of errors (a deleted version).
        warnings: the body's `warnings`.
    """

    def __init__(self, status: int, *messages: str, data: Mapping[str, Any] | None = None, warnings: tuple[str, ...] = ()) -> None:
        super().__init__(status, *messages)
        self.status = status
        self.messages = list(messages)
        self.data = data
        self.warnings = list(warnings)


@dataclasses.dataclass(slots=True)
class Version:
    """One version of a secret; `data` is None once it is destroyed."""

    data: dict[str, Any] | None
    created: str
    deleted: str = ""
    destroyed: bool = False

    def metadata(self, number: int, custom: Mapping[str, str] | None) -> dict[str, Any]:
        """The `metadata` beside a version's data."""
        return {
            "created_time": self.created,
            "custom_metadata": custom,
            "deletion_time": self.deleted,
            "destroyed": self.destroyed,
            "version": number,
        }


@dataclasses.dataclass(slots=True)
class Secret:
    """Every version of one path; numbers count from 1."""

    created: str
    updated: str
    versions: dict[int, Version] = dataclasses.field(default_factory=dict)
    current: int = 0
    cas_required: bool = False
    max_versions: int = 0
    custom: dict[str, str] | None = None


class Versioned:
    """A KV v2 mount."""

    version = 2

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._secrets: dict[str, Secret] = {}
        self.config: dict[str, Any] = {"cas_required": False, "delete_version_after": "0s", "max_versions": 0}

    def exists(self, path: str) -> bool:
        """Whether a write to this path would update rather than create."""
        return path in self._secrets

    def read(self, path: str, number: int = 0) -> dict[str, Any]:
        """A version's data and metadata; 0 is the current one."""
        secret = self._secrets.get(path)
        number = number or (secret.current if secret else 0)
        if secret is None or number not in secret.versions:
            raise Refused(404)
        version = secret.versions[number]
        body = {"data": version.data, "metadata": version.metadata(number, secret.custom)}
        if version.deleted or version.destroyed:
            raise Refused(404, data=body | {"data": None})
        return body

    def write(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A new version, which must hold `data`; `options.cas` is compared with the current version."""
        if not isinstance(body.get("data"), dict):
            raise Refused(400, "no data provided")
        secret = self._secrets.get(path)
        expected = (body.get("options") or {}).get("cas")
        if expected is None and (self.config["cas_required"] or (secret is not None and secret.cas_required)):
            raise Refused(400, "check-and-set parameter required for this call")
        if expected is not None and int(expected) != (secret.current if secret else 0):
            raise Refused(400, "check-and-set parameter did not match the current version")
        secret = self._secret(path)
        secret.current += 1
        secret.updated = self._now()
        version = secret.versions[secret.current] = Version(dict(body["data"]), secret.updated)
        kept = secret.max_versions or self.config["max_versions"] or _KEPT_VERSIONS
        for old in [number for number in secret.versions if number <= secret.current - kept]:
            del secret.versions[old]
        return version.metadata(secret.current, secret.custom)

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A new version made of the current one with these keys replaced; null removes a key (RFC 7396)."""
        merged = dict(self.read(path)["data"])
        for key, value in (body.get("data") or {}).items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = value
        return self.write(path, {"data": merged, "options": body.get("options")})

    def delete(self, path: str, numbers: Iterable[int] | None = None) -> None:
        """Soft-deletes versions (None: the current one). What does not exist is silently passed over, as Vault does."""
        for version in self._existing(path, numbers):
            if not version.destroyed:
                version.deleted = version.deleted or self._now()

    def undelete(self, path: str, numbers: Iterable[int]) -> None:
        """Takes soft deletions back; a destroyed version stays destroyed."""
        for version in self._existing(path, numbers):
            if not version.destroyed:
                version.deleted = ""

    def destroy(self, path: str, numbers: Iterable[int]) -> None:
        """Removes the data of versions for good."""
        for version in self._existing(path, numbers):
            version.data, version.destroyed = None, True

    def metadata(self, path: str) -> dict[str, Any]:
        """What is known about a path without reading it."""
        secret = self._secrets.get(path)
        if secret is None:
            raise Refused(404)
        versions = {
            str(number): {"created_time": each.created, "deletion_time": each.deleted, "destroyed": each.destroyed}
            for number, each in secret.versions.items()
        }
        return {
            "cas_required": secret.cas_required,
            "created_time": secret.created,
            "current_version": secret.current,
            "custom_metadata": secret.custom,
            "delete_version_after": "0s",
            "max_versions": secret.max_versions,
            "oldest_version": min(secret.versions, default=0),
            "updated_time": secret.updated,
            "versions": versions,
        }

    def write_metadata(self, path: str, body: Mapping[str, Any]) -> None:
        """Sets `cas_required`, `max_versions`, `custom_metadata`."""
        secret = self._secret(path)
        secret.cas_required = bool(body.get("cas_required", secret.cas_required))
        secret.max_versions = int(body.get("max_versions") or secret.max_versions)
        secret.custom = body.get("custom_metadata", secret.custom)

    def forget(self, path: str) -> None:
        """Deletes every version and the metadata."""
        self._secrets.pop(path, None)

    def keys(self, prefix: str) -> list[str]:
        """The next path segments below a prefix; folders end with `/`."""
        return _keys(self._secrets, prefix)

    def _existing(self, path: str, numbers: Iterable[int] | None) -> list[Version]:
        secret = self._secrets.get(path)
        if secret is None:
            return []
        wanted = [secret.current] if numbers is None else [int(number) for number in numbers]
        return [secret.versions[number] for number in wanted if number in secret.versions]

    def _secret(self, path: str) -> Secret:
        now = self._now()
        return self._secrets.setdefault(path, Secret(created=now, updated=now))

    def _now(self) -> str:
        return timestamp(self._clock())


class Plain:
    """A KV v1 mount: one value for each path."""

    version = 1

    def __init__(self) -> None:
        self._values: dict[str, dict[str, Any]] = {}

    def exists(self, path: str) -> bool:
        """Whether a write to this path would update rather than create."""
        return path in self._values

    def read(self, path: str) -> dict[str, Any]:
        """The value. A path that a v2 client made up (`data/…`) is just another path that is not there."""
        if path not in self._values:
            raise Refused(404)
        return self._values[path]

    def write(self, path: str, body: Mapping[str, Any]) -> None:
        """Stores the body as it is: a v2 client's wrapper included."""
        if not body:
            raise Refused(400, "missing data fields")
        self._values[path] = dict(body)

    def delete(self, path: str) -> None:
        """Removes the value."""
        self._values.pop(path, None)

    def keys(self, prefix: str) -> list[str]:
        """The next path segments below a prefix; folders end with `/`."""
        return _keys(self._values, prefix)


def _keys(paths: Iterable[str], prefix: str) -> list[str]:
    start = prefix.strip("/") + "/" if prefix.strip("/") else ""
    below = [path[len(start) :] for path in paths if path.startswith(start)]
    found = sorted({rest.partition("/")[0] + ("/" if "/" in rest else "") for rest in below})
    if not found:
        raise Refused(404)
    return found


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with nanoseconds, as Go writes it."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
