"""The source `dynamic`: a PostgreSQL login of its own for each run, from Vault's database engine (vault.md §3)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from migrator.targets import Engine
from tasks.credentials.kv import InVault
from tasks.credentials.source import Address, Contradiction, Wanted

DEFAULT_PORT = 5432

_CREDS = re.compile(r"[^\s/][^\s]*/creds/[^\s/]+")


class DatabaseLogin(InVault):
    """Vault makes the user and the password; host, port and database come from the KV secret, or from the line in fleet.yaml itself.

    Attributes:
        host: where the database listens. Empty: it is read from the KV secret at `vault.path`.
    """

    word = "dynamic"
    example = "{dynamic: database/creds/ROLE}"
    short_lived = True

    host: str = ""

    def problem(self) -> str:
        return "" if _CREDS.fullmatch(self.place) else f"dynamic names the path that gives a login: write {self.example}"

    def contradictions(self, service: str, *, engine: Engine, owner_role: str, substitute_password: bool) -> Iterator[Contradiction]:
        if engine is not Engine.POSTGRES:
            yield None, f"{service}: short-lived logins exist for PostgreSQL only", f"write `credentials: vault` under services.{service}"
        elif not owner_role:
            yield (
                (),
                f"{service}: with short-lived logins what a migration creates needs an owner that stays: owner_role is missing",
                "write `owner_role: ROLE`, a role without login of which every login is a member",
            )
        elif substitute_password:
            yield (
                ("substitute_password",),
                f"{service}: a short-lived login's password means nothing in a migration",
                "remove substitute_password, or take the credentials from another source",
            )

    @property
    def creds(self) -> str:
        return self.place

    @property
    def policies(self) -> tuple[str, ...]:
        return ("dynamic",) if self.host else ("kv", "dynamic")

    def address(self, target: Wanted) -> Address | None:
        return Address(host=self.host, port=target.port or DEFAULT_PORT, database=target.database) if self.host else None
