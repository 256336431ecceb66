"""Addresses, mounts and pools as people write them by mistake: each is named before anything is asked, with what to write instead."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from deployments.console import deploy, deployment_file, flow_runs
from migrator import errors
from migrator.address import addresses
from tasks import database_url, fleet
from tasks.credentials import vault
from tasks.settings import Settings

TARGET = fleet.load().target("auth-service", "dev")


@pytest.mark.parametrize("end", ["/v1", "/v1/", "/ui", "/ui/vault"])
def test_bad_flow_the_address_of_vaults_api_or_ui(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREYLAG_VAULT_ADDRESS", f"https://vault.example:8200{end}")
    monkeypatch.setenv("GREYLAG_VAULT_TOKEN", "x")
    with pytest.raises(errors.UsageError) as caught:
        vault.read(TARGET, Settings())
    assert caught.value.code == "vault-address"
    assert caught.value.hint == "write https://vault.example:8200"


@pytest.mark.parametrize("mount", ["secret/data", "team/secret/data/"])
def test_bad_flow_a_mount_with_the_apis_data(mount: str) -> None:
    text = f"vault: {{mount: {mount}}}\nenvironments: {{dev: {{suffix: _dev}}}}\nservices: {{shop: {{engine: postgres, database: s, migrations: m}}}}\n"
    with pytest.raises(errors.UsageError, match=f"write {mount.strip('/').removesuffix('/data')}, as") as caught:
        fleet.parse(text, Path("/fleet.yaml"))
    assert caught.value.code == "bad-fleet"


def answer(status: int, **content: Any) -> errors.GreylagError:
    response = httpx.Response(status, request=httpx.Request("GET", "http://prefect.example/x"), **content)
    return flow_runs._refused(httpx.HTTPStatusError("", request=response.request, response=response))


@pytest.mark.parametrize("content", [{"json": {"detail": "Not Found"}}, {"text": "<html>nginx</html>"}, {"json": ["no"]}])
def test_bad_flow_an_address_without_api_or_of_another_server(content: dict[str, Any]) -> None:
    assert (answer(404, **content).code, answer(405, **content).code) == ("prefect-address", "prefect-address")
    assert "/api at its end" in answer(404, **content).hint


def test_what_prefect_itself_does_not_find_is_no_wrong_address() -> None:
    assert answer(404, json={"detail": "Flow run not found"}).code == "prefect-unavailable"
    assert answer(404, json={"exception_message": "gone"}).code == "prefect-unavailable"


def hinted(password: str) -> str:
    url = addresses.build("postgres", host="h", port=1, username="u", password=password, database="d", parameters={})
    found = database_url.login_hint(TARGET, SecretStr(url), "version 3 of secret/apps/x")
    assert password not in found and "must be percent-encoded" not in found
    return found


def test_the_hint_at_a_refused_login_knows_where_it_comes_from_and_what_is_odd() -> None:
    assert hinted("plain-password") == "user and password come from version 3 of secret/apps/x"
    assert "white space or a line break: `vault kv patch" in hinted("ends with a break\n")
    assert "white space" in hinted(" begins with a space")
    assert "looks percent-encoded: it is stored as it is" in hinted("p%40ss%2Fword")
    assert "percent-encoded" not in hinted("100%sure")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda items: items[0]["work_pool"].update(name="greylag-prod"), "says that dev's is greylag-dev"),
        (
            lambda items: items.remove(next(item for item in items if item["name"] == "plan-environment-release")),
            "no deployment plan-environment-release",
        ),
    ],
)
def test_bad_flow_prefect_yaml_and_fleet_yaml_contradict_each_other(change: Any, words: str) -> None:
    document = copy.deepcopy(deployment_file.read(deploy.FILE))
    deployment_file.require_agreement(document, fleet.load())
    change(document["deployments"])
    with pytest.raises(errors.UsageError, match=words) as caught:
        deployment_file.require_agreement(document, fleet.load())
    assert caught.value.code == "bad-deployments"
