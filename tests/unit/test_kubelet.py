"""The pure parts of the sandbox's cluster: variables, images, descriptions, logs, statuses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sandbox.cluster import api, descriptions, environment, images, kubeconfigs, logs, statuses, supervisor, volumes

POD: dict[str, Any] = {
    "metadata": {"name": "auth-1", "namespace": "my-girok", "uid": "u", "labels": {"app": "auth"}, "annotations": {}},
    "spec": {"containers": [], "serviceAccountName": "default", "nodeName": "node1"},
    "status": {"podIP": "127.77.0.1", "podIPs": [{"ip": "127.77.0.1"}]},
}


def nothing(kind: str, name: str, optional: bool) -> Mapping[str, bytes]:
    if optional:
        return {}
    raise environment.NotConfigured(f'{kind} "{name}" not found')


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y$(B)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $(", "$A ${A} $("),
        ("", ""),
    ],
)
def test_references_are_expanded_as_kubernetes_does(text: str, expanded: str) -> None:
    assert environment.expand(text, {"A": "1"}) == expanded


def test_a_later_variable_wins_and_sees_the_earlier() -> None:
    container = {"env": [{"name": "A", "value": "$(PATH):x"}, {"name": "A", "value": "$(A):y"}]}
    assert environment.resolve(POD, container, {"PATH": "/bin"}, nothing)["A"] == "/bin:x:y"


def test_bad_flow_a_key_that_is_not_in_the_secret_is_named() -> None:
    container = {"env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}]}
    with pytest.raises(environment.NotConfigured, match="couldn't find key password in secret my-girok/login"):
        environment.resolve(POD, container, {}, lambda *_: {"user": b"x"})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "auth-1"),
        ("metadata.labels['app']", "auth"),
        ("metadata.labels['none']", ""),
        ("spec.nodeName", "node1"),
        ("status.podIP", "127.77.0.1"),
        ("spec.none.at.all", ""),
    ],
)
def test_the_downward_api(path: str, value: str) -> None:
    assert environment.field_value(POD, path) == value


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("auth", "auth"),
        ("auth:1.2", "auth"),
        ("registry:5000/team/auth", "registry:5000/team/auth"),
        ("registry:5000/team/auth:1.2@sha256:abc", "registry:5000/team/auth"),
    ],
)
def test_the_repository_of_an_image(name: str, repository: str) -> None:
    assert images.repository(name) == repository


def test_an_image_of_a_tag_comes_before_the_one_of_all_tags(tmp_path: Path) -> None:
    registry = images.Registry(tmp_path)
    registry.register(images.Image("auth", environment={"RELEASE": "any"}))
    registry.register(images.Image("auth:2", environment={"RELEASE": "2"}, entrypoint=("serve",)))
    found = {name: registry.find(name) for name in ("auth:1", "auth:2", "auth:2@sha256:0", "other:1")}
    assert {name: image and image.environment["RELEASE"] for name, image in found.items()} == {
        "auth:1": "any",
        "auth:2": "2",
        "auth:2@sha256:0": "2",
        "other:1": None,
    }
    assert found["auth:2"] is not None and found["auth:2"].entrypoint == ("serve",)


def test_two_releases_of_an_image_have_two_digests() -> None:
    first, second = (images.Image("auth:1", environment={"RELEASE": release}) for release in "12")
    assert first.identity != second.identity
    assert first.identity.startswith("auth@sha256:")


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({}, ["greylag", "up"]),
        ({"args": ["status"]}, ["greylag", "status"]),
        ({"command": ["sh"]}, ["sh"]),
        ({"command": ["sh"], "args": ["-c", "$(A)"]}, ["sh", "-c", "1"]),
    ],
)
def test_command_and_args_replace_what_the_image_says(container: dict[str, Any], expected: list[str]) -> None:
    image = images.Image("greylag", entrypoint=("greylag",), command=("up",))
    assert descriptions.command(container, image, {"A": "1"}) == expected


def test_bad_flow_nothing_to_run() -> None:
    with pytest.raises(environment.NotConfigured, match="no command specified"):
        descriptions.command({}, images.machine("machine"), {})


def described(container: dict[str, Any], **pod_security: Any) -> dict[str, Any]:
    pod = POD | {"spec": POD["spec"] | {"securityContext": pod_security}}
    host_files = descriptions.HostFiles(Path("/scratch"), Path("/log"), Path("/words"))
    return descriptions.describe(pod, {"command": ["true"], **container}, images.machine("machine"), {}, {}, host_files)


def test_a_containers_security_wins_over_its_pods() -> None:
    found = described({"securityContext": {"runAsUser": 1000}}, runAsUser=2000, runAsGroup=3000, fsGroup=4000, supplementalGroups=[5000])
    assert (found["user"], found["group"], found["groups"]) == (1000, 3000, [4000, 5000])


def test_bad_flow_root_is_refused_where_the_manifest_forbids_it() -> None:
    with pytest.raises(environment.NotConfigured, match="container has runAsNonRoot and image will run as root"):
        described({"securityContext": {"runAsNonRoot": True}})


def test_capabilities_are_those_of_a_container_runtime_unless_dropped() -> None:
    assert "SYS_ADMIN" not in described({})["capabilities"] and "CHOWN" in described({})["capabilities"]
    assert described({"securityContext": {"capabilities": {"drop": ["ALL"]}}})["capabilities"] == []
    kept = described({"securityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}})
    assert kept["capabilities"] == ["NET_BIND_SERVICE"]


def test_the_termination_log_is_where_the_manifest_says() -> None:
    found = described({"terminationMessagePath": "/words.json"})
    assert {"source": "/words", "target": "/words.json", "writable": True, "reachable": False} in found["mounts"]


def test_symbolic_links_are_followed_inside_the_root(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "run").symlink_to("/run")
    (tmp_path / "var" / "up").symlink_to("../../../../run")
    assert supervisor.inside(tmp_path, "/var/run/secrets") == tmp_path / "run" / "secrets"
    assert supervisor.inside(tmp_path, "/var/up/x") == tmp_path / "run" / "x"
    assert supervisor.inside(tmp_path, "/../../etc") == tmp_path / "etc"


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"2026-01-02T03:04:0{number}.000000000Z {line}\n" for number, line in enumerate(lines)), encoding="utf-8")
    return path


def shown(path: Path, **query: str) -> str:
    return b"".join(logs.read(path, logs.options(query), lambda: True)).decode()


def test_the_options_of_a_log(tmp_path: Path) -> None:
    log = written(tmp_path / "0.log", "F one", "P tw", "F o", "F three", "P rest")
    assert shown(log) == "one\ntwo\nthree\nrest"
    assert shown(log, tailLines="3") == "two\nthree\nrest"
    assert shown(log, tailLines="0") == ""
    assert shown(log, sinceTime="2026-01-02T03:04:03Z") == "three\nrest"
    assert shown(log, timestamps="true", tailLines="2") == "2026-01-02T03:04:03.000000000Z three\n2026-01-02T03:04:04.000000000Z rest"
    assert shown(log, follow="true", tailLines="1") == "rest"


def test_bad_flow_a_log_option_that_is_no_number() -> None:
    with pytest.raises(ValueError, match="many"):
        logs.options({"tailLines": "many"})


def test_last_words_are_short(tmp_path: Path) -> None:
    log = written(tmp_path / "0.log", *[f"F {'x' * 1000}"] * 9)
    assert len(logs.last_words(log)) == 2048
    assert logs.last_words(tmp_path / "none") == b""


def test_a_conditions_time_is_kept_while_it_stays_as_it_was() -> None:
    before = [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}]

    def ready(now: bool) -> dict[str, Any]:
        found = statuses.conditions(statuses.RUNNING, sandbox=True, initialised=True, ready=now, before=before)
        return next(condition for condition in found if condition["type"] == "Ready")

    assert ready(False)["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert ready(True)["lastTransitionTime"] > "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(("codes", "phase"), [([0, 0], "Succeeded"), ([0, 1], "Failed"), ([0, None], "Failed")])
def test_a_pod_succeeds_if_all_its_containers_do(codes: list[int | None], phase: str) -> None:
    assert statuses.final_phase(codes) == phase


def test_volumes_are_written_with_their_modes(tmp_path: Path) -> None:
    source = {"name": "login", "secret": {"secretName": "login", "defaultMode": 0o400, "items": [{"key": "p", "path": "deep/p"}]}}
    pod = POD | {"spec": POD["spec"] | {"volumes": [source, {"name": "work", "emptyDir": {}}]}}
    found = volumes.prepare(pod, tmp_path, volumes.Sources(lambda *_: {"p": b"x", "q": b"y"}, lambda _: "token"))
    assert (found["login"].writable, found["work"].writable) == (False, True)
    assert sorted(path.name for path in (tmp_path / "login").rglob("*")) == ["deep", "p"]
    assert (tmp_path / "login" / "deep" / "p").stat().st_mode & 0o777 == 0o400


def test_bad_flow_a_kind_of_volume_that_the_sandbox_lacks(tmp_path: Path) -> None:
    pod = POD | {"spec": POD["spec"] | {"volumes": [{"name": "disk", "persistentVolumeClaim": {"claimName": "x"}}]}}
    with pytest.raises(environment.NotConfigured, match="persistentVolumeClaim"):
        volumes.prepare(pod, tmp_path, volumes.Sources(nothing, lambda _: ""))


def test_a_kubeconfig_is_complete_and_private(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("PEM", encoding="utf-8")
    path = kubeconfigs.write(tmp_path / "worker.kubeconfig", "https://127.0.0.1:1", tmp_path / "ca.crt", kubeconfigs.token("word"), "prod")
    assert path.stat().st_mode & 0o777 == 0o600
    assert '"namespace": "prod"' in path.read_text(encoding="utf-8")
    assert str(tmp_path) not in path.read_text(encoding="utf-8")


def test_a_login_does_not_show_its_token() -> None:
    assert "word" not in repr(api.Login(token="word"))
