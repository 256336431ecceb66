"""What to do about a failure of the sequence, where the engine's own hint, which knows one database alone, is not enough (pure)."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence

from migrator import errors
from tasks.fleet.models import Target

_CORRECT = re.compile(r"correct \S+ and run the same command again(: it goes on at this statement)?")
"""The engine's remedy for a file that the database rejects. It is right for one database alone."""


def adapted(error: errors.GreylagError, target: Target, earlier: Sequence[str]) -> errors.GreylagError:
    """Returns the error as it is told of a run of this target: with paths relative to the fleet's root, and with a hint that knows the other environments.

    Args:
        earlier: the environments before this one, which a promotion enters first.
    """
    told = copy.copy(error)
    if hint := _hint(error, target, earlier):
        told.hint = hint
    for name in ("message", "hint", "detail"):
        setattr(told, name, relative(getattr(told, name), target.root))
    if told.where is not None:
        told.where = errors.Location(relative(told.where.path, target.root), told.where.line)
    return told


def _hint(error: errors.GreylagError, target: Target, earlier: Sequence[str]) -> str:
    if error.code == "sql-rejected" and earlier:
        holders = ", ".join(earlier)
        down = " and ".join(f"`greylag down @{name}/{target.service}`" for name in reversed(earlier))
        new = (
            f"{holders} may hold this file already, and would refuse a corrected one: either mend {target.environment}'s data and press Retry, "
            f"or take the file back there ({down}), correct it, and promote again"
        )
        hint, found = _CORRECT.subn(lambda _: new, error.hint)
        return hint if found else "; ".join(filter(None, (error.hint, new)))
    if error.code == "checksum-changed" and not target.protected:
        return (
            f"{error.hint}; where no later environment holds it, `greylag down @{target.label}` takes it back (while the file is as it was "
            "applied, or by the Down text that was recorded), and the corrected one can be promoted"
        )
    return ""


def relative(text: str, root: str) -> str:
    """Returns the text with paths below the root written from there: a worker's checkout is nothing to its readers."""
    return text.replace(root.rstrip("/") + "/", "") if root not in ("", "/") else text
