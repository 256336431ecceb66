"""kubeconfig files that need no other file: certificates and keys are inside, so that a worker can get the file alone."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

from sandbox.certificates import Pair

CONTEXT = "sandbox"


def write(path: Path, url: str, authority: Path, user: dict[str, str], namespace: str = "default") -> Path:
    """Writes a kubeconfig (mode 0600; JSON, which is YAML).

    Args:
        path: the file.
        url: the API server.
        authority: its CA file.
        user: the user entry: a certificate's or a token's.
        namespace: the context's.
    """
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CONTEXT, "cluster": {"server": url, "certificate-authority-data": _encoded(authority)}}],
        "users": [{"name": CONTEXT, "user": user}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT, "namespace": namespace}}],
        "current-context": CONTEXT,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
    unfinished.replace(path)
    return path


def certificate(pair: Pair) -> dict[str, str]:
    """Returns the user entry for a client certificate."""
    return {"client-certificate-data": _encoded(pair.certificate), "client-key-data": _encoded(pair.key)}


def token(value: str) -> dict[str, str]:
    """Returns the user entry for a token."""
    return {"token": value}


def _encoded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
