"""The reference of the charts' values, written from the comments of values.yaml and from values.schema.json: docs/chart-values.md.

`python -m deployments.chart.reference` writes the page anew; a test compares it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "chart-values.md"

_KEY = re.compile(r"(?P<indent> *)(?P<name>[A-Za-z]\w*):(?: +(?P<value>\S.*))?$")

_HEAD = """# Values of the charts

Written by `python -m deployments.chart.reference` from the charts' `values.yaml` and `values.schema.json`; what a value may be is checked
by Helm before anything is rendered, and a misspelt name is an error. How they go together is told in [installing under Argo CD](installing-under-argocd.md).

"""


@dataclass(frozen=True, slots=True)
class Value:
    """One setting: its path, its default as it is written, and what is said of it."""

    path: str
    default: str
    meaning: str


def read(text: str) -> Iterator[Value]:
    """Yields the settings of a values.yaml in its order; a section without a comment of its own is told by its fields."""
    above: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.removeprefix("#").strip())
            continue
        found = _KEY.fullmatch(line)
        if found is None:
            comment = []
            continue
        indent = len(found["indent"])
        above = [*(item for item in above if item[0] < indent), (indent, found["name"])]
        if found["value"] is not None or comment:
            yield Value(".".join(name for _, name in above), found["value"] or "", " ".join(comment))
        comment = []


def allowed(schema: Mapping[str, Any], path: str) -> str:
    """Returns what a schema allows at a path, in a few words. Raises KeyError for a path that it does not know."""
    for name in path.split("."):
        if "properties" not in schema:
            return "as Kubernetes has it"
        schema = schema["properties"][name]
    return _words(schema)


def _words(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{word}`" if word else "empty" for word in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_words(item) for item in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`" if schema["const"] else "empty"
    kind = str(schema.get("type", ""))
    if kind == "integer":
        least, most = schema.get("minimum"), schema.get("maximum")
        return f"{least} to {most}" if most is not None else f"{least} or more"
    return {"boolean": "true, false", "string": "text", "array": "list", "object": "mapping"}.get(kind, kind)


def page() -> str:
    """Returns the whole page."""
    parts = [_HEAD]
    for chart, title, prefix in (
        ("greylag", "The section `migration`: the library chart", "migration."),
        ("service", "The application chart", ""),
    ):
        schema = json.loads((HERE / chart / "values.schema.json").read_text(encoding="utf-8"))
        parts.append(f"## {title}\n\n| value | default | allowed | meaning |\n|---|---|---|---|\n")
        for value in read((HERE / chart / "values.yaml").read_text(encoding="utf-8")):
            default = f"`{value.default}`" if value.default and value.default != '""' else ""
            meaning = value.meaning.replace("|", "\\|")
            parts.append(f"| `{prefix}{value.path}` | {default} | {allowed(schema, value.path)} | {meaning} |\n")
        parts.append("\n")
    return "".join(parts).rstrip() + "\n"


def main() -> int:
    """Writes the page."""
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
