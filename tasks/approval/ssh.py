"""Signatures of people: made by OpenSSH's own ssh-keygen (`-Y sign`), checked with the keys of the worker's policy (`migrator.signatures`).

Keys may lie in a file, in an agent or on a security key; certificates, validity times and `namespaces=` of allowed_signers mean what ssh-keygen(1) says.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from migrator import errors, signatures
from tasks.approval.policy import Policy

APPROVAL = signatures.APPROVAL

PROMOTION = "greylag-promotion"


def sign(content: bytes, key: Path, namespace: str) -> str:
    """Returns the armoured signature with a private key, or with the agent's key for a public one. Raises UsageError (`signing-failed`)."""
    try:
        done = subprocess.run(
            ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", namespace],
            input=content,
            capture_output=True,
            timeout=signatures.SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(key, type(error).__name__) from None
    if done.returncode:
        raise _failed(key, _last(done.stderr))
    return done.stdout.decode("ascii")


def verify(content: bytes, signature: str, namespace: str, policy: Policy) -> list[str]:
    """Returns the principals of the policy's allowed_signers whose signature this is; several where a key is listed under several of its names.

    Raises PlanRefused: `approval-signature` (nobody's, or of something else), `approval-revoked` (the key is on the revocation list).
    """
    keys = policy.ssh
    if keys is None:
        raise signatures.refused("the policy knows no keys of people")
    return signatures.verify(content, signature, namespace, keys.allowed_signers, keys.revoked, policy.names)


def person(names: Sequence[str], policy: Policy) -> str:
    """Returns the one person behind a signature's principals. Raises PlanRefused (`approval-signature`) for nobody's, and for one that is two persons'."""
    found = {policy.person(name) for name in names} - {""}
    if len(found) == 1:
        return found.pop()
    if found:
        raise signatures.refused(f"its key is that of {' and of '.join(sorted(found))}: nobody can tell who signed")
    raise signatures.refused(f"{', '.join(names)} may not approve for {policy.environment}")


def _last(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


def _failed(key: Path, reason: str) -> errors.UsageError:
    return errors.UsageError(
        f"ssh-keygen can't sign with {key}: {reason}",
        code="signing-failed",
        hint="give a private key, or the public one of a key in the agent",
    )
