"""The demo that all of these tests attack, and the page that tells what came of it (`make attack`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks import page, siege
from tests.attacks.siege import Siege


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Siege]:
    """The demo, as it stands before anybody does anything to it. At the end the page is written, if GREYLAG_TEST_ATTACKS_PAGE names one."""
    directory = tmp_path_factory.mktemp("siege")
    for folder in (directory, *directory.parents[:2]):
        folder.chmod(0o711)  # PostgreSQL's unprivileged user passes through it
    with siege.laid(directory) as found:
        yield found
        wanted = os.environ.get("GREYLAG_TEST_ATTACKS_PAGE")
        if wanted and not request.session.testsfailed:
            place = Path(wanted)
            place.write_text(page.replace(place.read_text(encoding="utf-8"), found.told), encoding="utf-8")


@pytest.fixture(autouse=True)
def unchanged(demo: Siege, request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever is tried: prod's databases hold what they held."""
    demo.test = f"{request.path.name}::{request.node.name}"
    before = demo.held()
    yield
    assert demo.held() == before, "prod's databases have changed"
