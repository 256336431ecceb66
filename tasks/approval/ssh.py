"""Signatures of people: made and checked by OpenSSH's own ssh-keygen (`-Y sign`, `-Y verify`), with its allowed_signers file and its revocation list.

Keys may lie in a file, in an agent or on a security key; certificates, validity times and `namespaces=` of allowed_signers mean what ssh-keygen(1) says.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from migrator import errors
from tasks.approval.policy import Policy

APPROVAL = "greylag-approval"
"""The namespace of an approval's signature: a signature for anything else, such as a git commit, is none."""

PROMOTION = "greylag-promotion"

BEGINNING = "-----BEGIN SSH SIGNATURE-----"

_SECONDS = 60.0
"""Seconds; a security key waits for a touch."""


def sign(content: bytes, key: Path, namespace: str) -> str:
    """Returns the armoured signature with a private key, or with the agent's key for a public one. Raises UsageError (`signing-failed`)."""
    try:
        done = subprocess.run(
            ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", namespace],
            input=content,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(key, type(error).__name__) from None
    if done.returncode:
        raise _failed(key, _last(done.stderr))
    return done.stdout.decode("ascii")


def verify(content: bytes, signature: str, namespace: str, policy: Policy) -> list[str]:
    """Returns the principals of allowed_signers whose signature this is; several where a key is listed under several of the policy's names.

    Raises PlanRefused: `approval-signature` (nobody's, or of something else), `approval-revoked` (the key is on the revocation list).
    """
    keys = policy.ssh
    if keys is None:
        raise _refused("the policy knows no keys of people")
    if not signature.lstrip().startswith(BEGINNING):
        raise _refused("it is no signature of ssh-keygen")
    for path in (keys.allowed_signers, keys.revoked):
        if path is not None and not path.is_file():  # a revocation list that is missing must not mean that nothing is revoked
            raise errors.UsageError(
                f"{path} is missing, which the policy names", code="bad-policy", hint="put it back; nothing was approved"
            )
    with tempfile.TemporaryDirectory(prefix="greylag-") as place:
        file = Path(place) / "signature"
        file.write_text(signature, encoding="utf-8")
        first = _run(["find-principals", "-s", str(file), "-f", str(keys.allowed_signers)], b"")
        if first.returncode:
            raise _refused("its key is not among allowed_signers")
        # find-principals names the first line with the key; the same key under a second person's name must not be missed
        names = dict.fromkeys([*first.stdout.decode("utf-8", "replace").splitlines(), *policy.names])

        def good(name: str, *more: str) -> bool:
            given = ["verify", "-f", str(keys.allowed_signers), "-I", name, "-n", namespace, "-s", str(file), *more]
            return _run(given, content).returncode == 0

        revoked = ["-r", str(keys.revoked)] if keys.revoked else []
        if found := [name for name in names if good(name, *revoked)]:
            return found
        if revoked and any(good(name) for name in names):
            raise errors.PlanRefused("the key of this signature is revoked", code="approval-revoked", hint="sign with a key that is not")
    raise _refused("it is not of this document, or its key is not valid for this purpose or at this time")


def person(names: Sequence[str], policy: Policy) -> str:
    """Returns the one person behind a signature's principals. Raises PlanRefused (`approval-signature`) for nobody's, and for one that is two persons'."""
    found = {policy.person(name) for name in names} - {""}
    if len(found) == 1:
        return found.pop()
    if found:
        raise _refused(f"its key is that of {' and of '.join(sorted(found))}: nobody can tell who signed")
    raise _refused(f"{', '.join(names)} may not approve for {policy.environment}")


def _run(given: list[str], content: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ssh-keygen", "-Y", *given], input=content, capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.UsageError(
            f"ssh-keygen can't be run: {type(error).__name__}", code="signing-failed", hint="install OpenSSH's client (8.2 or newer) here"
        ) from None


def _last(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


def _failed(key: Path, reason: str) -> errors.UsageError:
    return errors.UsageError(
        f"ssh-keygen can't sign with {key}: {reason}",
        code="signing-failed",
        hint="give a private key, or the public one of a key in the agent",
    )


def _refused(reason: str) -> errors.PlanRefused:
    return errors.PlanRefused(
        f"the signature is not accepted: {reason}", code="approval-signature", hint="`greylag approve` signs; see who may"
    )
