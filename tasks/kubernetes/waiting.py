"""The reasons why a container waits before it runs: every reason that a kubelet gives, and its meaning, in one list. Pure.

The list is the kubelet's of Kubernetes 1.37 (`pkg/kubelet/images/types.go`, `pkg/kubelet/kuberuntime/kuberuntime_container.go`,
`pkg/kubelet/container/sync_result.go`, and `pkg/errors` of cri-api). None of these states ever ends in a failure of the pod by itself, nor counts
as an attempt of a Job (kubernetes.md §1.6), so whoever follows a pod has to notice them. A reason that is not in the list is shown and never decides
anything: a virtual node may have its own words for "not yet".
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.kubernetes.objects import Json


class Trouble(enum.StrEnum):
    """The kind of trouble. While the kubelet tries again, reasons of one kind alternate: they are one state, not several."""

    IMAGE = "image"
    CONTAINER = "container"


TROUBLES: Mapping[str, Trouble] = {
    "InvalidImageName": Trouble.IMAGE,
    "ErrImageNeverPull": Trouble.IMAGE,
    "ErrImagePull": Trouble.IMAGE,
    "ImagePullBackOff": Trouble.IMAGE,
    "ImageInspectError": Trouble.IMAGE,
    "RegistryUnavailable": Trouble.IMAGE,
    "SignatureValidationFailed": Trouble.IMAGE,
    "ImageVolumeMountFailed": Trouble.IMAGE,
    "CreateContainerConfigError": Trouble.CONTAINER,
    "PreCreateHookError": Trouble.CONTAINER,
    "CreateContainerError": Trouble.CONTAINER,
    "PreStartHookError": Trouble.CONTAINER,
    "RunContainerError": Trouble.CONTAINER,
    "PostStartHookError": Trouble.CONTAINER,
}
"""Reasons that mean trouble. It may end by itself: registries have hiccups, a Secret may come a moment after its pod."""

HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
"""Reasons that waiting never solves."""

CRASH_LOOP = "CrashLoopBackOff"
"""The container ran and ended: its exit code says why, not this reason."""

ORDINARY = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Reasons that every container has at first."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A container that waits.

    Attributes:
        reason: the kubelet's reason. message: its sentence; may quote anything.
    """

    container: str
    image: str
    reason: str
    message: str

    @property
    def trouble(self) -> Trouble | None:
        """The kind of trouble; None when there is none, and when the reason is unknown."""
        return TROUBLES.get(self.reason)

    @property
    def hopeless(self) -> bool:
        """Tells whether waiting never solves it."""
        return self.reason in HOPELESS

    @property
    def telling(self) -> bool:
        """Tells whether the reason says why it waits."""
        return self.reason not in ORDINARY and self.reason != CRASH_LOOP


def read(status: Json) -> Waiting | None:
    """Reads from a container's status what it waits for; None when it runs or has ended."""
    found = (status.get("state") or {}).get("waiting")
    if found is None:
        return None
    name, image = str(status.get("name") or ""), str(status.get("image") or "")
    return Waiting(name, image, str(found.get("reason") or ""), str(found.get("message") or ""))
