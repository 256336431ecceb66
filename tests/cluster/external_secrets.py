"""A double of External Secrets' definition: the fields of external-secrets.io/v1 that the chart uses. `external_secrets_double` plays the operator.

External Secrets can't be had as a Go module; the fields are those of its ExternalSecret v1. An unknown field is refused, as by the real definition.
"""

from __future__ import annotations

from typing import Any

from sandbox.cluster.api import Object

KEYS = ("host", "port", "username", "password", "database")

TEXT: Object = {"type": "string"}


def _mapping(**properties: Object) -> Object:
    return {"type": "object", "properties": properties}


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
                "schema": {
                    "openAPIV3Schema": _mapping(
                        apiVersion=TEXT,
                        kind=TEXT,
                        metadata={"type": "object"},
                        spec=_mapping(
                            refreshInterval=TEXT,
                            secretStoreRef=_mapping(name=TEXT, kind={"type": "string", "enum": ["SecretStore", "ClusterSecretStore"]}),
                            target=_mapping(
                                name=TEXT,
                                creationPolicy={"type": "string", "enum": ["Owner", "Orphan", "Merge", "None"]},
                                template=_mapping(
                                    engineVersion={"type": "string", "enum": ["v2"]},
                                    data={"type": "object", "additionalProperties": TEXT},
                                ),
                            ),
                            data={
                                "type": "array",
                                "items": _mapping(secretKey=TEXT, remoteRef=_mapping(key=TEXT, property=TEXT, version=TEXT)),
                            },
                        ),
                        status={"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                    )
                },
            }
        ],
    },
}


def external_secret(name: str, path: str, **spec: Any) -> Object:
    """An ExternalSecret that makes a Secret of its own name of a login at this path."""
    data = [{"secretKey": key, "remoteRef": {"key": path, "property": key}} for key in KEYS]
    store = {"name": "vault", "kind": "ClusterSecretStore"}
    whole = {"refreshInterval": "1h", "secretStoreRef": store, "target": {"name": name}, "data": data, **spec}
    return {"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": {"name": name}, "spec": whole}
