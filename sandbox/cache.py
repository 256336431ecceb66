"""The directory in which things that take long to make are kept: GREYLAG_CACHE, else `greylag` in the user's cache directory."""

from __future__ import annotations

import os
from pathlib import Path


def directory() -> Path:
    """Returns the cache directory; it need not exist yet."""
    named = os.environ.get("GREYLAG_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "greylag"
