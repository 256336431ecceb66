"""The shipped Vault policies on a real OpenBao: enough to fetch credentials, and nothing in them that could be left out."""

from __future__ import annotations

import dataclasses
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.privileges import rendering
from migrator import errors
from sandbox.databases import postgres
from sandbox.vault import database, openbao_server
from tasks import backoff, credentials, fleet
from tasks.credentials import sources
from tasks.fleet.models import Target
from tasks.settings import Settings
from tests import needs

BLOCK = re.compile(r'path "([^"]+)" \{[^}]*\}')


@dataclasses.dataclass(frozen=True)
class Place:
    """Two environments' secrets and database roles on one server."""

    server: openbao_server.OpenBaoServer
    directory: Path
    targets: dict[str, Target]

    def settings(self, policy: str) -> Settings:
        """A worker with this policy."""
        name = f"worker-{secrets.token_hex(4)}"
        self.server.request("PUT", f"sys/policies/acl/{name}", {"policy": policy})
        path = self.directory / name
        path.write_text(self.server.create_token(name) + "\n", encoding="utf-8")
        return Settings().model_copy(update={"vault_address": self.server.url, "vault_token_file": path})

    def fetch(self, target: Target, policy: str) -> credentials.Credentials:
        """The first step; a short-lived login is given back at once."""
        with credentials.LifetimeWatcher(target, self.settings(policy)) as watcher:
            return credentials.fetch(target, watcher=watcher)


def with_source(environment: str, source: object) -> Target:
    target = fleet.load().target("auth-service", environment)
    return target.model_copy(update={"source": sources.written(source), "owner_role": f"{target.database}_owner"})


@pytest.fixture(scope="module")
def place(postgres_server: postgres.PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    needs.openbao()
    directory = tmp_path_factory.mktemp("openbao-privileges")
    name = f"auth_{secrets.token_hex(4)}"
    with openbao_server.OpenBaoServer(directory / "server") as server:
        word = secrets.token_urlsafe(16)
        database.prepare_database(postgres_server, name, f"{name}_owner", word)
        targets = {"kv": with_source("dev", "vault"), "release": with_source("release", "vault")}
        for environment in ("dev", "release"):
            role = f"{environment}-auth"
            creds = database.create_role(
                server, postgres_server, role, database=name, owner=f"{name}_owner", admin_password=word, mount=f"{name}-database"
            )
            targets[f"dynamic {environment}"] = with_source(environment, {"dynamic": creds})
        for environment in ("kv", "release"):
            data = {"host": "127.0.0.1", "port": postgres_server.port, "username": "u", "password": "marker-pw", "database": name}
            server.write_secret(targets[environment].vault_path, data)
        yield Place(server, directory, targets)
        server.request("PUT", f"sys/leases/revoke-prefix/{name}-database")
    postgres_server.drop_database(name)


@pytest.mark.parametrize("source", ["kv", "dynamic dev"])
def test_the_printed_policy_is_enough(place: Place, source: str) -> None:
    found = place.fetch(place.targets[source], rendering.vault([place.targets[source]]))
    assert found.host == "127.0.0.1" and found.password.get_secret_value()


@pytest.mark.parametrize(("source", "number"), [("kv", 0), ("dynamic dev", 0), ("dynamic dev", 1)])
def test_bad_flow_without_any_one_rule_the_403_names_it(place: Place, source: str, number: int) -> None:
    policy = rendering.vault([place.targets[source]])
    rules = list(BLOCK.finditer(policy))
    assert len(rules) == {"kv": 1, "dynamic dev": 2}[source]
    removed = rules[number]
    with pytest.raises(errors.LoginFailed) as caught:
        place.fetch(place.targets[source], policy.replace(removed[0], ""))
    assert (caught.value.code, caught.value.exit_code) == ("vault-forbidden", 12)
    assert f'path "{removed[1]}" {{ capabilities = ["read"] }}' in caught.value.hint
    assert backoff.permanent(caught.value), "one attempt"


@pytest.mark.parametrize(("source", "other"), [("kv", "release"), ("dynamic dev", "dynamic release")])
def test_bad_flow_another_environments_secret_is_refused(place: Place, source: str, other: str) -> None:
    with pytest.raises(errors.LoginFailed) as caught:
        place.fetch(place.targets[other], rendering.vault([place.targets[source]]))
    assert caught.value.code == "vault-forbidden"
    assert "/release" in caught.value.message
