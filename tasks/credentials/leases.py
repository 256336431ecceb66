"""Short-lived logins: each read of `database/creds/ROLE` makes a new login, with a lease of its own (vault.md §3)."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from pydantic import SecretStr

from tasks import redaction
from tasks.credentials import source
from tasks.credentials.refusals import Asked
from tasks.credentials.source import Wanted
from tasks.credentials.terms import Term
from tasks.credentials.vault import Vault


@dataclass(frozen=True, slots=True)
class Lease:
    """A login and how long it lives. It ends with the Vault token that took it, even if its term says longer."""

    id: str
    term: Term
    credentials: source.Credentials


def take(vault: Vault, target: Wanted) -> Lease:
    """Takes a new login. Raises as `credentials.fetch`, and NotFound (`role-missing`, `mount-kind`)."""
    where = target.source.address(target) or source.address(vault.read_secret(target)[0], target)
    path = target.source.creds
    now = time.monotonic()
    answer = vault.ask(lambda client: _fields(client.adapter.get(f"/v1/{path}")), Asked(f"reading {path}", vault.settings, path=path))
    password = answer["data"]["password"]
    redaction.register(password)
    life = int(answer["lease_duration"])
    return Lease(
        id=str(answer["lease_id"]),
        term=Term.granted(now, life, renewable=bool(answer["renewable"])),
        credentials=source.Credentials(
            host=where.host,
            port=where.port,
            username=answer["data"]["username"],
            password=SecretStr(password),
            database=where.database,
            origin=f"a login of {path} for {life} s",
        ),
    )


def renew(vault: Vault, lease: Lease) -> Lease:
    """Renews the lease by as much as it was given first, or up to its maximum. Raises as `credentials.fetch`."""
    now = time.monotonic()
    asked = Asked("renewing a database login", vault.settings, path="sys/leases/renew", capability="update")
    answer = vault.ask(
        lambda client: _fields(client.sys.renew_lease(lease.id, increment=int(lease.term.first)), "lease_duration"), asked, again=False
    )
    return replace(lease, term=lease.term.renewed(now, int(answer["lease_duration"])))


def revoke(vault: Vault, lease: Lease) -> None:
    """Ends a login whose token lives on. Raises as `credentials.fetch`; the default policy does not allow it (vault.md §3)."""
    asked = Asked("revoking a database login", vault.settings, path="sys/leases/revoke", capability="update")
    vault.ask(lambda client: client.sys.revoke_lease(lease.id), asked, again=False)


def _fields(answer: Any, *wanted: str) -> dict[str, Any]:
    """Checks that an answer has the fields of Vault's database engine. A missing one raises KeyError or TypeError, which `refusals` explains."""
    for name in wanted or ("lease_id", "lease_duration", "renewable", "data"):
        answer[name]
    if not wanted:
        for name in ("username", "password"):
            answer["data"][name]
    return dict(answer)
