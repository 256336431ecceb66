"""ON CLUSTER: a time-out is not a failure, and a failure on one host is not one on all (experimental).

The statement is an entry of a queue that every host works off by itself. When the server stops waiting (code 159), the entry goes on; what became
of it stands in `system.distributed_ddl_queue`, host by host. A time-out's message hides errors of hosts that have answered already.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from migrator.clickhouse import failures
from migrator.clickhouse.session import Session, literal

_ENTRY = re.compile(r"/(query-\d+)")
_HOST_FAILED = re.compile(r"There was an error on \[")
_POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class HostResult:
    """What one host did with an entry; `code` is 0 when it has finished without an error."""

    host: str
    finished: bool
    code: int = 0
    message: str = ""


def entry_of(refusal: failures.Refusal) -> str | None:
    """Returns the entry of the DDL queue that a time-out names; None for other errors."""
    found = _ENTRY.search(refusal.message) if refusal.code == failures.TIMEOUT_EXCEEDED else None
    return found[1] if found else None


def failed_on_one_host(refusal: failures.Refusal) -> bool:
    """Tells whether the error came from one host of the cluster, so that others may have executed the statement."""
    return bool(_HOST_FAILED.search(refusal.message))


def await_end(session: Session, entry: str, seconds: float) -> list[HostResult]:
    """Waits until every host has finished the entry, or the time is over; what each did.

    Raises:
        failures.Refusal, failures.Lost.
    """
    deadline = time.monotonic() + seconds
    while True:
        results = read(session, entry)
        if (results and all(result.finished for result in results)) or time.monotonic() > deadline:
            return results
        time.sleep(_POLL_SECONDS)


def read(session: Session, entry: str) -> list[HostResult]:
    """Reads from the DDL queue what became of an entry on each host."""
    rows = session.rows(
        "SELECT concat(host, ':', toString(port)), toString(status), exception_code, exception_text FROM system.distributed_ddl_queue"
        f" WHERE entry = {literal(entry)} ORDER BY host, port"
    )
    return [HostResult(str(row[0]), row[1] == "Finished", int(row[2] or 0), str(row[3] or "")) for row in rows]


def verdict(results: Sequence[HostResult], refusal: failures.Refusal) -> failures.Refusal | None:
    """Returns None when every host did it; a host's error; or the time-out, with the hosts that are still to do it."""
    failed = [result for result in results if result.code]
    if failed:
        named = ", ".join(result.host for result in failed)
        return failures.Refusal(failed[0].code, f"There was an error on [{named}]: {failed[0].message}")
    waiting = [result.host for result in results if not result.finished]
    if results and not waiting:
        return None
    return failures.Refusal(refusal.code, f"{refusal.message} (still to do it: {', '.join(waiting)})" if waiting else refusal.message)
