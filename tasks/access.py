"""How a step gets into its database: by one URL, or by a session's credentials, which may end and be replaced while it works.

The rule that this rests on: a login that ended is no reason to give up. What is applied is recorded, so another connection goes on with what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr

from migrator import errors
from tasks import database_url
from tasks.credentials.secret import Credentials
from tasks.credentials.session import Session
from tasks.fleet.models import Target


class Access:
    """The way into a target's database.

    Args:
        url: what is used where there is no session, or where its credentials have no life of their own.
    """

    def __init__(self, target: Target, url: SecretStr, session: Session | None = None) -> None:
        self._target = target
        self._url = url
        self._session = session if session is not None and session.dynamic else None
        self._used: Credentials | None = None

    @property
    def changes(self) -> bool:
        """Whether the credentials may be replaced under way."""
        return self._session is not None

    def url(self) -> SecretStr:
        """The URL that is good now. Raises as `credentials.fetch` and `database_url.encode`."""
        if self._session is not None:
            self._used = self._session.current()
            self._url = database_url.encode(self._used, self._target)
        return self._url

    def outlived(self) -> bool:
        """Whether newer credentials are there than those of the last `url`; never waits."""
        return self._session is not None and self._used is not None and self._session.superseded(self._used)

    @staticmethod
    def _looks_ended(error: errors.GreylagError, session: Session, used: Credentials) -> bool:
        """Whether an error comes from a login that is gone. In doubt, a refused login does, and a refused statement doesn't."""
        if not isinstance(error, errors.LoginFailed | errors.StatementRejected):
            return False
        alive = session.alive(used)
        return not alive if isinstance(error, errors.LoginFailed) else alive is False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around what is done with a URL: a failure that comes from the login's end is transient, and the next URL is a fresh login's.

        Raises Unavailable (`credentials-ended`) instead of the refusal that such an end looks like; every other error goes through.
        """
        try:
            yield
        except errors.GreylagError as error:
            if self._session is None or self._used is None:
                raise
            ended = self._looks_ended(error, self._session, self._used)
            self._session.doubt()
            if not ended:
                raise
            raise errors.Unavailable(
                f"{self._target.label}: the database login ended in mid-run: its lease or its Vault token was revoked, or has expired",
                code="credentials-ended",
                hint="the next attempt takes a fresh login; what was finished is recorded",
                detail=error.message,
            ) from None
