"""Settings from the environment, Vault's own names included."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from migrator import errors
from tasks import settings


def test_without_any_variable_the_defaults_are_those_of_a_job() -> None:
    found = settings.load()
    assert (found.backoff_limit, found.backoff_base_seconds, found.active_deadline_seconds) == (3, 10.0, 900.0)
    assert not found.has_cluster
    assert found.migration_mode("app:1") is settings.Mode.INLINE


def test_a_configured_cluster_makes_the_job_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREYLAG_KUBE_CONTEXT", "kind-dev")
    assert settings.load().migration_mode("app:1") is settings.Mode.JOB
    monkeypatch.setenv("GREYLAG_MODE", "inline")
    assert settings.load().migration_mode("app:1") is settings.Mode.INLINE


def test_vault_is_found_by_its_own_names_and_greylag_ones_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", "https://vault.example:8200/")
    monkeypatch.setenv("VAULT_CACERT", "/etc/vault/ca.crt")
    found = settings.load()
    assert (found.vault_address, found.vault_ca_file) == ("https://vault.example:8200", Path("/etc/vault/ca.crt"))
    monkeypatch.setenv("GREYLAG_VAULT_ADDRESS", "https://other.example")
    assert settings.load().vault_address == "https://other.example"


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREYLAG_BACKOFF_LIMIT", "")
    assert settings.load().backoff_limit == 3


def test_a_token_never_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "hvs.verysecret")
    found = settings.load()
    assert found.vault_token is not None and found.vault_token.get_secret_value() == "hvs.verysecret"
    assert "verysecret" not in repr(found) + str(found.model_dump())


@pytest.mark.parametrize(
    ("variable", "value", "part"),
    [
        ("GREYLAG_BACKOFF_LIMIT", "three", "integer"),
        ("GREYLAG_BACKOFF_LIMIT", "-1", "greater than or equal to 0"),
        ("GREYLAG_VAULT_ADDRESS", "vault:8200", "https://"),
        ("GREYLAG_MODE", "by-hand", "'inline', 'job' or 'argocd'"),
    ],
)
def test_a_bad_value_names_its_variable_and_is_not_quoted(variable: str, value: str, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(errors.UsageError) as caught:
        settings.load()
    assert caught.value.code == "bad-setting"
    assert caught.value.message.startswith(f"{variable}: ")
    assert part in caught.value.message
    assert value not in caught.value.message


def test_the_page_of_settings_names_every_setting_and_no_other() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "settings.md").read_text()
    named = set(re.findall(r"`GREYLAG_([A-Z_]+)`", page))
    expected = {name.upper() for name in settings.Settings.model_fields} | {
        "APPLIED_BY",
        "BUNDLES",
        "FLEET",
    }  # read by migrator.engines, tasks.bundles and tasks.fleet
    assert named == expected
