"""Logs of pods, through the API server and the node's own HTTPS endpoint."""

from __future__ import annotations

import datetime
import ssl
import subprocess
import urllib.error
import urllib.request

import pytest

from tests.cluster.workloads import Namespace, container, pod

pytestmark = pytest.mark.cluster


def test_the_last_lines_and_their_times(namespace: Namespace) -> None:
    namespace.run(pod("talks", container("echo one; echo two >&2; printf three")))
    assert namespace.logs("talks") == "one\ntwo\nthree"
    assert namespace.logs("talks", "--tail=2") == "two\nthree"
    assert namespace.logs("talks", "--limit-bytes=5") == "one\nt"
    stamp, _, text = namespace.logs("talks", "--timestamps").splitlines()[0].partition(" ")
    assert text == "one"
    assert datetime.datetime.fromisoformat(stamp.removesuffix("000Z")).year >= 2024


def test_what_is_older_than_a_time_is_left_out(namespace: Namespace) -> None:
    namespace.run(pod("older", container("echo one; sleep 1.2; echo two")))
    stamps = [line.split()[0] for line in namespace.logs("older", "--timestamps").splitlines()]
    assert namespace.logs("older", f"--since-time={stamps[1][:19]}Z") == "two\n"


def test_a_long_line_comes_back_whole(namespace: Namespace) -> None:
    namespace.run(pod("long", container('python3 -c \'print("x" * 50_000); print("end")\'')))
    assert [len(line) for line in namespace.logs("long").splitlines()] == [50_000, 3]
    assert namespace.logs("long", "--tail=1") == "end\n"


def test_a_log_is_followed_until_the_container_ends(namespace: Namespace) -> None:
    namespace.create(pod("slow", container("for i in 1 2 3; do echo $i; sleep 0.3; done")))
    namespace.cluster.wait_until(lambda: namespace.said("slow") != "", "has said something")
    assert namespace.logs("slow", "--follow") == "1\n2\n3\n"


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
