"""docs/architecture.md names modules by their place in the house; each has to be there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
FLOORS = ("migrator", "tasks", "flows", "deployments", "sandbox", "")
"""Where a name may begin: inside migrator and tasks the page leaves the floor out."""


def modules() -> set[str]:
    """The dotted names in backquotes that read like modules; `greylag.verbs` is an entry-point group."""
    text = PAGE.read_text(encoding="utf-8")
    return {name for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", text) if not name.endswith(".yaml")} - {"greylag.verbs"}


def is_there(name: str) -> bool:
    for floor in FLOORS:
        place = ROOT.joinpath(*filter(None, floor.split(".")), *name.split("."))
        if place.is_dir() or place.with_suffix(".py").exists():
            return True
    return False


def test_every_module_that_the_architecture_names_exists() -> None:
    found = modules()
    assert len(found) > 30  # the page is read as it is meant to be
    assert not sorted(name for name in found if not is_there(name))


def test_every_wing_of_the_house_is_in_its_picture() -> None:
    picture = PAGE.read_text(encoding="utf-8").split("```")[1]
    wings = [
        place.name for floor in ("migrator", "tasks", "sandbox") for place in (ROOT / floor).iterdir() if (place / "__init__.py").exists()
    ]
    assert len(wings) > 10
    assert not [wing for wing in wings if f"{wing}/" not in picture]
