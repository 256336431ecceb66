"""Work pools of type `greylag`: what the server is told of them, and what somebody changed there since. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPE = "greylag"
"""The worker's type, and that of its pools."""


def template() -> dict[str, Any]:
    """Returns the base job template: a schema without properties, so that the server itself answers 422 to job variables.

    The configuration only says so: the worker doesn't read it. The server refuses an empty one.
    """
    return {
        "job_configuration": {"flow": "started by its name; the worker's own settings say how"},
        "variables": {
            "type": "object",
            "description": "None: what a run is started with is the worker's own, and nobody who starts one can change it.",
            "properties": {},
            "additionalProperties": False,
        },
    }


def free(found: Mapping[str, Any]) -> list[str]:
    """Returns the names of the variables that this template lets each run choose; empty for one that allows none."""
    schema = found.get("variables") or {}
    names = sorted(schema.get("properties") or {})
    if not names and schema.get("additionalProperties") is not False:
        return ["anything"]
    return names


def changes(kind: str, found: Mapping[str, Any]) -> list[str]:
    """Returns in words what of a pool isn't as `greylag deploy` made it. Nothing of it is used by the worker."""
    told = [] if kind == TYPE else [f"its type is {kind}"]
    if dict(found) != template():
        told.append("its base job template is another one")
    return told
