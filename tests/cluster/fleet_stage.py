"""A fleet on a real cluster, a real Vault and real databases, whose workers hold exactly what `greylag privileges` prints, and nothing else.

Two environments, dev and release, each with a namespace, a Vault policy, a service account and databases of its own.
"""

from __future__ import annotations

import dataclasses
import secrets
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from deployments.privileges import rendering
from sandbox.cluster import images, kubeconfigs
from sandbox.cluster.cluster import Cluster
from sandbox.databases.clickhouse import ClickHouseServer
from sandbox.databases.postgres import PostgresServer
from sandbox.vault import logins
from sandbox.vault.openbao_server import OpenBaoServer
from tasks import fleet
from tasks.fleet.models import Target
from tests.cluster.workloads import Namespace, container, deployment

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ("dev", "release")

FLEET = """\
root: .
namespace: "{{environment}}-{tag}"
vault: {{path: "apps/{tag}/{{environment}}/{{service}}/{{store}}"}}
environments: {{dev: {{suffix: _dev}}, release: {{suffix: _release}}}}
job: {{image: "registry.example/{tag}/{{service}}", service_account: "{{service}}-migration"}}
services:
  auth-service: {{engine: postgres, database: auth_{tag}, migrations: services/auth-service/migrations}}
"""

USERS = """\
-- +goose Up
CREATE TABLE users (id text PRIMARY KEY);
-- +goose Down
DROP TABLE users;
"""

RBAC = "/apis/rbac.authorization.k8s.io/v1"

SERVE = "trap 'exit 0' TERM; sleep 3600 & wait"


