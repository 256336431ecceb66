"""A real OpenBao as a worker meets it, with a fake proxy before it: logins of every kind, a KV secret, a database role without a database."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from sandbox.vault import logins
from sandbox.vault.openbao_server import OpenBaoServer
from tasks import fleet
from tasks.fleet.models import Target
from tasks.settings import Settings
from tests import needs
from tests.flows.fake_proxy import FakeProxy

PASSWORD = "p%/:@#?&+ '\"\\$é漢"
DATA: dict[str, Any] = {"host": "db.example", "port": 5432, "username": "auth", "password": PASSWORD, "database": "auth_db_dev"}
SUBJECT = "system:serviceaccount:my-girok:migration"
AUDIENCE = "vault"
CLAIMS = {"kubernetes.io": {"namespace": "my-girok", "serviceaccount": {"name": "migration", "uid": "1"}}}


@dataclass
class VaultStage:
    """What a worker and its Vault have."""

    directory: Path
    server: OpenBaoServer
    proxy: FakeProxy
    issuer: logins.TokenIssuer = field(default_factory=lambda: logins.TokenIssuer("https://kubernetes.default.svc"))
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def prepare(self) -> None:
        """The policy `reader`, the JWT and the AppRole role of that name, and both mounts."""
        self.server.create_policy("reader", {"secret/data/apps/*": ["read"]})
        logins.trust_issuer(self.server, self.issuer)
        logins.create_jwt_role(self.server, "reader", "reader", audience=AUDIENCE, subject=SUBJECT, token_ttl="5m")

    def target(self, *, written: bool = True, **changes: Any) -> Target:
        """A target with a path of its own, and a secret there unless told otherwise."""
        path = f"apps/{next(self._numbers)}/postgres"
        if written:
            self.server.write_secret(path, DATA)
        return fleet.load().target("auth-service", "dev").model_copy(update={"vault_path": path, **changes})

    def token(self, policy: str = "reader", **options: Any) -> str:
        """A token that reads what `target` makes."""
        return self.server.create_token(policy, **options)

    def settings(self, *, token: str = "", url: str = "", **options: Any) -> Settings:
        """A worker's settings: through the proxy, with a token unless they name another way to log in."""
        given: dict[str, Any] = {"GREYLAG_VAULT_ADDRESS": url or self.proxy.url, "vault_timeout_seconds": 10.0, **options}
        if not any(name.startswith(("vault_kubernetes", "vault_jwt", "vault_role", "vault_token")) for name in options):
            given["GREYLAG_VAULT_TOKEN"] = SecretStr(token or self.token())
        return Settings(**given)

    def file(self, content: str) -> Path:
        """A file with a secret in it, as `echo` writes it."""
        path = self.directory / secrets.token_hex(4)
        path.write_text(content + "\n", encoding="utf-8")
        return path

    def jwt(self, token: str, role: str = "reader", **options: Any) -> Settings:
        """A worker that logs in with this signed token."""
        return self.settings(vault_jwt_role=role, vault_jwt_file=self.file(token), **options)

    def signed(self, subject: str = SUBJECT, audience: str = AUDIENCE, **claims: Any) -> str:
        """A token as a cluster signs it for a pod: its audience is a list."""
        return self.issuer.token(subject, audience, **{"aud": [audience]} | CLAIMS | claims)


@contextmanager
def staged(directory: Path) -> Iterator[VaultStage]:
    """A stage on a server of its own; skips where OpenBao is not built."""
    needs.openbao()
    with OpenBaoServer(directory / "openbao") as server, FakeProxy(server.url) as proxy:
        made = VaultStage(directory, server, proxy)
        made.prepare()
        yield made
