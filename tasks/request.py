"""Holds what a step is asked for on one database, the one object that planning, migrating, verifying and a Job's run take; and its way into the database.

It lives within a task: a task's own parameters stay what Prefect may show (`steps.py`), and this is made of them.

The way in is one URL, or the credentials of a run, which may end and be replaced while a step works. The rule that this rests on: a login that ended is
no reason to give up. What is applied is recorded, so another connection goes on with what is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import SecretStr

from migrator import errors
from migrator.planning.plans import ACCEPT_NOTHING, Policy
from tasks import database_url
from tasks.credentials.lifetimes import LifetimeWatcher
from tasks.credentials.source import Credentials
from tasks.fleet.models import Target
from tasks.settings import Settings, load


@dataclass(frozen=True)
class Request:
    """The database, the way into it, and what is wanted of it.

    Args:
        url: the way in where there is no watcher, or where its credentials have no life of their own.
        bundle: the digest that the files must have, and for a verification the database; empty takes the files as they are.
        plan: the digest of the plan that was approved; only that plan, or what is left of it, passes. Empty takes the plan as it is now.
        env: what ENVSUB reads (`migration.substitutions`); may hold the password.
        watcher: keeps the run's credentials alive, where they are short-lived.
        run_id: how the run names itself to the server; empty makes one up.
        deadline: seconds for the whole attempt, of a Job for all of them (activeDeadlineSeconds); None sets no end, for a Job the settings'.
    """

    target: Target
    url: SecretStr
    bundle: str = ""
    plan: str = ""
    env: Mapping[str, str] | None = field(default=None, repr=False)
    policy: Policy = ACCEPT_NOTHING
    settings: Settings = field(default_factory=load)
    watcher: LifetimeWatcher | None = field(default=None, repr=False)
    run_id: str = ""
    deadline: float | None = None

    def access(self) -> Access:
        """The way into the database."""
        return Access(self.target, self.url, self.watcher)


class Access:
    """The way into a target's database.

    Args:
        url: what is used where there is no watcher, or where its credentials have no life of their own.
    """

    def __init__(self, target: Target, url: SecretStr, watcher: LifetimeWatcher | None = None) -> None:
        self._target = target
        self._url = url
        self._watcher = watcher if watcher is not None and watcher.short_lived else None
        self._used: Credentials | None = None

    @property
    def changes(self) -> bool:
        """Tells whether the credentials may be replaced under way."""
        return self._watcher is not None

    def url(self) -> SecretStr:
        """The URL that is good now. Raises as `credentials.fetch` and `database_url.encode`."""
        if self._watcher is not None:
            self._used = self._watcher.current()
            self._url = database_url.encode(self._used, self._target)
        return self._url

    def outlived(self) -> bool:
        """Tells whether newer credentials are there than those of the last `url`; never waits."""
        return self._watcher is not None and self._used is not None and self._watcher.superseded(self._used)

    @staticmethod
    def _looks_ended(error: errors.GreylagError, watcher: LifetimeWatcher, used: Credentials) -> bool:
        """Tells whether an error comes from a login that is gone. In doubt, a refused login does, and a refused statement doesn't."""
        if not isinstance(error, errors.LoginFailed | errors.StatementRejected):
            return False
        alive = watcher.alive(used)
        return not alive if isinstance(error, errors.LoginFailed) else alive is False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around what is done with a URL: a failure that comes from the login's end is transient, and the next URL is a fresh login's.

        Raises Unavailable (`credentials-ended`) instead of the refusal that such an end looks like; every other error goes through.
        """
        try:
            yield
        except errors.GreylagError as error:
            if self._watcher is None or self._used is None:
                raise
            ended = self._looks_ended(error, self._watcher, self._used)
            self._watcher.doubt()
            if not ended:
                raise
            raise errors.Unavailable(
                f"{self._target.label}: the database login ended in mid-run: its lease or its Vault token was revoked, or has expired",
                code="credentials-ended",
                hint="the next attempt takes a fresh login; what was finished is recorded",
                detail=error.message,
            ) from None
