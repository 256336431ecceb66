"""A service whose logins are short-lived: a real OpenBao, a real PostgreSQL, a fleet of one service, a worker that logs in by AppRole."""

from __future__ import annotations

import itertools
import secrets
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sandbox.databases.postgres import PostgresServer, literal
from sandbox.vault import database as vault_database
from sandbox.vault.openbao_server import OpenBaoServer
from tasks import fleet
from tasks.credentials import terms
from tasks.fleet.models import Target
from tasks.settings import Settings
from tests import needs

SECONDS = 90.0
"""How long anything is waited for: long enough for a machine that does three other things."""

FLEET = """\
root: .
environments:
  dev: {{suffix: _dev}}
services:
  auth-service:
    engine: postgres
    database: {base}
    migrations: migrations
    credentials: {{dynamic: "database/creds/{base}", host: {host}}}
    port: {port}
    owner_role: {base}_owner
"""


@dataclass
class DynamicStage:
    """What a team with short-lived logins has."""

    directory: Path
    postgres: PostgresServer
    vault: OpenBaoServer
    base: str
    admin_password: str = field(repr=False)
    _names: Iterator[int] = field(default_factory=itertools.count)

    @property
    def database(self) -> str:
        return f"{self.base}_dev"

    @property
    def owner(self) -> str:
        return f"{self.base}_owner"

    def prepare(self) -> None:
        """The database, the fleet, the policy of the worker."""
        vault_database.prepare_database(self.postgres, self.database, self.owner, self.admin_password)
        text = FLEET.format(base=self.base, host=self.postgres.host, port=self.postgres.port)
        (self.directory / "fleet.yaml").write_text(text, encoding="utf-8")
        (self.directory / "migrations").mkdir(exist_ok=True)
        self.vault.create_policy("worker", {f"database/creds/{self.base}": ["read"]})  # the rest is in `default`
        self.lives()

    def lives(self, ttl: str = "1h", maximum_ttl: str = "2h") -> None:
        """How long logins live from now on."""
        vault_database.create_role(
            self.vault,
            self.postgres,
            self.base,
            database=self.database,
            owner=self.owner,
            admin_password=self.admin_password,
            ttl=ttl,
            maximum_ttl=maximum_ttl,
        )

    def variables(self, **token: Any) -> dict[str, str]:
        """What the worker holds; options are those of its tokens (`token_ttl`, …)."""
        role = self.vault.create_role(f"worker-{next(self._names)}", "worker", **token)
        path = self.directory / f"secret-id-{secrets.token_hex(4)}"
        path.write_text(role.secret_id + "\n", encoding="utf-8")
        return {
            "GREYLAG_FLEET": str(self.directory / "fleet.yaml"),
            "GREYLAG_VAULT_ADDRESS": self.vault.url,
            "GREYLAG_VAULT_ROLE_ID": role.role_id,
            "GREYLAG_VAULT_SECRET_ID_FILE": str(path),
            "GREYLAG_BACKOFF_BASE_SECONDS": "0.2",
            "GREYLAG_LOCK_WAIT_SECONDS": "60",
        }

    def settings(self, **token: Any) -> Settings:
        """The same as settings."""
        given = self.variables(**token)
        own = {name.removeprefix("GREYLAG_").lower(): value for name, value in given.items()}
        return Settings(GREYLAG_VAULT_ADDRESS=own.pop("vault_address"), **own)

    def become(self, monkeypatch: pytest.MonkeyPatch, **token: Any) -> None:
        """Lets this process hold what the worker holds."""
        for name, value in self.variables(**token).items():
            monkeypatch.setenv(name, value)

    def target(self) -> Target:
        """The service in dev."""
        return fleet.load(self.directory / "fleet.yaml").target("auth-service", "dev")

    def write(self, **files: str) -> None:
        """Replaces the migrations by these, in their order: name -> SQL of the way up. A name with `no_transaction` is such a file."""
        for path in (self.directory / "migrations").iterdir():
            path.unlink()
        for number, (name, sql) in enumerate(files.items(), start=1):
            head = "-- +goose NO TRANSACTION\n" if "no_transaction" in name else ""
            text = f"{head}-- +goose Up\n{textwrap.dedent(sql).strip()}\n-- +goose Down\nSELECT 1;\n"
            (self.directory / "migrations" / f"{20250101000000 + number}_{name}.sql").write_text(text, encoding="utf-8")

    def sql(self, statement: str) -> list[str]:
        """What a statement gives, line by line, as the superuser."""
        return str(self.postgres.execute(statement, self.database)).split("\n")[:-1]

    def versions(self) -> list[int]:
        """The history's rows above 0, in the order in which they were written."""
        return [int(line) - 20250101000000 for line in self.sql("SELECT version_id FROM goose_db_version WHERE version_id > 0 ORDER BY id")]

    def logins(self) -> list[str]:
        """The short-lived logins that PostgreSQL knows."""
        owner = literal(self.owner)
        return self.sql(
            f"SELECT m.rolname FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles o ON o.oid = a.roleid"
            f" WHERE o.rolname = {owner} AND m.rolname LIKE 'v-%'"
        )

    def tokens(self) -> int:
        """How many tokens Vault knows."""
        return len(self.vault.request("LIST", "auth/token/accessors")["data"]["keys"])

    def leases(self) -> list[str]:
        """The leases that Vault knows."""
        try:
            found = self.vault.request("LIST", f"sys/leases/lookup/database/creds/{self.base}")["data"]["keys"]
        except Exception:  # noqa: BLE001 - 404 is how Vault says none
            return []
        return [f"database/creds/{self.base}/{key}" for key in found]

    def revoke_leases(self) -> None:
        """What an administrator does who ends all logins."""
        self.vault.request("PUT", f"sys/leases/revoke-prefix/database/creds/{self.base}")

    def clear(self) -> None:
        """An empty database again, and no login."""
        self.revoke_leases()
        self.postgres.execute(f"DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public AUTHORIZATION {self.owner};", self.database)


def renew_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renews after a quarter of a life instead of two thirds: a short life then leaves a busy machine as long as a long one does."""
    monkeypatch.setattr(terms, "RENEWED_AT", 1 / 4)


def until(condition: Callable[[], Any], what: str) -> Any:
    """Waits for a condition; its value."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {SECONDS:g} s in vain: {what}")


@contextmanager
def staged(directory: Path, postgres: PostgresServer) -> Iterator[DynamicStage]:
    """A stage with servers of its own name; skips where OpenBao is not built."""
    needs.openbao()
    with OpenBaoServer(directory / "openbao") as vault:
        made = DynamicStage(directory, postgres, vault, f"auth_{secrets.token_hex(3)}", secrets.token_urlsafe(12))
        made.prepare()
        yield made
        made.revoke_leases()
    postgres.drop_database(made.database)
