"""Everything that greylag knows about Kubernetes: the only client of an API server (`api.py`), its objects as plain JSON (`objects.py`), the reasons
why a container waits (`waiting.py`), and the way to follow an object (`following.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.fleet.models import Target
from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.kubernetes.api import Api


def connect(target: Target, settings: Settings) -> Api | None:
    """Connects to the target's cluster; returns None when none is configured. The environment's kube context takes precedence over the worker's.

    Raises UsageError (`kube-context`).
    """
    context = target.kube_context or settings.kube_context
    if not context:
        return None
    from tasks.kubernetes import api  # the client's import takes a second

    return api.connect(context)
