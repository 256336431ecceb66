"""Lists what a container waits for before it runs: every reason that a kubelet gives, and what each of them means, in one list. Pure.

The list is the kubelet's of Kubernetes 1.37 (`pkg/kubelet/images/types.go`, `pkg/kubelet/kuberuntime/kuberuntime_container.go`,
`pkg/kubelet/container/sync_result.go`, and `pkg/errors` of cri-api). None of these states ever ends in a failure of the pod by itself, nor counts
as an attempt of a Job (kubernetes.md §1.6): whoever follows a pod has to notice. A reason that is not in the list is shown and never decides: a
virtual node may have its own words for "not yet".
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.kubernetes.objects import Json


class Trouble(enum.StrEnum):
    """What is in the way. Reasons of one trouble alternate while the kubelet tries again: they are one state, not several."""

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
"""Reasons that something is wrong. It may mend itself: registries hiccup, a Secret may come a moment after its pod."""

HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
"""Those that no time will mend."""

CRASH_LOOP = "CrashLoopBackOff"
"""The container did run, and ended: its exit code says why, not this."""

ORDINARY = frozenset({"", "ContainerCreating", "PodInitializing"})
"""What every container waits for at first."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A container that waits.

    Attributes:
        reason: the kubelet's word. message: its sentence; may quote anything.
    """

    container: str
    image: str
    reason: str
    message: str

    @property
    def trouble(self) -> Trouble | None:
        """Names what is in the way; None where nothing is, and where nobody can tell."""
        return TROUBLES.get(self.reason)

    @property
    def hopeless(self) -> bool:
        """Tells whether no time will mend it."""
        return self.reason in HOPELESS

    @property
    def telling(self) -> bool:
        """Tells whether the reason says why it waits."""
        return self.reason not in ORDINARY and self.reason != CRASH_LOOP


def read(status: Json) -> Waiting | None:
    """Reads what a container waits for from its status; None where it runs or has ended."""
    found = (status.get("state") or {}).get("waiting")
    if found is None:
        return None
    name, image = str(status.get("name") or ""), str(status.get("image") or "")
    return Waiting(name, image, str(found.get("reason") or ""), str(found.get("message") or ""))
