"""Signatures of people, checked by OpenSSH's own ssh-keygen (`-Y verify`) with its allowed_signers file and its revocation list.

Certificates, validity times and `namespaces=` of allowed_signers mean what ssh-keygen(1) says.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from migrator import errors

APPROVAL = "greylag-approval"
"""The namespace of an approval's signature: a signature for anything else, such as a git commit, is none."""

BEGINNING = "-----BEGIN SSH SIGNATURE-----"

SECONDS = 60.0
"""How long ssh-keygen may take; a security key waits for a touch."""


def verify(
    content: bytes, signature: str, namespace: str, allowed_signers: Path, revoked: Path | None = None, names: Iterable[str] = ()
) -> list[str]:
    """Returns the principals of allowed_signers whose signature this is; several where a key is listed under several names.

    Args:
        content: what was signed.
        signature: ssh-keygen's armoured text.
        namespace: what it was signed for.
        allowed_signers, revoked: ssh-keygen's files.
        names: principals to ask for besides the first one that ssh-keygen finds.

    Raises:
        PlanRefused: `approval-signature` (nobody's, or of something else), `approval-revoked` (the key is on the revocation list).
        UsageError: `bad-policy` (a file is missing), `signing-failed` (there is no ssh-keygen, or the process's uid has no name).
    """
    if not signature.lstrip().startswith(BEGINNING):
        raise refused("it is no signature of ssh-keygen")
    for path in (allowed_signers, revoked):
        if path is not None and not path.is_file():  # a revocation list that is missing must not mean that nothing is revoked
            raise errors.UsageError(
                f"{path} is missing, which the policy names", code="bad-policy", hint="put it back; nothing was approved"
            )
    with tempfile.TemporaryDirectory(prefix="greylag-") as place:
        file = Path(place) / "signature"
        file.write_text(signature, encoding="utf-8")
        first = _run(["find-principals", "-s", str(file), "-f", str(allowed_signers)], b"")
        if first.returncode:
            raise refused("its key is not among allowed_signers")
        # find-principals names the first line with the key; the same key under a second person's name must not be missed
        every = dict.fromkeys([*first.stdout.decode("utf-8", "replace").splitlines(), *names])

        def good(name: str, *more: str) -> bool:
            given = ["verify", "-f", str(allowed_signers), "-I", name, "-n", namespace, "-s", str(file), *more]
            return _run(given, content).returncode == 0

        list_ = ["-r", str(revoked)] if revoked else []
        if found := [name for name in every if good(name, *list_)]:
            return found
        if list_ and any(good(name) for name in every):
            raise errors.PlanRefused("the key of this signature is revoked", code="approval-revoked", hint="sign with a key that is not")
    raise refused("it is not of this document, or its key is not valid for this purpose or at this time")


def refused(reason: str) -> errors.PlanRefused:
    """Returns the error for a signature that counts for nothing."""
    return errors.PlanRefused(
        f"the signature is not accepted: {reason}", code="approval-signature", hint="`greylag approve` signs; see who may"
    )


def _run(given: Sequence[str], content: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:  # ssh-keygen ends at once for a user without a name, as if the signature were bad
        raise errors.UsageError(
            f"ssh-keygen does not work for the uid {os.getuid()}, which has no name here",
            code="signing-failed",
            hint="add the uid to the image's /etc/passwd; greylag's images know 65532",
        ) from None
    try:
        return subprocess.run(["ssh-keygen", "-Y", *given], input=content, capture_output=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.UsageError(
            f"ssh-keygen can't be run: {type(error).__name__}", code="signing-failed", hint="install OpenSSH's client (8.2 or newer) here"
        ) from None
