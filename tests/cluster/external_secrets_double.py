"""A double of External Secrets: no operator, and no store behind it. It plays what the real one (0.20.4) was seen to do with an ExternalSecret.

External Secrets can't be had as a Go module. Played: the Secret by the ExternalSecret's template, owned by it; `Ready` True with `SecretSynced` and
`syncedResourceVersion` "GENERATION-HASH", or False with `SecretSyncedError` and the Secret left as it was; nothing at all while it is away (`away`), so that
an ExternalSecret that has changed goes on saying Ready. Not played: refreshInterval, finalizers, other sources than `data`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

from migrator import errors
from sandbox.cluster.api import MERGE, Object
from sandbox.cluster.cluster import Cluster

_OPEN: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

DEFINITION: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "externalsecrets.external-secrets.io"},
    "spec": {
        "group": "external-secrets.io",
        "scope": "Namespaced",
        "names": {"kind": "ExternalSecret", "plural": "externalsecrets", "singular": "externalsecret"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": _OPEN, "status": _OPEN}}},
            }
        ],
    },
}

_FIELD = re.compile(r"\{\{ *\.(\w+) *\}\}")
_LOOK_SECONDS = 0.1


class ExternalSecretsDouble:
    """The double in one namespace, as a thread; `store` maps a path to its properties."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        self._stopped, self._away = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="external-secrets-double", daemon=True)
        self.store: dict[str, dict[str, str]] = {}

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
        seen = str(told.get("syncedResourceVersion", "")).partition("-")[0]
        if metadata.get("deletionTimestamp") or (seen == str(metadata["generation"]) and self._exists(found)):
            return
        values = self._values(found["spec"])
        status: dict[str, Any] = {}
        if values is None:
            status = _status(False, "SecretSyncedError", "could not get secret data from provider")
        else:
            self._write(found, values)
            digest = hashlib.sha256(f"{values}{time.time_ns()}".encode()).hexdigest()  # another one though the values are the same
            status = _status(True, "SecretSynced", "secret synced") | {"syncedResourceVersion": f"{metadata['generation']}-{digest[:28]}"}
        self._cluster.api.patch(f"{path}/{metadata['name']}/status", {"status": status}, MERGE)

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
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    condition = {"type": "Ready", "status": str(ready), "reason": reason, "message": message, "lastTransitionTime": moment}
    return {"conditions": [condition], "refreshTime": moment, "binding": {"name": ""}}
