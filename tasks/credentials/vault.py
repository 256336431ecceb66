"""Vault's client for one run: logs in, asks, gives its token back. Retries belong to the task, not to this module."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import hvac
import requests
from hvac import exceptions

from migrator import errors
from tasks.credentials import logins, refusals
from tasks.credentials.refusals import Asked
from tasks.credentials.source import SecretReader, Wanted
from tasks.credentials.terms import Term
from tasks.settings import Settings

Answer = TypeVar("Answer")


class Vault:
    """A client that logs in the way that the settings ask for. Only one thread may use it at a time."""

    def __init__(self, settings: Settings, login: logins.Login) -> None:
        self.settings = settings
        self.login = login
        self._client = _client(settings)
        self._logged_in = False
        self._told: Mapping[str, Any] = {}
        self._told_at = 0.0
        self._term: Term | None = None

    def __enter__(self) -> Vault:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def log_in(self) -> None:
        """Takes a fresh token. Raises as `credentials.fetch` does."""
        self._told_at, self._term = time.monotonic(), None
        try:
            self._told = self.login.perform(self._client, self.settings)
        except Exception as error:  # noqa: BLE001 - classified, never swallowed
            asked = Asked(f"logging in to Vault by {self.login.name}", self.settings, login=self.login)
            raise refusals.explained(error, asked) from None
        self._logged_in = True

    def ask(self, call: Callable[[hvac.Client], Answer], asked: Asked, *, again: bool = True) -> Answer:
        """Makes a request, after a login if there was none yet.

        Args:
            again: whether to log in again once when the answer is 403: Vault answers the same for an expired or revoked token and for a missing permission
                (vault.md §2).
        """
        if not self._logged_in:
            self.log_in()
        try:
            return call(self._client)
        except exceptions.Forbidden as error:
            if not again:
                raise refusals.explained(error, asked) from None
        except Exception as error:  # noqa: BLE001 - classified, never swallowed
            raise refusals.explained(error, asked) from None
        self._give_back()
        self.log_in()
        return self.ask(call, asked, again=False)

    def read_secret(self, target: Wanted) -> tuple[Mapping[str, Any], int]:
        """Returns the data and the version of a target's KV secret."""

        def read(client: hvac.Client) -> tuple[Mapping[str, Any], int]:
            answer = client.secrets.kv.v2.read_secret_version(
                path=target.vault_path, mount_point=target.vault_mount, raise_on_deleted_version=True
            )
            found = answer["data"]
            if found["data"] is None and (problem := refusals.gone(found["metadata"], target.source.holder(target))):
                raise problem
            return dict(found["data"]), int(found["metadata"]["version"])

        return self.ask(read, _asked_secret(target, self.settings))

    @property
    def term(self) -> Term:
        """The token's lifetime. Vault is asked about a configured token (`auth/token/lookup-self`); if that is not allowed, it counts as endless."""
        if self._term is None:
            told = self._told
            if not told:
                self._told_at = time.monotonic()
                told = self._looked_up()
            self._term = Term.granted(self._told_at, int(told["lease_duration"]), renewable=bool(told["renewable"]))
        return self._term

    def renew_token(self) -> Term:
        """Prolongs the token. Raises as `credentials.fetch`."""
        asked = Asked("renewing the Vault token", self.settings, path="auth/token/renew-self", capability="update")
        before, now = self.term, time.monotonic()

        def renew(client: hvac.Client) -> int:
            return int(client.auth.token.renew_self(increment=f"{int(before.first)}s")["auth"]["lease_duration"])

        self._term = before.renewed(now, self.ask(renew, asked, again=False))
        return self._term

    def _looked_up(self) -> Mapping[str, Any]:
        try:
            data = self._client.auth.token.lookup_self()["data"]
        except exceptions.Forbidden:
            return {"lease_duration": 0, "renewable": False}
        except Exception as error:  # noqa: BLE001 - classified, never swallowed
            raise refusals.explained(error, Asked("looking the Vault token up", self.settings, path="auth/token/lookup-self")) from None
        # the TTL is 0 for a token without an end, and for one in its last second
        life = max(int(data["ttl"]), 1) if data.get("expire_time") else 0
        return {"lease_duration": life, "renewable": bool(data.get("renewable"))}

    def revoke(self) -> None:
        """Revokes a token that was made for this run, and with it the logins that depend on it.

        Raises LoginFailed (`vault-forbidden`) when the token is dead already or may not be revoked, and otherwise as `credentials.fetch`.
        """
        if self.login.own_token and self._logged_in:
            asked = Asked("revoking the Vault token", self.settings, path="auth/token/revoke-self", capability="update")
            self.ask(lambda client: client.auth.token.revoke_self(), asked, again=False)
            self._logged_in = False

    def close(self) -> None:
        """Gives the token back if that is possible now (otherwise it expires by itself), and closes the connection."""
        self._give_back()
        self._client.adapter.close()

    def _give_back(self) -> None:
        with contextlib.suppress(errors.GreylagError):
            self.revoke()
        self._logged_in = False


