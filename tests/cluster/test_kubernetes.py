"""The sandbox's Kubernetes: what its node does with a pod is what a real one does, as far as greylag's tests stand on it.

The API server, the controllers and the scheduler are real; the node (`sandbox/cluster/kubelet.py`) is ours, and so these tests are about it. Jobs
(kubernetes.md §1.8), rollouts, service accounts and Vault's login on this cluster are what the other files here are about.
"""

from __future__ import annotations

import datetime
import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from sandbox.cluster import cluster as sandbox
from sandbox.cluster import images
from sandbox.cluster.api import Api, ApiRefused, Login, Object
from tests.cluster.workloads import Namespace, condition, configmap, container, job, pod, secret, state, waiting

pytestmark = pytest.mark.cluster


def restarts(found: dict[str, Any]) -> int:
    statuses = found["status"].get("containerStatuses") or [{"restartCount": 0}]
    return int(statuses[0]["restartCount"])


def test_variables_come_from_every_source(namespace: Namespace) -> None:
    namespace.apply(configmap("settings", LEVEL="info", OTHER="x"), secret("login", password="p%/:@#?&+ '\"\\$é漢"))
    variables = [
        {"name": "FIRST", "value": "1"},
        {"name": "SECOND", "value": "$(FIRST)-$(UNKNOWN)-$$(FIRST)"},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
        {"name": "ABSENT", "valueFrom": {"secretKeyRef": {"name": "login", "key": "nothing", "optional": True}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
    ]
    sources = [
        {"prefix": "APP_", "configMapRef": {"name": "settings"}},
        {"configMapRef": {"name": "not-there", "optional": True}},
        {"secretRef": {"name": "not-there-either", "optional": True}},
    ]
    main = container("env -0", env=variables, envFrom=sources)
    namespace.run(pod("variables", main))
    found = dict(line.split("=", 1) for line in namespace.logs("variables").split("\0") if line)
    assert {name: found.get(name) for name in ("FIRST", "SECOND", "PASSWORD", "APP_LEVEL", "NODE", "APP")} == {
        "FIRST": "1",
        "SECOND": "1-$(UNKNOWN)-$(FIRST)",
        "PASSWORD": "p%/:@#?&+ '\"\\$é漢",
        "APP_LEVEL": "info",
        "NODE": "node1",
        "APP": "variables",
    }
    assert "ABSENT" not in found and "LEVEL" not in found


def test_volumes_lie_where_they_are_mounted(namespace: Namespace) -> None:
    namespace.apply(configmap("sql", **{"1_users.sql": "CREATE TABLE users ();"}), secret("login", password="hunter2"))
    volumes = [
        {"name": "sql", "configMap": {"name": "sql"}},
        {"name": "login", "secret": {"secretName": "login", "defaultMode": 0o440, "items": [{"key": "password", "path": "deep/word"}]}},
        {"name": "work", "emptyDir": {}},
        {"name": "app", "downwardAPI": {"items": [{"path": "app", "fieldRef": {"fieldPath": "metadata.labels['app']"}}]}},
    ]
    mounts = [
        {"name": "sql", "mountPath": "/migrations"},
        {"name": "sql", "mountPath": "/etc/one.sql", "subPath": "1_users.sql"},
        {"name": "login", "mountPath": "/var/run/login"},
        {"name": "work", "mountPath": "/work"},
        {"name": "app", "mountPath": "/labels"},
    ]
    script = """
        cat /migrations/1_users.sql /etc/one.sql; echo
        stat -c %a-%g /var/run/login/deep/word; cat /run/login/deep/word; echo
        cat /labels/app; echo
        touch /migrations/x 2>/dev/null || echo read-only
        echo written >/work/file && cat /work/file; id -u
    """
    user = {"runAsUser": 65532, "runAsNonRoot": True, "fsGroup": 2000}
    ended = namespace.run(pod("volumes", container(script, volumeMounts=mounts), volumes=volumes, securityContext=user))
    sql = "CREATE TABLE users ();"
    expected = f"{sql}{sql}\n440-2000\nhunter2\nvolumes\nread-only\nwritten\n65532\n"
    assert namespace.logs("volumes") == expected
    assert ended["status"]["phase"] == "Succeeded"


def test_a_container_is_alone_with_its_files_and_processes(namespace: Namespace) -> None:
    word = secrets.token_hex(8)
    script = f"echo $$$$; hostname; ls -A /tmp; touch /tmp/x /{word} && ls /{word}; ps -e --no-headers | wc -l"
    namespace.run(pod("alone", container(script)))
    assert namespace.logs("alone").split() == ["1", "alone", f"/{word}", "3"]
    namespace.run(pod("another", container(f"ls /{word}")))
    assert state(namespace.get("pod", "another") or {})["terminated"]["exitCode"] == 2


def test_a_restricted_container_can_write_to_its_volume_alone(namespace: Namespace) -> None:
    security = {
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    script = "touch /x; touch /tmp/x; touch /work/x && echo work; grep -E 'NoNewPrivs|CapBnd' /proc/self/status | tr -s '\\t' ' '; id"
    main = container(script, securityContext=security, volumeMounts=[{"name": "work", "mountPath": "/work"}])
    namespace.run(pod("restricted", main, volumes=[{"name": "work", "emptyDir": {}}]))
    lines = namespace.logs("restricted").splitlines()
    assert [line for line in lines if "Read-only file system" in line] == lines[:2]
    assert lines[2:] == ["work", "CapBnd: 0000000000000000", "NoNewPrivs: 1", "uid=65532 gid=65532 groups=65532"]


def test_bad_flow_a_missing_configmap_holds_the_container_until_it_is_there(namespace: Namespace) -> None:
    namespace.create(pod("early", container("echo $LEVEL", envFrom=[{"configMapRef": {"name": "late"}}])))
    found = namespace.wait("pod", "early", lambda pod: waiting(pod) == "CreateContainerConfigError", "waits for its ConfigMap")
    assert state(found)["waiting"]["message"] == 'configmap "late" not found'
    assert found["status"]["phase"] == "Pending"
    namespace.create(configmap("late", LEVEL="info"))
    assert namespace.over("early")["status"]["phase"] == "Succeeded"
    assert namespace.logs("early") == "info\n"


def test_bad_flow_a_missing_secret_in_a_volume_keeps_the_pod_creating(namespace: Namespace) -> None:
    mounted = container("ls /login", volumeMounts=[{"name": "login", "mountPath": "/login"}])
    namespace.create(pod("unmounted", mounted, volumes=[{"name": "login", "secret": {"secretName": "late"}}]))
    namespace.cluster.wait_until(lambda: "FailedMount" in namespace.reasons("unmounted"), "an event says why")
    assert (namespace.get("pod", "unmounted") or {})["status"]["phase"] == "Pending"
    namespace.create(secret("late", password="x"))
    namespace.over("unmounted")
    assert namespace.logs("unmounted") == "password\n"


def test_bad_flow_an_unknown_image_is_pulled_once_it_is_registered(namespace: Namespace) -> None:
    name = f"registry.example/{namespace.name}:1"
    namespace.create(pod("unpulled", container("echo $RELEASE", image=name)))
    found = namespace.wait("pod", "unpulled", lambda pod: waiting(pod) == "ImagePullBackOff", "can't be pulled")
    assert f'Back-off pulling image "{name}"' in state(found)["waiting"]["message"]
    namespace.cluster.register(images.Image(name, environment={"RELEASE": "1.0"}))
    ended = namespace.over("unpulled")
    assert namespace.logs("unpulled") == "1.0\n"
    assert ended["status"]["containerStatuses"][0]["imageID"].startswith(f"registry.example/{namespace.name}@sha256:")


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [("exit 14", 14, "Error"), ("exec python3 -c 'import ctypes; ctypes.string_at(0)'", 139, "Error")],
    ids=["failure", "segmentation-fault"],
)
def test_exit_codes_reach_the_status(namespace: Namespace, script: str, code: int, reason: str) -> None:
    ended = namespace.run(pod("ends", container(script)))
    end = state(ended)["terminated"]
    assert (end["exitCode"], end["reason"]) == (code, reason)
    assert end["finishedAt"] >= end["startedAt"]


def test_a_deleted_pod_gets_sigterm_and_time(namespace: Namespace) -> None:
    namespace.create(pod("polite", container("trap 'echo bye; exit 3' TERM; echo ready; sleep 600 & wait")))
    namespace.cluster.wait_until(lambda: namespace.get("pod", "polite") is not None, "is there")
    namespace.running("polite")
    namespace.cluster.wait_until(lambda: "ready" in namespace.said("polite"), "listens")
    finalizer = {"metadata": {"finalizers": ["greylag.test/kept"]}}
    path = f"/api/v1/namespaces/{namespace.name}/pods/polite"
    namespace.cluster.api.patch(path, finalizer)
    namespace.delete("pod", "polite")
    ended = namespace.over("polite")
    assert state(ended)["terminated"]["exitCode"] == 3
    assert ended["status"]["phase"] == "Failed"
    namespace.cluster.api.patch(path, {"metadata": {"finalizers": None}}, "application/merge-patch+json")
    namespace.gone("pod", "polite")


def test_process_1_that_does_not_listen_is_killed_when_the_grace_is_over(namespace: Namespace) -> None:
    namespace.create(pod("deaf", container("sleep 600"), terminationGracePeriodSeconds=1, activeDeadlineSeconds=1))
    ended = namespace.over("deaf")
    assert ended["status"]["reason"] == "DeadlineExceeded"
    assert state(ended)["terminated"]["exitCode"] == 137


def test_init_containers_run_in_order_before_the_others(namespace: Namespace) -> None:
    mounts = [{"name": "work", "mountPath": "/work"}]
    first, second = (container(f"echo {name} >>/work/order", name, volumeMounts=mounts) for name in ("first", "second"))
    main = container("cat /work/order", volumeMounts=mounts)
    ended = namespace.run(pod("ordered", main, initContainers=[first, second], volumes=[{"name": "work", "emptyDir": {}}]))
    assert namespace.logs("ordered") == "first\nsecond\n"
    assert condition(ended, "Initialized")


def test_an_init_container_is_tried_again_until_it_passes(namespace: Namespace) -> None:
    gate = container(
        "test -e /work/passed || { touch /work/passed; exit 24; }", "gate", volumeMounts=[{"name": "work", "mountPath": "/work"}]
    )
    whole = pod(
        "retried", container("sleep 600"), initContainers=[gate], volumes=[{"name": "work", "emptyDir": {}}], restartPolicy="Always"
    )
    namespace.create(whole)
    found = namespace.running("retried")
    gate_status = found["status"]["initContainerStatuses"][0]
    assert (gate_status["restartCount"], gate_status["lastState"]["terminated"]["exitCode"]) == (1, 24)


def test_two_pods_may_listen_on_one_port(namespace: Namespace) -> None:
    address = [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    probe = {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1, "timeoutSeconds": 5}
    ports = [{"name": "web", "containerPort": 18123}]
    for name in ("one", "two"):
        main = container("exec python3 -m http.server --bind $POD_IP 18123", env=address, readinessProbe=probe, ports=ports)
        namespace.create(pod(name, main))
    addresses = {namespace.wait("pod", name, lambda pod: condition(pod, "Ready"), "is ready")["status"]["podIP"] for name in ("one", "two")}
    assert len(addresses) == 2


def test_probes_decide_when_a_container_is_started_ready_and_restarted(namespace: Namespace) -> None:
    def probe(test: str, **more: int) -> dict[str, Any]:
        return {"exec": {"command": ["sh", "-c", test]}, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 5, **more}

    main = container(
        "touch /alive; sleep 1; touch /up; trap 'exit 0' TERM; sleep 600 & wait",
        startupProbe=probe("test -e /up", failureThreshold=60),
        readinessProbe=probe("test -e /ready || { touch /ready; false; }"),
        livenessProbe=probe("test ! -e /dead"),
    )
    namespace.create(pod("probed", main, restartPolicy="Always"))
    namespace.wait("pod", "probed", lambda pod: condition(pod, "Ready"), "is ready")
    dying = container("sleep 2; touch /dead; trap 'exit 0' TERM; sleep 600 & wait", livenessProbe=probe("test ! -e /dead"))
    namespace.create(pod("dying", dying, restartPolicy="Always"))
    found = namespace.wait("pod", "dying", lambda pod: restarts(pod) >= 1, "is restarted")
    assert "Unhealthy" in namespace.reasons("dying")
    assert found["status"]["phase"] == "Running"


def pods_of(namespace: Namespace, name: str) -> list[Object]:
    return namespace.list("pod", labelSelector=f"batch.kubernetes.io/job-name={name}")


def test_the_next_pod_waits_until_the_deleted_one_has_ended(namespace: Namespace) -> None:
    script = "trap 'sleep 1; exit 143' TERM; sleep 600 & wait"
    namespace.create(job("replaced", script, backoffLimit=3, podReplacementPolicy="Failed"))
    namespace.cluster.wait_until(lambda: len(pods_of(namespace, "replaced")) == 1, "the first pod")
    first = namespace.running(pods_of(namespace, "replaced")[0]["metadata"]["name"])["metadata"]
    namespace.delete("pod", first["name"], gracePeriodSeconds=5)
    alive: list[int] = []

    def replaced() -> bool:
        found = pods_of(namespace, "replaced")
        alive.append(len([pod for pod in found if pod["status"]["phase"] in ("Pending", "Running")]))
        return any(pod["metadata"]["uid"] != first["uid"] for pod in found)

    namespace.cluster.wait_until(replaced, "another pod takes its place")
    assert max(alive) == 1


def test_the_last_lines_and_their_times(namespace: Namespace) -> None:
    namespace.run(pod("talks", container("echo one; echo two >&2; printf three")))
    assert namespace.logs("talks") == "one\ntwo\nthree"
    assert namespace.logs("talks", "--tail=2") == "two\nthree"
    stamp, _, text = namespace.logs("talks", "--timestamps").splitlines()[0].partition(" ")
    assert text == "one"
    assert datetime.datetime.fromisoformat(stamp.removesuffix("000Z")).year >= 2024


def test_a_long_line_comes_back_whole(namespace: Namespace) -> None:
    namespace.run(pod("long", container('python3 -c \'print("x" * 50_000); print("end")\'')))
    assert [len(line) for line in namespace.logs("long").splitlines()] == [50_000, 3]
    assert namespace.logs("long", "--tail=1") == "end\n"


def test_a_follower_sees_lines_while_the_container_runs(namespace: Namespace) -> None:
    namespace.create(pod("runs", container("echo begun; trap 'exit 0' TERM; sleep 600 & wait")))
    namespace.running("runs")
    cluster = namespace.cluster
    command = [str(cluster.programs / "kubectl"), "logs", "--follow", "--namespace", namespace.name, "runs"]
    with subprocess.Popen(command, env={"KUBECONFIG": str(cluster.kubeconfig)}, stdout=subprocess.PIPE) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"begun\n"
        assert follower.poll() is None
        namespace.delete("pod", "runs")
        assert follower.wait(30) == 0


def test_bad_flow_a_container_that_has_not_started_has_no_log(namespace: Namespace) -> None:
    namespace.create(pod("waits", container("echo x", image="nobody/knows:1")))
    namespace.wait("pod", "waits", lambda pod: pod.get("spec", {}).get("nodeName"), "is bound")
    refused = namespace.cluster.kubectl("logs", "--namespace", namespace.name, "waits", check=False)
    assert refused.returncode == 1
    assert "waiting to start" in refused.stderr


def test_bad_flow_the_node_answers_nobody_without_a_certificate(namespace: Namespace) -> None:
    node = namespace.cluster.api.get("/api/v1/nodes/node1")
    port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    trusting = ssl.create_default_context(cafile=namespace.cluster.ca_file)
    with pytest.raises((urllib.error.URLError, ConnectionError, ssl.SSLError)):
        urllib.request.urlopen(f"https://127.0.0.1:{port}/healthz", context=trusting, timeout=10).read()
    cluster = namespace.cluster
    trusting.load_cert_chain(cluster.control_plane.admin.certificate, cluster.control_plane.admin.key)
    assert urllib.request.urlopen(f"https://127.0.0.1:{port}/healthz", context=trusting, timeout=10).read() == b"ok"


def review(cluster: sandbox.Cluster, token: str, *audiences: str) -> Object:
    spec = {"token": token} | ({"audiences": list(audiences)} if audiences else {})
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    return dict(cluster.api.create("/apis/authentication.k8s.io/v1/tokenreviews", body)["status"])


def test_a_pods_token_dies_with_its_pod(namespace: Namespace) -> None:
    volume = {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "vault", "audience": "vault"}}]}}
    main = container("cat /token/vault; echo; sleep 600", volumeMounts=[{"name": "token", "mountPath": "/token"}])
    namespace.create(pod("login", main, volumes=[volume], terminationGracePeriodSeconds=0))
    namespace.cluster.wait_until(lambda: namespace.said("login").count(".") == 2, "the token is printed")
    token = namespace.said("login").strip()
    assert review(namespace.cluster, token, "vault")["authenticated"] is True
    namespace.delete("pod", "login", gracePeriodSeconds=0)
    namespace.gone("pod", "login")
    # The API server remembers for ten seconds that it knew the token.
    namespace.cluster.wait_until(lambda: not review(namespace.cluster, token, "vault").get("authenticated"), "the token is dead")


def test_the_node_reads_no_secret_that_none_of_its_pods_refers_to(namespace: Namespace) -> None:
    namespace.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "private"}, "stringData": {"word": "x"}})
    cluster = namespace.cluster
    pair = cluster.control_plane.authority.issue("kubelet", "system:node:node1")
    node = Api(cluster.url, cluster.ca_file, Login(pair.certificate, pair.key))
    with pytest.raises(ApiRefused, match="no relationship found between node"):
        node.get(f"/api/v1/namespaces/{namespace.name}/secrets/private")


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
