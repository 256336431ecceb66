"""Keeps the files of releases beside the checkout, by their digest: what was approved is what is deployed, whatever is merged while it waits.

A worker keeps the files of each bundle that it plans, applies or verifies, in `GREYLAG_BUNDLES` (else in the user's cache directory). They are trusted no
more than any other file: a bundle that is read back must have the digest that is asked for. Where nothing can be written (a pod's own file system),
nothing is kept; nothing is merged into an image either.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from migrator import errors
from migrator.planning import files

VARIABLE = "GREYLAG_BUNDLES"

KEPT_SECONDS = 14 * 86_400.0
"""Seconds after its last use for which a bundle is kept: far longer than an approval lasts."""


def directory() -> Path:
    """Returns the directory of all kept bundles; it need not exist yet."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "greylag" / "bundles"


def keep(migrations: files.MigrationSet) -> None:
    """Keeps a bundle's files, if they aren't kept yet. Does nothing where that fails: the checkout may still have them when they are asked for."""
    with contextlib.suppress(OSError, RuntimeError, errors.FileError):
        place = directory() / migrations.digest()
        if place.is_dir():
            os.utime(place)
            return
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = Path(tempfile.mkdtemp(prefix=".new-", dir=place.parent))
        try:
            for item in migrations.migrations:
                (made / item.name).write_bytes(item.read())
            made.rename(place)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        _forget(place.parent)


def find(digest: str) -> files.MigrationSet | None:
    """Returns the kept files of a bundle; None when they aren't there, or aren't what their name says."""
    place = directory() / digest
    with contextlib.suppress(OSError, RuntimeError, errors.FileError):
        found = files.load(place)
        if found.digest() == digest:
            os.utime(place)
            return found
    return None


def _forget(parent: Path) -> None:
    oldest = time.time() - KEPT_SECONDS
    for item in parent.iterdir():
        if item.stat().st_mtime < oldest:
            shutil.rmtree(item, ignore_errors=True)
