"""Both commands in an empty directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.runner import Tools


@pytest.fixture
def tools(goose_binary: Path, tmp_path: Path) -> Tools:
    (tmp_path / "m").mkdir()
    return Tools(goose_binary, tmp_path)
