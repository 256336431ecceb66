"""The privileges of an environment's identities: the files of this directory, filled in for the targets of a fleet. Pure, except that it reads the files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import Template

from tasks.fleet.models import Engine, Target, WorkloadKind

DIRECTORY = Path(__file__).resolve().parent

WORKER = "greylag-worker"
"""The service account of an environment's worker."""

EXTERNAL_SECRET = "ExternalSecret"

KIND = re.compile(r" +# (" + "|".join([*WorkloadKind, EXTERNAL_SECRET]) + r")$")
"""Matches the end of a rule that only a workload of this kind needs, or an ExternalSecret that runs have synced."""


def kubernetes(targets: Sequence[Target]) -> str:
    """Returns service accounts, Roles and bindings, per namespace, as input for `kubectl apply --filename -`."""
    parts = []
    for namespace in dict.fromkeys(target.namespace for target in targets):
        inside = [target for target in targets if target.namespace == namespace]
        parts.append(_worker(inside))
        parts += [_filled("kubernetes/migration.yaml", words(target)) for target in inside]
    return "---\n".join(parts)


def admission(targets: Sequence[Target]) -> str:
    """Returns for each namespace a policy that restricts the worker to Jobs of migration pods; for the cluster's administrator."""
    parts = []
    for namespace in dict.fromkeys(target.namespace for target in targets):
        inside = [target for target in targets if target.namespace == namespace]
        repositories = {target.job.image for target in inside}
        prefixes = {""} if "" in repositories else {f"{name}{sign}" for name in repositories for sign in ":@"}
        lists = {
            "secrets": {target.job.secret for target in inside},
            "accounts": {target.job.service_account or "default" for target in inside},
            "images": prefixes,
        }
        listed = {name: ", ".join(f"'{item}'" for item in sorted(found)) for name, found in lists.items()}
        parts.append(_filled("kubernetes/admission.yaml", words(inside[0]) | listed))
        if _external_secrets(inside):
            parts.append(_filled("kubernetes/admission_external_secrets.yaml", words(inside[0])))
    return "---\n".join(parts)


def vault(targets: Sequence[Target]) -> str:
    """Returns one policy for the environment's worker, beside Vault's `default`, as input for `vault policy write NAME -`. Empty if no target needs Vault."""
    parts = []
    for target in targets:
        parts += [_filled(f"vault/{name}.hcl", words(target) | {"creds": target.source.creds}) for name in target.source.policies]
    return "\n".join(parts)


def postgres(targets: Sequence[Target]) -> str:
    """Returns the roles of each PostgreSQL database, as input for psql; each database must exist. Roles that exist stay as they are; what was given of the
    history is taken back."""
    return "\n".join(
        f'\\connect "{target.database}"\n'
        + "\n".join((_migrator(target), *(_filled(f"postgres/{name}.sql", words(target)) for name in ("application", "history"))))
        for target in targets
        if target.engine is Engine.POSTGRES
    )


def clickhouse(targets: Sequence[Target]) -> str:
    """Returns the grants of each ClickHouse database, as input for `clickhouse client --multiquery`; each user must exist."""
    found = [target for target in targets if target.engine is Engine.CLICKHOUSE]
    return "\n".join(_filled(f"clickhouse/{name}.sql", words(target)) for name in ("migrator", "application") for target in found)


PARTS: Mapping[str, Callable[[Sequence[Target]], str]] = {
    "kubernetes": kubernetes,
    "admission": admission,
    "vault": vault,
    "postgres": postgres,
    "clickhouse": clickhouse,
}
"""The parts that can be printed."""


def words(target: Target) -> dict[str, str]:
    """Returns the values for the files, for one target. Roles are named after the database, so that two environments on one server have different ones."""
    return {
        "environment": target.environment,
        "service": target.service,
        "namespace": target.namespace,
        "worker": WORKER,
        "account": target.job.service_account or f"{target.service}-migration",
        "mount": target.vault_mount,
        "path": target.vault_path,
        "database": target.database,
        "owner": target.owner_role or f"{target.database}_owner",
        "migrator": f"{target.database}_migrator",
        "application": f"{target.database}_application",
    }


def _worker(targets: Sequence[Target]) -> str:
    names = {str(kind): sorted({target.workload.name for target in targets if target.workload.kind is kind}) for kind in WorkloadKind}
    names[EXTERNAL_SECRET] = _external_secrets(targets)
    lines = []
    for line in _text("kubernetes/worker.yaml").splitlines():
        kind = KIND.search(line)
        if kind is None or names[kind[1]]:
            lines.append(KIND.sub("", line))
    listed = {kind: ", ".join(found) for kind, found in names.items()}
    return _substituted("\n".join(lines) + "\n", words(targets[0]) | listed)


def _external_secrets(targets: Sequence[Target]) -> list[str]:
    return sorted({target.job.external_secret for target in targets if target.job.external_secret})


def _migrator(target: Target) -> str:
    if target.source.short_lived:
        return _filled("postgres/dynamic.sql", words(target))
    text = _text("postgres/migrator.sql")
    if target.owner_role:  # greylag itself takes the role after login, so it need not be the login's default
        text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("ALTER ROLE"))
    return _substituted(text, words(target))


def _filled(name: str, given: Mapping[str, str]) -> str:
    return _substituted(_text(name), given)


def _substituted(text: str, given: Mapping[str, str]) -> str:
    return Template(text).substitute(given)


def _text(name: str) -> str:
    return (DIRECTORY / name).read_text(encoding="utf-8")
