"""The credentials of one run, kept valid for as long as the run lasts.

A static secret in Vault does not change, and is read once. A short-lived login expires: a thread renews it and the token that it depends on, and takes
fresh ones when the maximum TTL is reached or somebody revoked them; the end of the session revokes all of them. Nothing is written
anywhere: another process that continues the run logs in by itself.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from migrator import errors
from tasks import redaction
from tasks.credentials.source import Credentials, SecretReader, Wanted
from tasks.settings import Settings

if TYPE_CHECKING:
    from tasks.credentials.leases import Lease
    from tasks.credentials.logins import Login
    from tasks.credentials.vault import Vault

Logger = logging.Logger | logging.LoggerAdapter[Any]

AGAIN_SECONDS = (1.0, 15.0)
"""Shortest and longest pause after a renewal that failed; in between, a tenth of the remaining lifetime. Two fresh logins are at least the shortest
pause apart too: a token that is about to end and can't be renewed would otherwise cause a new login every moment."""

GIVE_BACK_SECONDS = 5.0
"""Seconds during which giving a token back is tried. It is worth a short wait, because a login that nobody ends works until its lease expires."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A login, and the client whose token it depends on."""

    vault: Vault
    lease: Lease

    @property
    def due(self) -> float:
        return min(self.vault.term.due, self.lease.term.due)

    @property
    def ends(self) -> float:
        return min(self.vault.term.ends, self.lease.term.ends)


