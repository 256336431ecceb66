"""Canonical JSON: one document has one text, so that a signature over it means the same for whoever makes or checks it (pure).

The text is ASCII, its keys are sorted, it has no white space, and it holds no floating-point numbers: two programs that read one would not write it alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from migrator import errors


def text(document: Mapping[str, object]) -> str:
    """Returns the canonical text of a document. Raises ValueError for a value that has none."""
    _require_plain(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def encoded(document: Mapping[str, object]) -> bytes:
    """Returns the bytes that are signed."""
    return text(document).encode("ascii")


def digest(document: Mapping[str, object]) -> str:
    """Returns the sha256 of the canonical text, in hex."""
    return hashlib.sha256(encoded(document)).hexdigest()


def read(given: str) -> dict[str, object]:
    """Returns the document of a canonical text. Raises PlanRefused (`bad-document`) for any other text, also for another spelling of the same document."""
    try:
        document = json.loads(given)
        if isinstance(document, dict) and text(document) == given:
            return document
    except (ValueError, RecursionError):
        pass
    raise errors.PlanRefused(
        "this is no canonical JSON document", code="bad-document", hint="`greylag approve` prints it; take it over as a whole, unchanged"
    )


def _require_plain(value: object) -> None:
    if value is None or isinstance(value, str | bool | int):
        return
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        for item in value.values():
            _require_plain(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _require_plain(item)
    else:
        raise ValueError(f"{type(value).__name__} has no canonical text")
