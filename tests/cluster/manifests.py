"""Objects as the text of a file in a repository."""

from __future__ import annotations

import json

from sandbox.cluster.api import Object


def text(*objects: Object) -> str:
    """Several documents of YAML, each in the part of it that is JSON."""
    return "".join(f"---\n{json.dumps(each, indent=1, sort_keys=True)}\n" for each in objects)
