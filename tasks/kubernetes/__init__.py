"""Holds all that greylag knows of Kubernetes: the one edge to an API server (`api.py`), its objects as plain JSON (`objects.py`), what containers wait for
(`waiting.py`), and how an object is followed (`following.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.fleet.models import Target
from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.kubernetes.api import Api


def connect(target: Target, settings: Settings) -> Api | None:
    """Connects to the target's cluster; None where none is configured. The environment's kube context wins over the worker's.

    Raises UsageError (`kube-context`).
    """
    context = target.kube_context or settings.kube_context
    if not context:
        return None
    from tasks.kubernetes import api  # the client's import takes a second

    return api.connect(context)