@dataclasses.dataclass
class FleetStage:
    """The fleet and its servers."""

    directory: Path
    cluster: Cluster
    vault: OpenBaoServer
    postgres: PostgresServer
    clickhouse: ClickHouseServer | None = None
    tag: str = dataclasses.field(default_factory=lambda: secrets.token_hex(3))
    passwords: dict[str, str] = dataclasses.field(default_factory=dict, repr=False)

    def build(self) -> FleetStage:
        """Everything that a team has before its first release."""
        self.directory.chmod(0o755)
        (self.directory / "fleet.yaml").write_text(FLEET.format(tag=self.tag), encoding="utf-8")
        self.write("20250101000000_create_users.sql", USERS)
        self.cluster.register(self.image)
        self._let_vault_ask_the_cluster()
        for environment in ENVIRONMENTS:
            self._environment(environment)
        return self

    @property
    def image(self) -> images.Image:
        """This checkout with the service's files: its release."""
        files = str(self.directory / "services" / "auth-service" / "migrations")
        name = f"registry.example/{self.tag}/auth-service:1"
        return images.checkout(name, ROOT, Path(sys.executable), {"/app/services/auth-service/migrations": files})

    def write(self, name: str, text: str, service: str = "auth-service") -> Path:
        """A migration file."""
        path = self.directory / "services" / service / "migrations" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def target(self, environment: str = "dev", service: str = "auth-service") -> Target:
        """A service in an environment."""
        return fleet.load(self.directory / "fleet.yaml").target(service, environment)

    def namespace(self, environment: str = "dev") -> Namespace:
        """The environment's namespace."""
        return Namespace(self.cluster, self.target(environment).namespace)

    def secret(self, environment: str = "dev", **changes: object) -> dict[str, object]:
        """Writes the secret of auth-service; what it says."""
        target = self.target(environment)
        words = rendering.words(target)
        found: dict[str, object] = {
            "host": self.postgres.host,
            "port": self.postgres.port,
            "username": words["migrator"],
            "password": self.passwords[environment],
            "database": target.database,
        }
        found |= changes
        self.vault.write_secret(target.vault_path, found)
        return found

    def sql(self, environment: str, text: str) -> list[str]:
        """What an administrator sees in the environment's database."""
        return self.postgres.execute(text, self.target(environment).database).splitlines()

    def versions(self, environment: str = "dev") -> list[int]:
        """What is applied; [] where there is no history."""
        if self.sql(environment, "SELECT to_regclass('goose_db_version') IS NOT NULL") != ["t"]:
            return []
        return [int(line) for line in self.sql(environment, "SELECT version_id FROM goose_db_version WHERE version_id > 0 ORDER BY 1")]

    def variables(self, environment: str = "dev") -> dict[str, str]:
        """What a worker of that environment holds; its kubeconfig's one context is called as the environment is."""
        return {
            "GREYLAG_FLEET": str(self.directory / "fleet.yaml"),
            "GREYLAG_HOME": str(ROOT),
            "GREYLAG_VAULT_ADDRESS": self.vault.url,
            "GREYLAG_VAULT_TOKEN_FILE": str(self.directory / f"token-{environment}"),
            "GREYLAG_KUBE_CONTEXT": kubeconfigs.CONTEXT,
            "GREYLAG_BACKOFF_BASE_SECONDS": "0.2",
            "GREYLAG_LOCK_WAIT_SECONDS": "20",
            "GREYLAG_ROLLOUT_TIMEOUT_SECONDS": "90",
            "GREYLAG_ROLLOUT_POLL_SECONDS": "0.3",
            "KUBECONFIG": str(self.kubeconfig(environment)),
        }

    def kubeconfig(self, environment: str = "dev") -> Path:
        """Logs in as the environment's service account."""
        return self.cluster.directory / "kubeconfigs" / f"{self.target(environment).namespace}-{rendering.WORKER}.kubeconfig"

    def deploy(self, environment: str = "dev") -> None:
        """A Deployment of the service that becomes available, as a pipeline would bring it."""
        self.namespace(environment).apply(deployment("auth-service", container(SERVE, image=self.image.name)))

    def credentials_secret(self, environment: str = "dev", **changes: str) -> str:
        """The Kubernetes Secret that a migration pod reads, with the recipe's keys; its name."""
        told = {name: str(value) for name, value in self.secret(environment).items()} | changes
        name = "auth-service-postgres-credentials"
        self.namespace(environment).apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": told})
        return name

    def undo(self, environment: str = "dev") -> None:
        """Takes back what was applied, as if no release had been."""
        if self.versions(environment):
            self.sql(environment, "DROP TABLE users; DELETE FROM goose_db_version WHERE version_id > 0")

    def policy(self, environment: str, text: str) -> None:
        """Makes a text the policy of the environment's worker."""
        self.vault.request("PUT", f"sys/policies/acl/{environment}-{self.tag}", {"policy": text})

    def vault_role(self, environment: str = "dev") -> str:
        """What the environment's service account logs in to Vault as."""
        return f"{environment}-{self.tag}"

    def close(self) -> None:
        """Drops databases, roles and namespaces."""
        self.cluster.api.delete(f"{RBAC}/clusterrolebindings/reviewer-{self.tag}")
        self.cluster.api.delete(f"/api/v1/namespaces/default/serviceaccounts/reviewer-{self.tag}")
        for environment in ENVIRONMENTS:
            target = self.target(environment)
            self.cluster.delete_namespace(target.namespace)
            for found in yaml.safe_load_all(rendering.admission([target])):
                plural = "validatingadmissionpolicies" if found["kind"].endswith("Policy") else "validatingadmissionpolicybindings"
                self.cluster.api.delete(f"/apis/admissionregistration.k8s.io/v1/{plural}/{found['metadata']['name']}")
            self.postgres.drop_database(target.database)
            words = rendering.words(target)
            self.postgres.execute("".join(f'DROP ROLE IF EXISTS "{words[role]}";\n' for role in ("application", "migrator", "owner")))

    def _let_vault_ask_the_cluster(self) -> None:
        name = f"reviewer-{self.tag}"
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
            },
        )
        token = self.cluster.token("default", name)
        logins.trust_cluster(self.vault, self.cluster.url, self.cluster.ca_file, reviewer_token=token)

    def _environment(self, environment: str) -> None:
        target = self.target(environment)
        self.cluster.create_namespace(target.namespace)
        printed = [rendering.kubernetes([target]), rendering.admission([target])]
        self.cluster.apply(*(found for text in printed for found in yaml.safe_load_all(text)), namespace=target.namespace)
        self.cluster.service_account_kubeconfig(target.namespace, rendering.WORKER)
        self.policy(environment, rendering.vault([target]))
        logins.create_kubernetes_role(
            self.vault,
            self.vault_role(environment),
            f"{environment}-{self.tag}",
            service_accounts=[rendering.WORKER],
            namespaces=[target.namespace],
            audience="vault",
        )
        token = self.vault.create_token(f"{environment}-{self.tag}")
        (self.directory / f"token-{environment}").write_text(token + "\n", encoding="utf-8")
        self._database(target)
        self.secret(environment)

    def _database(self, target: Target) -> None:
        password = self.passwords[target.environment] = f"marker-{secrets.token_hex(8)}%/:@#?&+ '\"\\$é漢"
        self.postgres.create_database(target.database)
        role = rendering.words(target)["migrator"]
        self.postgres.execute(f'{rendering.postgres([target])}ALTER ROLE "{role}" PASSWORD $greylag${password}$greylag$;\n')


def become(monkeypatch: pytest.MonkeyPatch, stage: FleetStage, environment: str) -> None:
    """Lets this process hold what that environment's worker holds."""
    from kubernetes.config import kube_config

    for name, value in stage.variables(environment).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(stage.kubeconfig(environment)))
