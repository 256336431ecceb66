"""`make demo APPROVE=ssh`: prod's worker has a policy, two persons approve with real keys, and what must not pass is tried before.

People, keys and policies are the demo's own and lie in its state directory. The workers of release and prod get theirs by `GREYLAG_POLICY`, as anywhere.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ruamel.yaml import YAML

from migrator import errors
from tasks import fleet
from tasks.approval import documents, policy, ssh, worker_keys
from tasks.approval.documents import Envelope
from tasks.settings import Settings

if TYPE_CHECKING:
    from flows.plan_documents import Waiting

PEOPLE = {"ada": ["ada"], "grace": ["grace", "grace-old"], "pat": ["pat"]}
"""Persons and their keys: grace has lost one, pat promotes. eve is nobody."""


@dataclass(frozen=True)
class Attempt:
    """One approval that somebody gives: `refusal` is the code of its refusal, empty for the one that is enough."""

    who: str
    words: str
    refusal: str
    signature: str


class SignedApprovals:
    """The keys and the policies of two workers: the protected environment's, and that of the one before it."""

    def __init__(self, directory: Path, found: fleet.Fleet) -> None:
        self.directory = directory
        self.environment = next(name for name, item in found.environments.items() if item.protected)
        self.previous = found.previous(self.environment) or ""
        shutil.rmtree(directory, ignore_errors=True)  # what an earlier demo signed is not to count in this one
        directory.mkdir(parents=True, mode=0o700)
        names = [key for keys in PEOPLE.values() for key in keys]
        for name in [*names, "eve", self.environment, self.previous]:
            self._key(name)
        lines = [f"{name} {self._public(name)}\n" for name in names]
        (directory / "allowed_signers").write_text("".join(lines), encoding="utf-8")
        _ssh_keygen("-k", "-f", str(directory / "revoked.krl"), str(directory / "grace-old.pub"))
        self._write(self.previous, {"protected": False})
        self._write(
            self.environment,
            {
                "verifier": "ssh",
                "minimum": 2,
                "not_promoter": True,
                "validity_hours": 1,
                "approvers": PEOPLE,
                "ssh": {"allowed_signers": "allowed_signers", "revoked": "revoked.krl"},
                "keys": {name: [{"id": f"{name}-demo", "public": self._public(name)}] for name in (self.environment, self.previous)},
            },
        )

    def variables(self, environment: str) -> dict[str, str]:
        """Returns what a worker gets besides."""
        if environment not in (self.environment, self.previous):
            return {}
        return {"GREYLAG_POLICY": str(self._policy(environment))}

    def promoted(self, found: fleet.Fleet) -> dict[str, str]:
        """Returns the parameters of a promotion that pat has signed."""
        from deployments.console import signing

        bundle, signature = signing.promoted(found, self.environment, (), "", str(self.directory / "pat"))
        return {"bundle": bundle, "signature": signature}

    def attempts(self, found: Waiting) -> Iterator[Attempt]:
        """Yields what is tried, one after another."""
        yield Attempt("eve", "with a key that the policy does not know", "approval-signature", self.signed(found, "eve"))
        yield Attempt("grace", "with the key that is on the revocation list", "approval-revoked", self.signed(found, "grace-old"))
        yield Attempt("pat", "who has promoted it", "approval-promoter", self.signed(found, "pat"))
        yield Attempt("ada", "an approval that ended yesterday", "approval-expired", self.signed(self.old(found), "ada"))
        yield Attempt("ada", "the first of two persons", "approval-minimum", self.signed(found, "ada"))
        yield Attempt("grace", "the second", "", self.signed(found, "grace"))

    def signed(self, found: Waiting, key: str) -> str:
        """Returns the line that somebody's signature of a plan's document makes, for the form's field."""
        signature = ssh.sign(found.approval.signed, self.directory / key, ssh.APPROVAL)
        return Envelope(document=found.approval.canonical, worker=found.signature, signature=signature).packed()

    def old(self, found: Waiting) -> Waiting:
        """Returns the same document as the worker would have signed it two days ago."""
        from dataclasses import replace

        made = datetime.now(UTC) - timedelta(days=2)
        changes = {"id": documents.nonce(), "made": documents.moment(made), "expires": documents.moment(made + timedelta(hours=1))}
        old = found.approval.model_copy(update=changes)
        rules = policy.parse(self._policy(self.environment).read_bytes(), self._policy(self.environment))
        assert rules.signing is not None
        return replace(found, approval=old, signature=worker_keys.sign(old, rules.signing, Settings()))

    def _policy(self, environment: str) -> Path:
        return self.directory / f"{environment}.yaml"

    def _write(self, environment: str, more: dict[str, object]) -> None:
        content = {"environment": environment, "signing": {"id": f"{environment}-demo", "file": environment}, **more}
        with self._policy(environment).open("w", encoding="utf-8") as file:
            YAML().dump(content, file)

    def _key(self, name: str) -> None:
        _ssh_keygen("-t", "ed25519", "-N", "", "-C", name, "-f", str(self.directory / name))

    def _public(self, name: str) -> str:
        return (self.directory / f"{name}.pub").read_text(encoding="utf-8").strip()


def _ssh_keygen(*words: str) -> None:
    try:
        subprocess.run(["ssh-keygen", "-q", *words], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise errors.UsageError(
            f"ssh-keygen can't make the demo's keys: {type(error).__name__}", code="signing-failed", hint="install OpenSSH's client"
        ) from None
