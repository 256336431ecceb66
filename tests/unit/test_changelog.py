"""Changelog fragments are named as changelog.d/README.md says."""

from __future__ import annotations

import re
from pathlib import Path

FRAGMENTS = Path(__file__).resolve().parents[2] / "changelog.d"
NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\.(?:added|changed|fixed|removed|security)\.md")


def test_every_fragment_names_its_change_and_its_type() -> None:
    fragments = {path.name for path in FRAGMENTS.iterdir()} - {"README.md"}
    assert [name for name in sorted(fragments) if not NAME.fullmatch(name)] == []


def test_every_fragment_says_something() -> None:
    assert [path.name for path in FRAGMENTS.iterdir() if not path.read_text(encoding="utf-8").strip()] == []
