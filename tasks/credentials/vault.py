"""The client: log in, read one secret, give the token back. Retries are the task's business, not this module's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import hvac
from hvac import exceptions

from migrator import errors
from tasks.credentials import logins, refusals, secret
from tasks.fleet_models import Target
from tasks.settings import Settings


def read(target: Target, settings: Settings) -> secret.Credentials:
    """Reads a target's secret. Raises as `credentials.fetch` does."""
    login = logins.choose(settings)
    with _client(settings) as client:
        _log_in(client, login, target, settings)
        try:
            data, version = _read(client, target)
        except exceptions.Forbidden:
            # an expired or revoked token answers as a missing permission does (vault.md §2): log in again once, then believe it
            _log_in(client, login, target, settings)
            data, version = _read_again(client, target, settings)
        except Exception as error:  # noqa: BLE001 - classified, never swallowed
            raise refusals.explained(error, target, settings, _reading(target)) from None
        finally:
            if login.own_token:
                _revoke(client)
    return secret.credentials(data, target, version)


@contextlib.contextmanager
def _client(settings: Settings) -> Iterator[hvac.Client]:
    # A token given as "" keeps hvac from reading VAULT_TOKEN and ~/.vault-token by itself, `verify` given keeps it from reading VAULT_CACERT,
    # and without a redirect the token stays at the address that was configured.
    client = hvac.Client(
        url=settings.vault_address,
        token="",
        verify=str(settings.vault_ca_file) if settings.vault_ca_file else True,
        timeout=settings.vault_timeout_seconds,
        allow_redirects=False,
        namespace=settings.vault_namespace or None,
    )
    try:
        yield client
    finally:
        client.adapter.close()


def _log_in(client: hvac.Client, login: logins.Login, target: Target, settings: Settings) -> None:
    try:
        login.perform(client, settings)
    except errors.GreylagError:
        raise
    except Exception as error:  # noqa: BLE001 - classified, never swallowed
        raise refusals.explained(error, target, settings, f"logging in to Vault by {login.name}") from None


def _read(client: hvac.Client, target: Target) -> tuple[Mapping[str, Any], int]:
    answer = client.secrets.kv.v2.read_secret_version(path=target.vault_path, mount_point=target.vault_mount, raise_on_deleted_version=True)
    found = answer["data"]
    return found["data"], int(found["metadata"]["version"])


def _read_again(client: hvac.Client, target: Target, settings: Settings) -> tuple[Mapping[str, Any], int]:
    try:
        return _read(client, target)
    except Exception as error:  # noqa: BLE001 - classified, never swallowed
        raise refusals.explained(error, target, settings, _reading(target)) from None


def _reading(target: Target) -> str:
    return f"reading {secret.place(target)}"


def _revoke(client: hvac.Client) -> None:
    """Gives a token back that was made for this run; failing to is no reason to fail, it expires by itself."""
    with contextlib.suppress(Exception):
        client.auth.token.revoke_self()