class LifetimeWatcher:
    """A target's credentials during one run; a context manager. `superseded` may be called from any thread, and never blocks.

    Args:
        logger: receives what happens in the background; never a secret.
        reader: reads the secret, where several targets share a login to Vault.
    """

    def __init__(self, target: Wanted, settings: Settings, logger: Logger | None = None, reader: SecretReader | None = None) -> None:
        self.target = target
        self._settings = settings
        self._reader = reader
        self._logger: Logger = logger or logging.getLogger(__name__)
        self._guard = threading.Condition()
        self._login: Login | None = None
        self._still: Credentials | None = None
        self._held: _Held | None = None
        self._given: list[_Held] = []  # every login that was taken, to be given back
        self._doubted = False
        self._again_at = 0.0
        self._closed = False
        self._keeper: threading.Thread | None = None

    @property
    def short_lived(self) -> bool:
        """Tells whether the credentials expire and have to be renewed."""
        return self.target.source.short_lived

    def __enter__(self) -> LifetimeWatcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def current(self) -> Credentials:
        """Returns the credentials that are valid now: fresh ones when the last ones have ended or were doubted.

        Raises as `credentials.fetch`.
        """
        with self._guard:
            if not self.short_lived:
                self._still = self._still or self._read()
                return self._still
            held = self._held
            if held is None or self._doubted or time.monotonic() >= held.ends:
                held = self._take()
            return held.lease.credentials

    def superseded(self, found: Credentials) -> bool:
        """Tells whether there are newer credentials than these: then it is time to reconnect, as soon as the work can be interrupted."""
        held = self._held
        return held is not None and held.lease.credentials != found

    def doubt(self) -> None:
        """Notes that the credentials from `current` failed: the next call takes fresh ones. Static credentials are not read again."""
        self._doubted = True

    def alive(self, found: Credentials) -> bool | None:
        """Tells whether a short-lived login still exists, by asking Vault to renew it. Static credentials always count as alive.

        Returns None when it can't be known: the lease can't be renewed, or Vault answers 403, which a dead token gets as well as one that may not renew.
        Raises Unavailable when Vault can't answer now.
        """
        from tasks.credentials import leases

        with self._guard:
            held = next((item for item in self._given if item.lease.credentials == found), None)
            if held is None:
                return True
            if not held.lease.term.renewable:
                return None
            try:
                lease = leases.renew(held.vault, held.lease)
            except errors.GreylagError as error:
                if error.transient:
                    raise
                return None if error.code == "vault-forbidden" else False
            self._put_back(held, replace(held, lease=lease))
            return True

    def close(self) -> None:
        """Ends every login that was taken. Never raises: what can't be given back now expires by itself, and the log says when."""
        with self._guard:
            self._closed = True
            self._guard.notify_all()
        if self._keeper is not None:
            self._keeper.join()
        for held in self._given:
            if not held.vault.login.own_token:
                self._revoke_lease(held)
            self._revoke_token(held.vault)
            held.vault.close()
        self._given, self._held = [], None

    # --- reading -----------------------------------------------------------------------------------------------------------------

    def _read(self) -> Credentials:
        found = self.target.source.read(self.target, self._settings, self._reader)
        redaction.register(found.password.get_secret_value())
        return found

    def _take(self) -> _Held:
        """Takes a fresh login on a token of its own, so that nothing that happens to it affects the login that a migration may still be using."""
        from tasks.credentials import leases, logins, vault

        self._login = self._login or logins.choose(self._settings)
        client = vault.Vault(self._settings, self._login)
        try:
            held = _Held(client, leases.take(client, self.target))
            held.vault.term  # noqa: B018 - asks Vault, where it has to, while an error can still be raised
        except BaseException:
            client.close()
            raise
        self._given.append(held)
        self._held, self._doubted = held, False
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, name=f"credentials of {self.target.label}", daemon=True)
            self._keeper.start()
        self._guard.notify_all()
        return held

    def _put_back(self, old: _Held, new: _Held) -> None:
        self._given = [new if item is old else item for item in self._given]
        if self._held is old:
            self._held = new

    # --- renewing ----------------------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Runs in the thread: renews what is due, until the session ends."""
        with self._guard:
            while not self._closed:
                now = time.monotonic()
                held = self._held
                when = max(held.due, self._again_at) if held is not None else now + AGAIN_SECONDS[1]
                if held is None or when > now:
                    self._guard.wait(min(when - now, threading.TIMEOUT_MAX))
                    continue
                self._renew(held)

    def _renew(self, held: _Held) -> None:
        try:
            if not self._prolonged(held):
                self._take()
                self._again_at = time.monotonic() + AGAIN_SECONDS[0]
                self._logger.info("%s: a fresh database login; the next boundary reconnects with it", self.target.label)
        except Exception as error:  # noqa: BLE001 - the thread must live on
            left = held.ends - time.monotonic()
            pause = min(max(left / 10, AGAIN_SECONDS[0]), AGAIN_SECONDS[1]) if left > 0 else AGAIN_SECONDS[1]
            self._again_at = time.monotonic() + pause
            # the text of an unexpected error could hold anything, its class can't
            told = redaction.clean(error.message) if isinstance(error, errors.GreylagError) else type(error).__name__
            self._logger.warning("%s: the database login could not be renewed yet: %s", self.target.label, told)

    def _prolonged(self, held: _Held) -> bool:
        """Renews the token and the lease where they are due; returns False when only fresh ones help. Raises transient errors."""
        from tasks.credentials import leases

        now = time.monotonic()
        token, lease = held.vault.term, held.lease
        if (token.due <= now and token.worn) or (lease.term.due <= now and lease.term.worn):
            return False
        try:
            if token.due <= now:
                token = held.vault.renew_token()
            if lease.term.due <= now:
                lease = leases.renew(held.vault, lease)
        except errors.GreylagError as error:
            if error.transient:
                raise
            self._logger.info("%s: %s", self.target.label, redaction.clean(error.message))
            return False
        self._put_back(held, replace(held, lease=lease))
        self._logger.debug("%s: login renewed for %.0f s", self.target.label, min(token.seconds, lease.term.seconds))
        return not (token.worn or lease.term.worn)

    # --- giving back -------------------------------------------------------------------------------------------------------------

    def _revoke_lease(self, held: _Held) -> None:
        """Revokes the login alone: its token was not made by this run, and is not to be revoked."""
        from tasks.credentials import leases

        if held.lease.term.over(time.monotonic()):
            return
        try:
            leases.revoke(held.vault, held.lease)
        except errors.GreylagError as error:
            left = max(held.lease.term.ends - time.monotonic(), 0)
            told = f"{redaction.clean(error.message)}; {error.hint}"
            self._logger.warning("%s: the database login stays for %.0f s: %s", self.target.label, left, told)

    def _revoke_token(self, vault: Vault) -> None:
        deadline = time.monotonic() + GIVE_BACK_SECONDS
        while True:
            try:
                return vault.revoke()
            except errors.GreylagError as error:
                if not error.transient:  # dead already, or not allowed to: the answer doesn't say which
                    return self._logger.info("%s: %s; %s", self.target.label, redaction.clean(error.message), error.hint)
                if time.monotonic() >= deadline:
                    left = max(vault.term.ends - time.monotonic(), 0)
                    told = f"it and its login end in {left:.0f} s: {redaction.clean(error.message)}"
                    return self._logger.warning("%s: the Vault token could not be revoked; %s", self.target.label, told)
            time.sleep(AGAIN_SECONDS[0])