class Clients:
    """Clients that read the secrets of many targets; a context manager. Each of them logs in once, and the end gives all their tokens back.

    May be used from any number of threads. A login that was refused is not tried again: it would be refused for every target.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._guard = threading.Lock()
        self._idle: list[Vault] = []
        self._made: list[Vault] = []
        self._refused: errors.GreylagError | None = None

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        for vault in self._made:
            vault.close()

    def read_secret(self, target: Wanted) -> tuple[Mapping[str, Any], int]:
        """Returns the data and the version of a target's KV secret. Raises as `credentials.fetch`."""
        vault = self._taken()
        try:
            return vault.read_secret(target)
        finally:
            with self._guard:
                self._idle.append(vault)

    def _taken(self) -> Vault:
        with self._guard:
            if self._refused is not None:
                raise self._refused
            if self._idle:
                return self._idle.pop()
        vault = Vault(self._settings, logins.choose(self._settings))
        try:
            vault.log_in()
        except errors.GreylagError as error:
            vault.close()
            with self._guard:
                self._refused = error
            raise
        with self._guard:
            self._made.append(vault)
        return vault


def read(target: Wanted, settings: Settings, reader: SecretReader | None = None) -> tuple[Mapping[str, Any], int]:
    """Returns the data and the version of a target's KV secret. Nothing depends on the token after that, so it is given back at once, unless
    it is of a `reader` that several targets share.

    Raises as `credentials.fetch`.
    """
    if reader is not None:
        return reader.read_secret(target)
    with Vault(settings, logins.choose(settings)) as vault:
        return vault.read_secret(target)


def _asked_secret(target: Wanted, settings: Settings) -> Asked:
    place = target.source.holder(target)
    return Asked(
        f"reading {place}",
        settings,
        path=f"{target.vault_mount}/data/{target.vault_path}",
        secret=place,
        example=f"host=… port=… username=… password=… database={target.database}",
    )


def _client(settings: Settings) -> hvac.Client:
    """Returns a client that connects to the address in the settings and nowhere else.

    `trust_env` off keeps a proxy, a CA bundle and ~/.netrc of the environment from being used silently; the token given as "" keeps hvac from
    reading VAULT_TOKEN and ~/.vault-token; without redirects the token is sent to no address but the configured one.

    Raises UsageError (`vault-address`) for an address of the API or the UI below Vault's own.
    """
    refusals.require_own_address(settings)
    session = requests.Session()
    session.trust_env = False
    session.verify = str(settings.vault_ca_file) if settings.vault_ca_file else True  # hvac's own `verify` would be ignored (vault.md §2)
    return hvac.Client(
        url=settings.vault_address,
        token="",
        session=session,
        verify=session.verify,
        timeout=settings.vault_timeout_seconds,
        allow_redirects=False,
        namespace=settings.vault_namespace or None,
    )
