"""People with real OpenSSH keys, a worker with a real ed25519 key, and a policy that knows them: what tests of approvals stand on."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tasks.approval import documents, policy, ssh, worker_keys
from tasks.approval.documents import Approval, Contents, ContentsPart, ContentsStep, Envelope, Part
from tasks.settings import Settings

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
FLEET = "f" * 64
BUNDLE = "b" * 64
IMAGE = f"registry.example/auth@sha256:{'1' * 64}"


def key(path: Path) -> str:
    """Makes an ed25519 key without a passphrase; returns its public line."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text(encoding="utf-8").strip()


@dataclass(frozen=True)
class Stage:
    """A directory with the keys `ada`, `ada-laptop`, `grace`, `eve` (nobody's) and `worker`, and the policy that knows them."""

    place: Path

    @classmethod
    def made(cls, place: Path) -> Stage:
        people = {"ada": "ada@example.com", "ada-laptop": "ada-laptop@example.com", "grace": "grace@example.com"}
        lines = [f"{principal} {key(place / name)}" for name, principal in people.items()]
        (place / "allowed_signers").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for name in ("eve", "worker", "release", "other"):
            key(place / name)
        return cls(place)

    def public(self, name: str) -> str:
        return (self.place / f"{name}.pub").read_text(encoding="utf-8").strip()

    def policy(self, **changes: Any) -> policy.Policy:
        given: dict[str, Any] = {
            "environment": "prod",
            "verifier": "ssh",
            "approvers": {"ada": ["ada@example.com", "ada-laptop@example.com"], "grace": ["grace@example.com"]},
            "ssh": {"allowed_signers": "allowed_signers"},
            "signing": {"id": "prod-1", "file": "worker"},
            "keys": {
                "prod": [{"id": "prod-1", "public": self.public("worker")}],
                "release": [{"id": "release-1", "public": self.public("release")}],
            },
            "images": ["registry.example/{service}"],
        }
        path = self.place / "policy.yaml"
        with path.open("w", encoding="utf-8") as file:
            YAML().dump(given | changes, file)
        return policy.parse(path.read_bytes(), path)

    def revoke(self, name: str) -> dict[str, str]:
        """Writes a key revocation list; returns the policy's section for it."""
        subprocess.run(["ssh-keygen", "-q", "-k", "-f", str(self.place / "krl"), str(self.place / f"{name}.pub")], check=True)
        return {"allowed_signers": "allowed_signers", "revoked": "krl"}

    def approval(self, rules: policy.Policy, **changes: Any) -> Approval:
        part = Part(service="auth", database="postgres:1/auth_db", bundle=BUNDLE, plan=contents().services[0].plan, image=IMAGE)
        given: dict[str, Any] = {
            "id": documents.nonce(),
            "environment": "prod",
            "made": documents.moment(NOW - timedelta(hours=1)),
            "expires": documents.moment(NOW + timedelta(hours=7)),
            "policy": rules.digest,
            "fleet": FLEET,
            "contents": contents().digest,
            "services": (part,),
            "mode": "job",
        }
        return Approval(**(given | changes))

    def signed(self, approval: Approval, rules: policy.Policy, people: Sequence[str], namespace: str = ssh.APPROVAL) -> list[Envelope]:
        """Returns one envelope per person, each signed by the worker, too."""
        assert rules.signing is not None
        worker = worker_keys.sign(approval, rules.signing, Settings())
        return [
            Envelope(document=approval.canonical, worker=worker, signature=ssh.sign(approval.signed, self.place / name, namespace))
            for name in people
        ]


def contents() -> Contents:
    step = ContentsStep.of(1, "00001_a.sql", "up", b"-- +goose Up\nSELECT 1;\n")
    return Contents(environment="prod", services=(ContentsPart(service="auth", steps=(step,)),))
