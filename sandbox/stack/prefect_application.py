"""Prefect's own server application, with one difference: a transaction that may write takes SQLite's write lock when it begins.

Prefect begins most transactions as DEFERRED: they read first, and fail with SQLITE_BUSY_SNAPSHOT, whatever the busy time-out, if another transaction
has written since (https://www.sqlite.org/rescode.html#busy_snapshot). The server answers 503 and its clients repeat the request after 2, 4, 8 s:
with four workers at once, most of a promotion's time is spent on such waiting. An IMMEDIATE transaction waits for its turn, a few milliseconds.
A server on PostgreSQL, as in production, does not have this problem.
"""

from __future__ import annotations

import gc
from typing import Any

from prefect.server.api import server
from prefect.server.database.configurations import AioSqliteConfiguration


def create_app() -> Any:
    """Returns the ASGI application, for `uvicorn --factory`."""
    deferred = AioSqliteConfiguration.begin_transaction

    def begin_transaction(self: AioSqliteConfiguration, session: Any, with_for_update: bool = False) -> Any:
        return deferred(self, session, with_for_update=True)

    AioSqliteConfiguration.begin_transaction = begin_transaction  # type: ignore[method-assign]
    made = server.create_app(final=True)
    # What was imported stays: looking through it again and again was a tenth of the server's time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    return made
