"""The cluster itself: what survives a stop, what dies with it, and Helm on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.cluster import cluster as sandbox
from sandbox.cluster import images
from tests.cluster.workloads import Namespace, condition, container, pod

pytestmark = pytest.mark.cluster


def processes_with(word: str) -> list[int]:
    """The processes of this machine that have a word among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def test_helm_installs_a_chart_with_a_hook(namespace: Namespace, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: tiny\nversion: 1.0.0\n", encoding="utf-8")
    hook = {"helm.sh/hook": "pre-install,pre-upgrade", "helm.sh/hook-delete-policy": "before-hook-creation"}
    migrate = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "migrate", "annotations": hook},
        "spec": {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [container("exit {{ .Values.code }}")]}}},
    }
    (tmp_path / "templates" / "job.yaml").write_text(json.dumps(migrate), encoding="utf-8")
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"code": "{{ .Values.code }}"}}
    (tmp_path / "templates" / "settings.yaml").write_text(json.dumps(settings), encoding="utf-8")
    where = ("--namespace", namespace.name, "--wait", "--timeout", "60s")
    namespace.cluster.helm("install", "tiny", str(tmp_path), "--set", "code=0", *where)
    assert condition(namespace.get("job", "migrate"), "Complete")
    assert namespace.get("configmap", "settings") is not None
    failed = namespace.cluster.helm("upgrade", "tiny", str(tmp_path), "--set", "code=1", *where, check=False)
    assert failed.returncode == 1
    assert "migrate" in failed.stderr
    assert (namespace.get("configmap", "settings") or {})["data"] == {"code": "0"}


def test_objects_and_addresses_survive_a_stop_and_pods_start_again(tmp_path: Path) -> None:
    reason = sandbox.unavailable()
    if reason is not None:
        pytest.skip(reason)
    first = sandbox.Cluster(tmp_path)
    with first:
        first.register(images.machine("machine"))
        before = Namespace(first, first.create_namespace("kept"))
        before.create(pod("always", container("sleep 600"), restartPolicy="Always"))
        before.create(pod("once", container("sleep 600")))
        before.running("always")
        before.running("once")
        assert len(processes_with(str(tmp_path))) >= 5
    assert processes_with(str(tmp_path)) == []
    with sandbox.Cluster(tmp_path) as second:
        assert second.url == first.url
        after = Namespace(second, "kept")
        lost = after.over("once")
        assert (lost["status"]["phase"], lost["status"]["reason"]) == ("Failed", "NodeRestarted")
        after.wait("pod", "always", lambda found: condition(found, "Ready"), "is ready")


def test_the_node_and_its_clients_outlive_a_restart_of_the_api_server(namespace: Namespace) -> None:
    plane = namespace.cluster.control_plane
    plane.api_server.kill()
    plane.start_api_server()
    namespace.run(pod("after", container("echo still here")))
    assert namespace.logs("after") == "still here\n"


def test_a_cluster_whose_owner_is_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    reason = sandbox.unavailable()
    if reason is not None:
        pytest.skip(reason)
    command = [sys.executable, "-m", "sandbox.cluster", "--state", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as owner:
        assert owner.stdout is not None
        assert "is ready after" in owner.stdout.readline()
        environment = {"KUBECONFIG": str(tmp_path / "admin.kubeconfig"), "HOME": str(tmp_path)}
        run = [str(tmp_path / "bin" / "kubectl"), "run", "sleeper", "--image=machine", "--command", "--", "sleep", "600"]
        subprocess.run(run, env=environment, check=True, capture_output=True)
        ready = [run[0], "wait", "--for=condition=Ready", "pod/sleeper", "--timeout=60s"]
        subprocess.run(ready, env=environment, check=True, capture_output=True)
        owner.send_signal(signal.SIGKILL)
    for _ in range(100):
        if not processes_with(str(tmp_path)):
            break
        signal.sigtimedwait([], 0.1)
    assert processes_with(str(tmp_path)) == []
