"""The shipped privileges, filled in for a fleet: complete, valid, and never a way to list Secrets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.privileges import rendering
from migrator import cli
from tasks import fleet
from tasks.credentials import sources
from tasks.fleet.models import Target, WorkloadKind

DEV = [target for target in fleet.load().targets() if target.environment == "dev"]


def objects(targets: list[Target]) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(rendering.kubernetes(targets)))


def rules(targets: list[Target]) -> list[dict[str, Any]]:
    return [rule for found in objects(targets) if found["kind"] == "Role" for rule in found["rules"]]


def with_workload(kind: WorkloadKind, name: str = "auth") -> Target:
    return DEV[0].model_copy(update={"workload": DEV[0].workload.model_copy(update={"kind": kind, "name": name})})


@pytest.mark.parametrize("part", rendering.PARTS)
def test_every_part_is_filled_in(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["privileges", part, "@dev"]) == 0
    told = capsys.readouterr().out
    assert "${" not in told and "dev" in told


def test_every_file_of_the_directory_is_printed() -> None:
    dynamic = DEV[0].model_copy(update={"source": sources.written({"dynamic": "database/creds/x"})})
    texts = "\n".join(part([*DEV, dynamic]) for part in rendering.PARTS.values())
    for path in rendering.DIRECTORY.rglob("*.*"):
        if path.suffix in (".yaml", ".hcl", ".sql"):
            last = path.read_text(encoding="utf-8").rstrip().splitlines()[-1]
            assert last.partition("$")[0].strip() in texts, path.name


def test_no_rule_reads_a_secret_and_none_is_for_everything() -> None:
    for rule in rules(DEV):
        assert "secrets" not in rule["resources"]
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


def test_every_object_lies_in_the_environments_namespace() -> None:
    for found in objects(DEV):
        assert found["metadata"]["namespace"] == "dev-my-girok"
        assert all(subject["namespace"] == "dev-my-girok" for subject in found.get("subjects", []))


@pytest.mark.parametrize(
    ("kind", "resources"),
    [
        (WorkloadKind.DEPLOYMENT, {"deployments", "replicasets"}),
        (WorkloadKind.STATEFUL_SET, {"statefulsets"}),
        (WorkloadKind.DAEMON_SET, {"daemonsets", "controllerrevisions"}),
        (WorkloadKind.ROLLOUT, {"rollouts"}),
    ],
)
def test_only_the_kinds_in_use_are_allowed_and_by_name(kind: WorkloadKind, resources: set[str]) -> None:
    found = [rule for rule in rules([with_workload(kind)]) if rule["apiGroups"][0] in ("apps", "argoproj.io")]
    assert {resource for rule in found for resource in rule["resources"]} == resources
    assert [rule["resourceNames"] for rule in found if rule["verbs"] == ["get"]] == [["auth"]]


def test_a_migration_pod_has_an_identity_and_no_access() -> None:
    accounts = [found for found in objects(DEV) if found["kind"] == "ServiceAccount" and found["metadata"]["name"] != rendering.WORKER]
    assert len(accounts) == len(DEV)
    assert all(found["automountServiceAccountToken"] is False for found in accounts)
    bound = {subject["name"] for found in objects(DEV) for subject in found.get("subjects", [])}
    assert bound == {rendering.WORKER}


def test_the_worker_is_held_to_the_fleets_own_accounts_secrets_and_images() -> None:
    def with_job(**changes: str) -> list[Target]:
        return [target.model_copy(update={"job": target.job.model_copy(update=changes)}) for target in DEV]

    owned = with_job(image="registry.example/auth-service", service_account="m")
    policy, binding = yaml.safe_load_all(rendering.admission(owned))
    told = "\n".join(item["expression"] for item in [*policy["spec"]["variables"], *policy["spec"]["validations"]])
    assert "in ['m']" in told and "'auth-service-postgres-credentials'" in told and "'registry.example/auth-service:'" in told
    assert binding["spec"]["policyName"] == policy["metadata"]["name"] == "greylag-worker.dev-my-girok"
    (anywhere, _) = yaml.safe_load_all(rendering.admission(with_job(image="")))
    assert "[''].exists" in anywhere["spec"]["validations"][5]["expression"], "without a repository in fleet.yaml every image is accepted"


def vault_rules(targets: list[Target]) -> dict[str, str]:
    """The rules of a printed Vault policy; OpenBao reads it in tests/flows/test_openbao_privileges.py."""
    return dict(re.findall(r'path "([^"]+)" \{\s*capabilities = \[([^]]*)\]\s*\}', rendering.vault(targets)))


def test_a_vault_policy_reads_its_own_environments_secrets_alone() -> None:
    assert vault_rules(DEV) == {f"secret/data/{target.vault_path}": '"read"' for target in DEV}


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ("vault", ["secret/data/{path}"]),
        ({"dynamic": "database/creds/dev-auth"}, ["secret/data/{path}", "database/creds/dev-auth"]),
        ({"dynamic": "database/creds/dev-auth", "host": "pg.internal"}, ["database/creds/dev-auth"]),
        ({"files": "/run/secrets/auth"}, []),
        ("variables", []),
    ],
)
def test_a_vault_policy_has_what_the_source_of_the_credentials_asks_for(source: Any, paths: list[str]) -> None:
    target = DEV[0].model_copy(update={"source": sources.written(source)})
    assert list(vault_rules([target])) == [path.format(path=target.vault_path) for path in paths]


def test_two_environments_on_one_server_have_roles_of_their_own() -> None:
    names = [rendering.words(target)[role] for target in fleet.load().targets() for role in ("owner", "migrator", "application")]
    assert len(set(names)) == len(names)


def test_bad_flow_a_part_that_a_target_has_no_use_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["privileges", "clickhouse", "@dev/auth-service"]) == 2
    assert "[bad-target]" in capsys.readouterr().err
    assert cli.main(["privileges", "everything", "@dev"]) == 2


def test_the_fleets_own_names_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = "namespace: team-{environment}\nvault: {mount: kv, path: 'x/{service}'}\nenvironments: {qa: {suffix: _qa}}\n"
    text += "services: {shop: {engine: postgres, database: shop, migrations: sql, owner_role: shop_boss}}\n"
    (tmp_path / "fleet.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("GREYLAG_FLEET", str(tmp_path / "fleet.yaml"))
    told = ""
    for part in ("kubernetes", "vault", "postgres"):
        assert cli.main(["privileges", part, "@qa"]) == 0
        told += capsys.readouterr().out
    for expected in ("namespace: team-qa", 'path "kv/data/x/shop"', '"shop_boss"', '"shop_qa_migrator"'):
        assert expected in told
