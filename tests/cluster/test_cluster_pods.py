"""Pods on the sandbox's node behave as on a real one: variables, volumes, users, ends, restarts and what a status says of them."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any

import pytest

from sandbox.cluster import images
from tests.cluster.workloads import Namespace, condition, container, pod, state, waiting

pytestmark = pytest.mark.cluster


def configmap(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> dict[str, Any]:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}


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
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    ]
    sources = [
        {"prefix": "APP_", "configMapRef": {"name": "settings"}},
        {"configMapRef": {"name": "not-there", "optional": True}},
        {"secretRef": {"name": "not-there-either", "optional": True}},
    ]
    main = container("env -0", env=variables, envFrom=sources, resources={"limits": {"cpu": "2"}})
    namespace.run(pod("variables", main))
    found = dict(line.split("=", 1) for line in namespace.logs("variables").split("\0") if line)
    assert {name: found.get(name) for name in ("FIRST", "SECOND", "PASSWORD", "APP_LEVEL", "NODE", "APP", "CPU")} == {
        "FIRST": "1",
        "SECOND": "1-$(UNKNOWN)-$(FIRST)",
        "PASSWORD": "p%/:@#?&+ '\"\\$é漢",
        "APP_LEVEL": "info",
        "NODE": "node1",
        "APP": "variables",
        "CPU": "2",
    }
    assert "ABSENT" not in found and "LEVEL" not in found


def test_volumes_lie_where_they_are_mounted(namespace: Namespace) -> None:
    namespace.apply(configmap("sql", **{"1_users.sql": "CREATE TABLE users ();"}), secret("login", password="hunter2"))
    volumes = [
        {"name": "sql", "configMap": {"name": "sql"}},
        {"name": "login", "secret": {"secretName": "login", "defaultMode": 0o440, "items": [{"key": "password", "path": "deep/word"}]}},
        {"name": "work", "emptyDir": {}},
        {"name": "labels", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    mounts = [
        {"name": "sql", "mountPath": "/migrations"},
        {"name": "sql", "mountPath": "/etc/one.sql", "subPath": "1_users.sql"},
        {"name": "login", "mountPath": "/var/run/login"},
        {"name": "work", "mountPath": "/work"},
        {"name": "labels", "mountPath": "/labels"},
    ]
    script = """
        cat /migrations/1_users.sql /etc/one.sql; echo
        stat -c %a-%g /var/run/login/deep/word; cat /run/login/deep/word; echo
        cat /labels/labels; echo
        touch /migrations/x 2>/dev/null || echo read-only
        echo written >/work/file && cat /work/file; id -u
    """
    user = {"runAsUser": 65532, "runAsNonRoot": True, "fsGroup": 2000}
    ended = namespace.run(pod("volumes", container(script, volumeMounts=mounts), volumes=volumes, securityContext=user))
    sql = "CREATE TABLE users ();"
    expected = f'{sql}{sql}\n440-2000\nhunter2\napp="volumes"\nread-only\nwritten\n65532\n'
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


def test_bad_flow_root_is_refused_where_the_manifest_forbids_it(namespace: Namespace) -> None:
    namespace.create(pod("root", container("id"), securityContext={"runAsNonRoot": True}))
    found = namespace.wait("pod", "root", lambda pod: waiting(pod) == "CreateContainerConfigError", "is refused")
    assert state(found)["waiting"] == {
        "reason": "CreateContainerConfigError",
        "message": "container has runAsNonRoot and image will run as root",
    }


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


def test_bad_flow_a_program_that_is_not_there(namespace: Namespace) -> None:
    ended = namespace.run(pod("typo", {"name": "main", "image": "machine", "command": ["goose-up"]}))
    end = state(ended)["terminated"]
    assert (end["exitCode"], end["reason"]) == (128, "StartError")
    assert '"goose-up": executable file not found in $PATH' in end["message"]


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [("exit 0", 0, "Completed"), ("exit 14", 14, "Error"), ("exec python3 -c 'import ctypes; ctypes.string_at(0)'", 139, "Error")],
    ids=["success", "failure", "segmentation-fault"],
)
def test_exit_codes_reach_the_status(namespace: Namespace, script: str, code: int, reason: str) -> None:
    ended = namespace.run(pod("ends", container(script)))
    end = state(ended)["terminated"]
    assert (end["exitCode"], end["reason"]) == (code, reason)
    assert end["finishedAt"] >= end["startedAt"]


def test_the_termination_message_is_kept(namespace: Namespace) -> None:
    outcome = json.dumps({"code": "checksum-changed", "version": 20240101})
    ended = namespace.run(pod("words", container(f"echo '{outcome}' >/dev/termination-log; exit 11")))
    assert json.loads(state(ended)["terminated"]["message"])["code"] == "checksum-changed"


def test_the_end_of_the_log_stands_in_for_a_termination_message(namespace: Namespace) -> None:
    main = container("echo first; echo last words; exit 1", terminationMessagePolicy="FallbackToLogsOnError")
    assert state(namespace.run(pod("fallback", main)))["terminated"]["message"] == "first\nlast words\n"


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


def test_a_failing_container_is_restarted_with_backoff_and_its_last_end_is_kept(namespace: Namespace) -> None:
    namespace.create(pod("crashing", container("echo attempt; exit 7"), restartPolicy="Always"))
    found = namespace.wait("pod", "crashing", lambda pod: waiting(pod) == "CrashLoopBackOff", "is in back-off")
    status = found["status"]["containerStatuses"][0]
    assert status["restartCount"] >= 1
    assert status["lastState"]["terminated"]["exitCode"] == 7
    assert found["status"]["phase"] == "Running" and not condition(found, "Ready")
    assert namespace.logs("crashing", "--previous") == "attempt\n"
    assert "BackOff" in namespace.reasons("crashing")


def test_init_containers_run_in_order_before_the_others(namespace: Namespace) -> None:
    mounts = [{"name": "work", "mountPath": "/work"}]
    first, second = (container(f"echo {name} >>/work/order", name, volumeMounts=mounts) for name in ("first", "second"))
    main = container("cat /work/order", volumeMounts=mounts)
    ended = namespace.run(pod("ordered", main, initContainers=[first, second], volumes=[{"name": "work", "emptyDir": {}}]))
    assert namespace.logs("ordered") == "first\nsecond\n"
    assert condition(ended, "Initialized")


def test_bad_flow_a_failing_init_container_keeps_the_others_from_starting(namespace: Namespace) -> None:
    gate = container("echo not yet; exit 24", "gate")
    ended = namespace.run(pod("gated", container("echo started"), initContainers=[gate]))
    assert ended["status"]["phase"] == "Failed"
    assert state(ended, "gate")["terminated"]["exitCode"] == 24
    assert waiting(ended) == "PodInitializing"
    assert namespace.cluster.kubectl("logs", "--namespace", namespace.name, "gated", check=False).returncode == 1


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
