"""A namespace with databases, Secrets and images for the chart, and the real Helm."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from migrator.address import addresses
from sandbox.cluster import images
from sandbox.cluster.api import Object
from tests import chart_cases as cases
from tests.cluster.workloads import Namespace


def parts(dbstring: str, engine: str) -> dict[str, str]:
    """The credentials of an address, as a Secret has them."""
    if engine == "clickhouse":
        found = addresses.parse_clickhouse(dbstring, {})
        (host, port), (_, http_port, _) = found.hosts[0], found.http_ports[0]
        given = {"host": host, "port": str(port), "username": found.username, "password": found.password, "database": found.database}
        return {**given, "http_port": str(http_port)}
    address = addresses.parse_postgres(dbstring, {})
    host, _, port = address.hosts.rpartition(":")
    named = {"username": address.user or "", "password": address.password or "", "database": address.database or ""}
    return {"host": host, "port": port, **named}


@dataclass
class ChartStage:
    """Services in one namespace, each with a database, a Secret and images by tag."""

    namespace: Namespace
    directory: Path
    values: dict[str, cases.Values] = field(default_factory=dict)

    def image(self, service: str, tag: str) -> str:
        """A service's image: one repository per namespace, so that tests share none."""
        return f"registry.example/{self.namespace.name}/{service}:{tag}"

    def push(self, service: str, tag: str, files: Mapping[str, str], place: str) -> None:
        """Makes an image with these migration files in a place."""
        copy = self.directory / f"{service}-{tag}"
        copy.mkdir(parents=True)
        for name, text in files.items():
            (copy / name).write_text(text, encoding="utf-8")
        for directory in (self.directory, copy):
            directory.chmod(0o755)
        mounts = {place: str(copy)}
        self.namespace.cluster.register(images.checkout(self.image(service, tag), cases.ROOT, Path(sys.executable), mounts))

    def add(self, service: str, engine: str, dbstring: str, **migration: Any) -> None:
        """Makes the Secret of a service, and values that lead to its database; they begin with the service's own values file, if it has one."""
        found = parts(dbstring, engine)
        secret = f"{service}-{engine}-credentials"
        self.namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}, "stringData": found})
        given = cases.CASES[service] if service in cases.SERVICES else {"fullnameOverride": service, "migration": {"engine": engine}}
        own = {key: value for key, value in given["migration"].items() if key != "externalSecret"}
        self.values[service] = {
            **given,
            "image": {"repository": self.image(service, "").rstrip(":"), "pullPolicy": "IfNotPresent"},
            "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.2; done"],
            "podSecurityContext": {"runAsUser": 65532, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "terminationGracePeriodSeconds": 5,
            "migration": {
                **own,
                "database": found["database"],
                "existingSecret": secret,
                "lockWait": "20s",
                "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                **migration,
            },
        }

    def helm(self, verb: str, service: str, *arguments: str, tag: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs Helm on a service's release; install and upgrade get the chart, the values and the tag."""
        words = [verb, service, "--namespace", self.namespace.name]
        if verb in ("install", "upgrade"):
            values = {**self.values[service], "image": {**self.values[service]["image"], "tag": tag}}
            file = self.directory / f"{service}-values.json"
            file.write_text(json.dumps(values), encoding="utf-8")
            words[2:2] = [str(cases.CHART)]
            words += ["--values", str(file), "--timeout", "180s"]
        return self.namespace.cluster.helm(*words, *arguments, check=check)

    def deployment(self, service: str) -> Object:
        """A service's Deployment."""
        found = self.namespace.get("deployment", service)
        assert found is not None
        return found

    def running(self, service: str) -> str:
        """The image in the Deployment's template."""
        return str(self.deployment(service)["spec"]["template"]["spec"]["containers"][0]["image"])

    def everything(self) -> str:
        """Every object of the namespace but the teams' own Secrets, and all logs, as one text."""
        kinds = ("job", "pod", "event", "deployment", "configmap", "serviceaccount")
        found: list[Any] = [self.namespace.list(kind) for kind in kinds]
        logs = [self.namespace.said(pod["metadata"]["name"]) for pod in self.namespace.list("pod")]
        return json.dumps([found, logs], ensure_ascii=False)
