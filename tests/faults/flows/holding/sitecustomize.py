"""Holds a run's process at the beginning of a task. On the PYTHONPATH of the fault runs' worker alone; the worker and the flows are unchanged otherwise.

Four of the five tasks take milliseconds: to kill something while one of them is running, it has to wait there. The step's plain function is replaced
in each process that the fork server forks. It waits if a file `wanted` names it, which becomes `held`, until that file is gone, and then does its work.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

STEPS = (
    ("tasks.credentials", "fetch"),
    ("tasks.database_url", "encode"),
    ("tasks.verification", "verify"),
    ("tasks.rollout", "await_health"),
)


def install() -> None:
    """Replaces the steps' functions in a run's process, which has imported all of them."""
    for module_name, name in STEPS:
        module = sys.modules.get(module_name)
        if module is not None and not hasattr(getattr(module, name), "holds"):
            setattr(module, name, _holding(getattr(module, name), f"{module_name}.{name}"))


def _holding(real: Any, name: str) -> Any:
    def held(*given: Any, **named: Any) -> Any:
        folder = Path(os.environ["GREYLAG_FAULTS_FOLDER"])
        wanted, held_file = folder / "wanted", folder / "held"
        if wanted.exists() and wanted.read_text(encoding="utf-8") == name:
            wanted.rename(held_file)
            while held_file.exists():
                time.sleep(0.02)
        return real(*given, **named)

    held.holds = True  # type: ignore[attr-defined]
    return held


if "GREYLAG_FAULTS_FOLDER" in os.environ:
    os.register_at_fork(after_in_child=install)
