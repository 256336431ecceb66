"""The files of a release are kept beside the checkout, by their digest."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from migrator.planning import files
from tasks import bundles


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GREYLAG_BUNDLES", str(tmp_path / "kept"))
    place = tmp_path / "migrations"
    place.mkdir()
    (place / "1_a.sql").write_text("-- +goose Up\nSELECT 1;\n", encoding="utf-8")
    return place


def test_what_was_kept_is_found_although_the_checkout_has_moved_on(checkout: Path) -> None:
    digest = files.load(checkout).digest()
    bundles.keep(files.load(checkout))
    (checkout / "2_b.sql").write_text("-- +goose Up\nSELECT 2;\n", encoding="utf-8")
    found = bundles.find(digest)
    assert found is not None and found.digest() == digest and found.newest == 1


def test_files_that_are_not_what_their_name_says_are_not_taken(checkout: Path) -> None:
    digest = files.load(checkout).digest()
    bundles.keep(files.load(checkout))
    (bundles.directory() / digest / "1_a.sql").write_text("-- +goose Up\nDROP TABLE users;\n", encoding="utf-8")
    assert bundles.find(digest) is None
    assert bundles.find("0" * 64) is None


def test_where_nothing_can_be_written_nothing_is_kept_and_nothing_fails(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREYLAG_BUNDLES", str(checkout / "1_a.sql" / "below-a-file"))
    bundles.keep(files.load(checkout))
    assert bundles.find(files.load(checkout).digest()) is None


def test_what_nobody_has_used_for_a_fortnight_is_forgotten(checkout: Path) -> None:
    old = bundles.directory() / ("f" * 64)
    old.mkdir(parents=True)
    long_ago = time.time() - bundles.KEPT_SECONDS - 60
    os.utime(old, (long_ago, long_ago))
    bundles.keep(files.load(checkout))
    assert [item.name for item in bundles.directory().iterdir()] == [files.load(checkout).digest()]
