"""A service's values for the application chart, from fleet.yaml: what differs from the chart's own defaults, and no secret. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.fleet.job_section import Job
from tasks.fleet.models import Target

_REQUIRED = ("host", "port", "username", "password", "database")
"""The parts that the chart's ExternalSecret reads; `http_port` is optional in a secret, and External Secrets fails where a property is missing."""


def values(target: Target, *, bundle: str = "", files: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Returns the values of a service in its environment.

    Args:
        bundle: the bundle digest that the image's files must have; empty for any.
        files: the migration files by name, where a ConfigMap shall carry them instead of the image.
    """
    job = target.job
    found: dict[str, Any] = {"fullnameOverride": target.workload.name, "image": {"repository": job.image}}
    if job.image_pull_secrets:
        found["imagePullSecrets"] = list(job.image_pull_secrets)
    migration: dict[str, Any] = {"engine": str(target.engine), "environment": target.environment, "database": target.database}
    if target.service != target.workload.name:
        migration["service"] = target.service
    migration |= _sources(target, bundle, files) | _secret(target) | _database(target) | _pod(job)
    return {**found, "migration": migration}


def text(found: Mapping[str, Any], target: Target) -> str:
    """Returns values as YAML, files as blocks of text."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes texts of several lines as blocks."""

    def block(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, block)
    written: str = yaml.dump(dict(found), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=140)
    return f"# Written by `greylag chart values @{target.label}`. The release adds image.tag or image.digest.\n{written}"


def _sources(target: Target, bundle: str, files: Mapping[str, str] | None) -> dict[str, Any]:
    if files is not None:
        return {"sql": {"source": "configMap", "files": dict(files)}}
    sql: dict[str, Any] = {}
    if target.job.directory != f"/app/services/{target.service}/migrations":
        sql["directory"] = target.job.directory
    if bundle:
        sql["bundle"] = bundle
    return {"sql": sql} if sql else {}


def _secret(target: Target) -> dict[str, Any]:
    if "kv" not in target.source.policies:  # External Secrets reads Vault's key-value store, not what other sources hold
        return {"existingSecret": target.job.secret, "externalSecret": {"enabled": False}}
    found: dict[str, Any] = {"path": target.vault_path}
    if target.job.secret != f"{target.workload.name}-{target.engine}-credentials":
        found["name"] = target.job.secret
    first = {part: getattr(target.secret_keys, part)[0] for part in _REQUIRED}
    if renamed := {part: name for part, name in first.items() if part != name}:
        found["keys"] = renamed
    return {"externalSecret": found}


def _database(target: Target) -> dict[str, Any]:
    given = {
        "protected": target.protected,
        "role": target.owner_role,
        "port": target.port,
        "parameters": dict(target.parameters),
        "env": dict(target.env),
        "substitutePassword": target.substitute_password,
    }
    return {name: value for name, value in given.items() if value}


def _pod(job: Job) -> dict[str, Any]:
    usual = Job()
    given: dict[str, Any] = {
        "command": list(job.command) if job.command != usual.command else None,
        "imagePullSecrets": list(job.image_pull_secrets),
        "serviceAccount": {"create": False, "name": job.service_account} if job.service_account else None,
        "user": job.user if job.user != usual.user else None,
        "resources": {key: dict(value) for key, value in job.resources.items()} if job.resources != usual.resources else None,
        "podAnnotations": dict(job.annotations),
        "nodeSelector": dict(job.node_selector),
    }
    return {name: value for name, value in given.items() if value}
