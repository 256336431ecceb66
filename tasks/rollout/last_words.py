"""What a container said before it ended: its termination message, else the end of its log; short, and without the secrets that are known here."""

from __future__ import annotations

from migrator import errors
from tasks import redaction
from tasks.rollout.ailments import Ailment
from tasks.rollout.looking import Cluster

LINES = 6
"""Lines that are shown: the error and what led to it. The rest is in `kubectl logs`."""

LONGEST_LINE = 300
"""Characters; a line of JSON or a stack frame's arguments may be endless."""


def told(cluster: Cluster, namespace: str, ailment: Ailment) -> str:
    """The container's last words, as lines for an error's detail; empty where it had none.

    A log that can't be read is no reason to hide why the rollout failed: the words then say why there are none.
    """
    text = ailment.message
    if not text.strip() and ailment.previous is not None:
        try:
            text = _log(cluster, namespace, ailment, ailment.previous)
        except errors.GreylagError as error:
            hint = f" ({error.hint})" if error.hint else ""
            return f"its log can't be read: {error.message}{hint}"
    lines = [line.rstrip() for line in text.splitlines() if line.strip()][-LINES:]
    if not lines:
        return ""
    shown = "\n".join("  " + (line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…") for line in lines)
    # A container that could not be made said nothing; the kubelet speaks of it.
    whose = "last words of" if ailment.previous is not None else "what the kubelet says of"
    return f"{whose} container {ailment.container}, pod {ailment.pod}:\n{redaction.clean(shown)}"


def _log(cluster: Cluster, namespace: str, ailment: Ailment, previous: bool) -> str:
    text = cluster.log(namespace, ailment.pod, container=ailment.container, lines=LINES, previous=previous)
    if text.strip() or not previous:
        return text
    # The node may have removed the previous instance's log, or started the next one between the two questions.
    return cluster.log(namespace, ailment.pod, container=ailment.container, lines=LINES)
