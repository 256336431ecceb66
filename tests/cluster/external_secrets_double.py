"""A double of External Secrets: no operator, and no store behind it. It plays what the real one (0.20.4) was seen to do with an ExternalSecret.

External Secrets can't be had as a Go module. Played: the Secret by the ExternalSecret's template, owned by it; `Ready` True with `SecretSynced` and
`syncedResourceVersion` "GENERATION-HASH", whose hash is that of labels and annotations, so that each change of these synchronises anew; or False with
`SecretSyncedError`, the cause in an Event alone, Secret and version left as they were, tried again each second; nothing at all while it is away (`away`), so
that an ExternalSecret that has changed goes on saying Ready. Not played: refreshInterval, finalizers, other sources than `data`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, MutableMapping
from typing import Any

from migrator import errors
from sandbox.cluster.api import MERGE, Object
from sandbox.cluster.cluster import Cluster
from sandbox.vault.openbao_server import OpenBaoServer
from tests.cluster.external_secrets import DEFINITION

_FIELD = re.compile(r"\{\{ *\.(\w+) *\}\}")
_LOOK_SECONDS = 0.1
_AGAIN_SECONDS = 1.0

MISSING = "Secret does not exist"
"""What the Event says of a path or a property that there is not."""


class VaultStore(MutableMapping[str, dict[str, str]]):
    """What a real Vault holds, as the double's store."""

    def __init__(self, vault: OpenBaoServer) -> None:
        self._vault = vault

    def __getitem__(self, path: str) -> dict[str, str]:
        try:
            found: dict[str, Any] = self._vault.request("GET", f"secret/data/{path}")
        except errors.GreylagError:
            raise KeyError(path) from None
        return {key: str(value) for key, value in found["data"]["data"].items()}

    def __setitem__(self, path: str, data: dict[str, str]) -> None:
        self._vault.write_secret(path, dict(data))

    def __delitem__(self, path: str) -> None:
        self._vault.request("DELETE", f"secret/metadata/{path}")

    def __iter__(self) -> Iterator[str]:
        return iter(())  # it is asked by path alone

    def __len__(self) -> int:
        return 0


class ExternalSecretsDouble:
    """The double in one namespace, as a thread; `store` maps a path to its properties."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        self._stopped, self._away = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="external-secrets-double", daemon=True)
        self.store: MutableMapping[str, dict[str, str]] = {}
        self._failed_at: dict[str, float] = {}

    def __enter__(self) -> ExternalSecretsDouble:
        self._cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(DEFINITION))
        self._cluster.kubectl("wait", "--for=condition=Established", f"crd/{DEFINITION['metadata']['name']}")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Does nothing for a while, as an operator that is down."""
        self._away.set()
        time.sleep(3 * _LOOK_SECONDS)  # what it had begun is done
        try:
            yield
        finally:
            self._away.clear()

    def leave(self, seconds: float) -> None:
        """Does nothing for so long, from now on."""
        self._away.set()
        threading.Timer(seconds, self._away.clear).start()

    def _work(self) -> None:
        path = f"/apis/external-secrets.io/v1/namespaces/{self._namespace}/externalsecrets"
        while not self._stopped.wait(_LOOK_SECONDS):
            if self._away.is_set():
                continue
            with contextlib.suppress(errors.Unavailable):
                for found in self._cluster.api.get(path)["items"]:
                    self._reconcile(path, found)

    def _reconcile(self, path: str, found: Object) -> None:
        metadata, told = found["metadata"], found.get("status") or {}
        version = f"{metadata['generation']}-{_hash(metadata)}"
        if metadata.get("deletionTimestamp") or (told.get("syncedResourceVersion") == version and self._exists(found)):
            return
        if time.monotonic() - self._failed_at.get(f"{metadata['uid']} {version}", -_AGAIN_SECONDS) < _AGAIN_SECONDS:
            return
        values = self._values(found["spec"])
        status: dict[str, Any] = {}
        if values is None:
            self._failed_at[f"{metadata['uid']} {version}"] = time.monotonic()
            self._tell(found)
            status = _status(False, "SecretSyncedError", "could not get secret data from provider")
        else:
            self._write(found, values)
            status = _status(True, "SecretSynced", "secret synced") | {"syncedResourceVersion": version}
        self._cluster.api.patch(f"{path}/{metadata['name']}/status", {"status": status}, MERGE)

    def _tell(self, found: Object) -> None:
        metadata, moment = found["metadata"], _moment()
        involved = {key: found[key] for key in ("apiVersion", "kind")} | {key: metadata[key] for key in ("name", "namespace", "uid")}
        event = {
            "metadata": {"generateName": f"{metadata['name']}."},
            "involvedObject": involved,
            "type": "Warning",
            "reason": "UpdateFailed",
            "message": f"error processing spec.data[0] (key: {found['spec']['data'][0]['remoteRef']['key']}), err: {MISSING}",
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
        }
        self._cluster.api.create(f"/api/v1/namespaces/{self._namespace}/events", event)

    def _exists(self, found: Object) -> bool:
        return self._cluster.api.find(f"/api/v1/namespaces/{self._namespace}/secrets/{_target(found)}") is not None

    def _values(self, spec: Object) -> dict[str, str] | None:
        values: dict[str, str] = {}
        for item in spec.get("data") or ():
            reference = item["remoteRef"]
            held = self.store.get(reference["key"], {})
            if reference.get("property") not in held:
                return None
            values[item["secretKey"]] = held[reference["property"]]
        return values

    def _write(self, found: Object, values: dict[str, str]) -> None:
        template = ((found["spec"].get("target") or {}).get("template") or {}).get("data")
        data = values if template is None else {key: _FIELD.sub(lambda field: values[field[1]], text) for key, text in template.items()}
        owner = {
            "apiVersion": found["apiVersion"],
            "kind": found["kind"],
            "name": found["metadata"]["name"],
            "uid": found["metadata"]["uid"],
            "controller": True,
        }
        secret = {
            "metadata": {"name": _target(found), "ownerReferences": [owner]},
            "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
        }
        place = f"/api/v1/namespaces/{self._namespace}/secrets"
        if self._exists(found):
            self._cluster.api.patch(f"{place}/{_target(found)}", secret, MERGE)
        else:
            self._cluster.api.create(place, secret)


def _target(found: Object) -> str:
    return str((found["spec"].get("target") or {}).get("name") or found["metadata"]["name"])


def _status(ready: bool, reason: str, message: str) -> dict[str, Any]:
    moment = _moment()
    condition = {"type": "Ready", "status": str(ready), "reason": reason, "message": message, "lastTransitionTime": moment}
    return {"conditions": [condition], "refreshTime": moment, "binding": {"name": ""}}


def _moment() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _hash(metadata: Object) -> str:
    told = json.dumps([metadata.get("labels"), metadata.get("annotations")], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:28]
