"""A step's request on one database, the one object that planning, migrating, verifying and a Job's run take; and the access to that database.

A request lives within a task: a task's own parameters stay what Prefect may show (`steps.py`), and the request is made of them.
Access is one URL, or the credentials of a run, which may end and be replaced while a step works. The rule behind it: an ended login is
no reason to fail. What was applied is recorded, so another connection continues with the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import SecretStr

from migrator import errors
from migrator.planning.approvals import Approval
from migrator.planning.plans import ACCEPT_NOTHING, Policy
from tasks import database_url
from tasks.credentials.lifetimes import LifetimeWatcher
from tasks.credentials.source import Credentials
from tasks.fleet.models import Target
from tasks.settings import Settings, load


@dataclass(frozen=True)
class Request:
    """The database, the access to it, and what is to be done.

    Args:
        url: used when there is no watcher, or when its credentials are static.
        bundle: the digest that the files must have, and for a verification the database; empty takes the files as they are.
        plan: the digest of the approved plan; only that plan, or the rest of it, passes. Empty takes the plan as it is now.
        approval: the approval that is used up by applying the plan; None where none is needed.
        database: the identity that the database must have; empty takes every one.
        env: the values for ENVSUB (`migration.substitutions`); may hold the password.
        watcher: keeps the run's credentials alive, if they are short-lived.
        run_id: the run's name on the server; empty makes one up.
        to: the version to roll back to; None applies what is pending.
        drift_only: whether a verification looks at what was applied alone: files that wait are no problem then.
        deadline: seconds for the whole attempt, or for all attempts of a Job (activeDeadlineSeconds); None sets no limit, and for a Job the settings'.
    """

    target: Target
    url: SecretStr
    bundle: str = ""
    plan: str = ""
    approval: Approval | None = None
    database: str = ""
    env: Mapping[str, str] | None = field(default=None, repr=False)
    policy: Policy = ACCEPT_NOTHING
    settings: Settings = field(default_factory=load)
    watcher: LifetimeWatcher | None = field(default=None, repr=False)
    run_id: str = ""
    to: int | None = None
    drift_only: bool = False
    deadline: float | None = None

    def access(self) -> Access:
        """Returns the access to the database."""
        return Access(self.target, self.url, self.watcher)


class Access:
    """The access to a target's database.

    Args:
        url: used when there is no watcher, or when its credentials are static.
    """

    def __init__(self, target: Target, url: SecretStr, watcher: LifetimeWatcher | None = None) -> None:
        self._target = target
        self._url = url
        self._watcher = watcher if watcher is not None and watcher.short_lived else None
        self._used: Credentials | None = None

    @property
    def changes(self) -> bool:
        """Tells whether the credentials may be replaced during the run."""
        return self._watcher is not None

    def url(self) -> SecretStr:
        """Returns the URL that is valid now. Raises as `credentials.fetch` and `database_url.encode`."""
        if self._watcher is not None:
            self._used = self._watcher.current()
            self._url = database_url.encode(self._used, self._target)
        return self._url

    def outlived(self) -> bool:
        """Tells whether there are newer credentials than those of the last `url`; never blocks."""
        return self._watcher is not None and self._used is not None and self._watcher.superseded(self._used)

    @staticmethod
    def _looks_ended(error: errors.GreylagError, watcher: LifetimeWatcher, used: Credentials) -> bool:
        """Tells whether an error comes from a login that is gone. If Vault can't say, a refused login counts as gone, and a refused statement doesn't."""
        if not isinstance(error, errors.LoginFailed | errors.StatementRejected):
            return False
        alive = watcher.alive(used)
        return not alive if isinstance(error, errors.LoginFailed) else alive is False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Wraps the work with a URL: a failure caused by the login's end becomes transient, and the next URL is a fresh login's.

        Raises Unavailable (`credentials-ended`) instead of the refusal that such an end causes; every other error passes through.
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
