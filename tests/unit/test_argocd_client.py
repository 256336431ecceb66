"""The client of Argo CD: what it sends, and what it makes of every kind of answer. The server here is httpx's own transport."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from migrator import errors
from tasks import settings
from tasks.argocd import client as argocd
from tasks.argocd.client import Client
from tasks.fleet import ArgoCD
from tests.unit.argocd_objects import application, asked
from tests.unit.job_objects import target

PLACE = ArgoCD(server="https://argocd.example", application="auth/dev", project="shop", namespace="apps")


def client(answer: Callable[[httpx.Request], httpx.Response]) -> Client:
    return Client(PLACE, httpx.Client(base_url=PLACE.server, transport=httpx.MockTransport(answer)))


def refusing(status: int, code: int, message: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(status, json={"error": message, "code": code, "message": message})


def test_every_request_names_the_project_and_the_namespace_of_the_application() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=application(operation=asked()))

    with client(answer) as made:
        made.application(refresh=True)
        made.sync({"greylag.run": "x"})
        made.terminate()
    assert [request.method for request in seen] == ["GET", "POST", "DELETE"]
    assert all(request.url.raw_path.startswith(b"/api/v1/applications/auth%2Fdev") for request in seen)
    assert {request.headers["content-type"] for request in seen} == {"application/json"}  # also without a body, or it is 415
    assert all(dict(request.url.params) | {"project": "shop", "appNamespace": "apps"} == dict(request.url.params) for request in seen)
    assert json.loads(seen[1].content) == {
        "project": "shop",
        "appNamespace": "apps",
        "prune": False,
        "infos": [{"name": "greylag.run", "value": "x"}],
    }


def test_a_busy_application_is_no_error_and_nothing_to_terminate_neither() -> None:
    assert client(refusing(400, 9, "another operation is already in progress")).sync({}) is None
    assert client(refusing(400, 3, "Unable to terminate operation. No operation is in progress")).terminate() is False


@pytest.mark.parametrize(
    ("windows", "code"),
    [
        ({"canSync": True}, "argocd-forbidden"),
        ({"activeWindows": [{"kind": "deny", "schedule": "* * * * *", "duration": "1h"}]}, "argocd-window"),
        ({"assignedWindows": [{"kind": "allow", "schedule": "0 3 * * *", "duration": "1h"}], "canSync": False}, "argocd-window"),
        (None, "argocd-forbidden"),
    ],
)
def test_a_window_is_told_from_a_missing_right_by_asking_for_the_windows(windows: dict[str, Any] | None, code: str) -> None:
    """Both are 403 code 7; the message alone proves nothing."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/syncwindows"):
            return httpx.Response(403, json={"code": 7}) if windows is None else httpx.Response(200, json=windows)
        return httpx.Response(403, json={"error": "x", "code": 7, "message": "cannot sync: blocked by sync window"})

    with pytest.raises(errors.GreylagError) as caught:
        client(answer).sync({})
    assert caught.value.code == code and caught.value.hint


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (httpx.Response(200, text="<html>log in</html>"), "argocd-unexpected"),
        (httpx.Response(200, json=[]), "argocd-unexpected"),
        (httpx.Response(302, headers={"location": "https://login.example"}), "argocd-unexpected"),
        (httpx.Response(502, text="<html>bad gateway</html>"), "argocd-unavailable"),
        (httpx.Response(401, json={"error": "no session information", "code": 16, "message": "no session information"}), "argocd-login"),
        (httpx.ConnectError("refused"), "argocd-unavailable"),
        (httpx.ReadTimeout("slow"), "argocd-unavailable"),
    ],
)
def test_bad_flow_every_other_answer_has_a_name(answer: httpx.Response | Exception, code: str) -> None:
    def give(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(errors.GreylagError) as caught:
        client(give).application()
    assert caught.value.code == code and caught.value.hint


def test_an_object_that_is_gone_is_none() -> None:
    from tasks.argocd.states import Node

    node = Node(version="v1", kind="Pod", namespace="dev", name="x")
    assert client(refusing(404, 5, "pods x not found")).live(node) is None
    assert client(refusing(400, 3, "Pod /x not found as part of application")).live(node) is None
    found = client(lambda _: httpx.Response(200, json={"manifest": '{"kind": "Pod"}'})).live(node)
    assert found == {"kind": "Pod"}
    with pytest.raises(errors.LoginFailed):
        client(refusing(403, 7, "permission denied")).live(node)


def chosen(**more: Any) -> settings.Settings:
    return settings.load().model_copy(update=more)


def test_the_token_comes_from_a_file_and_is_in_the_header_alone(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("eyJ.to.ken\n", encoding="utf-8")
    made = argocd.connect(target(argocd=PLACE), chosen(argocd_token_file=file))
    assert made._connection.headers["authorization"] == "Bearer eyJ.to.ken"
    assert "eyJ" not in repr(made.settings)


@pytest.mark.parametrize("content", [None, "", "two words", "\x00"])
def test_bad_flow_a_token_that_is_missing_or_no_token(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(errors.UsageError) as caught:
        argocd.connect(target(argocd=PLACE), chosen(argocd_token_file=file))
    assert caught.value.code == "no-argocd" and "GREYLAG_ARGOCD_TOKEN_FILE" in caught.value.hint


def test_bad_flow_no_address_and_no_token_and_no_certificates(tmp_path: Path) -> None:
    for place, more in (
        (ArgoCD(), {"argocd_token": SecretStr("x")}),
        (PLACE, {}),
        (PLACE, {"argocd_token": SecretStr("x"), "argocd_ca_file": tmp_path / "absent.pem"}),
    ):
        with pytest.raises(errors.UsageError) as caught:
            argocd.connect(target(argocd=place), chosen(**more))
        assert caught.value.code == "no-argocd"
