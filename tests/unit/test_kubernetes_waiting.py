"""Every reason for which a kubelet lets a container wait means the same to a Job that is followed and to a rollout that is awaited."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.job import failures
from tasks.kubernetes import waiting
from tasks.kubernetes.waiting import Trouble
from tasks.rollout import ailments
from tests.unit import job_objects
from tests.unit.rollout_objects import NOW, container, pod

KUBELET = {
    # pkg/kubelet/images/types.go
    "ImagePullBackOff": Trouble.IMAGE,
    "ImageInspectError": Trouble.IMAGE,
    "ErrImagePull": Trouble.IMAGE,
    "ErrImageNeverPull": Trouble.IMAGE,
    "InvalidImageName": Trouble.IMAGE,
    # cri-api: pkg/errors/errors.go
    "RegistryUnavailable": Trouble.IMAGE,
    "SignatureValidationFailed": Trouble.IMAGE,
    "ImageVolumeMountFailed": Trouble.IMAGE,
    # pkg/kubelet/kuberuntime/kuberuntime_container.go
    "CreateContainerConfigError": Trouble.CONTAINER,
    "PreCreateHookError": Trouble.CONTAINER,
    "CreateContainerError": Trouble.CONTAINER,
    "PreStartHookError": Trouble.CONTAINER,
    "PostStartHookError": Trouble.CONTAINER,
    # pkg/kubelet/container/sync_result.go
    "RunContainerError": Trouble.CONTAINER,
    "CrashLoopBackOff": None,
    # pkg/kubelet/kubelet_pods.go
    "ContainerCreating": None,
    "PodInitializing": None,
}
"""The reasons in the sources of Kubernetes 1.37. Those of a pod's sandbox never become a container's (`reason_cache.go` keeps StartContainer's)."""


def job_is_stuck(pods: list[dict[str, Any]]) -> str:
    found = failures.stuck(job_objects.job(), pods, [])
    return found.state if found is not None else ""


@pytest.mark.parametrize(("reason", "trouble"), KUBELET.items())
@pytest.mark.parametrize("place", ["container", "init container"])
def test_a_reason_is_stuck_for_the_job_and_for_the_rollout_or_for_neither(reason: str, trouble: Trouble | None, place: str) -> None:
    in_job = job_objects.pod(waiting={"reason": reason, "message": "m"})
    if place == "init container":  # a sidecar that somebody's admission webhook put there
        in_job["status"]["initContainerStatuses"] = [{"name": "sidecar", "state": {"waiting": {"reason": reason, "message": "m"}}}]
        in_job["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "PodInitializing"}}
        in_rollout = pod("new", phase="Pending", age=100.0, init=[container("sidecar", waiting=reason)], waiting="PodInitializing")
    else:
        in_rollout = pod("new", phase="Pending", age=100.0, waiting=reason)
    assert job_is_stuck([in_job]) == (trouble or "")
    found = ailments.worst([in_rollout], (), NOW)
    assert (found is not None) == (trouble is not None)
    if found is not None:
        assert found.reason.startswith(f"{reason}: pod new")


@pytest.mark.parametrize("reason", sorted(waiting.TROUBLES))
def test_only_what_no_time_mends_gets_no_patience(reason: str) -> None:
    fresh = pod("new", phase="Pending", age=1.0, waiting=reason)
    assert (ailments.worst([fresh], (), NOW) is not None) == (reason in waiting.HOPELESS)
    found = failures.stuck(job_objects.job(), [job_objects.pod(waiting={"reason": reason})], [])
    assert found is not None and (found.patience == 0.0) == (reason in waiting.HOPELESS)


def test_the_list_is_the_kubelets() -> None:
    assert {reason: trouble for reason, trouble in KUBELET.items() if trouble is not None} == waiting.TROUBLES
    assert {reason for reason, trouble in KUBELET.items() if trouble is None} == (waiting.ORDINARY - {""}) | {waiting.CRASH_LOOP}
    assert set(waiting.TROUBLES) >= waiting.HOPELESS


def test_a_reason_that_nobody_knows_is_shown_and_decides_nothing() -> None:
    strange = pod("new", phase="Pending", age=1000.0, waiting="VirtualNodeBooting")
    assert ailments.worst([strange], (), NOW) is None
    assert "VirtualNodeBooting" in ailments.remark([strange], ())
    assert job_is_stuck([job_objects.pod(waiting={"reason": "VirtualNodeBooting"})]) == ""
