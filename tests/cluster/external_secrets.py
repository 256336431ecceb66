"""A double of External Secrets' definition: the fields of external-secrets.io/v1 that the chart uses, and no operator behind them.

External Secrets can't be had as a Go module; the fields are those of its ExternalSecret v1. An unknown field is refused, as by the real definition.
"""

from __future__ import annotations

from sandbox.cluster.api import Object

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
                                "items": _mapping(secretKey=TEXT, remoteRef=_mapping(key=TEXT, property=TEXT)),
                            },
                        ),
                    )
                },
            }
        ],
    },
}
