"""Keys of workers: with its own, a worker signs what it has read; with those of its policy it checks what others have signed.

ed25519 throughout: a file, or a key of Vault's transit engine that can't be exported. Every signature names its key; the id of a transit key ends with
its version in use (`release-2026:v3`), so that old and new versions stand side by side during a rotation.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from migrator import errors
from tasks.approval.documents import Document, Signature
from tasks.approval.policy import Policy, Signing, Transit, WorkerKey
from tasks.credentials import transit
from tasks.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def sign(document: Document, signing: Signing, settings: Settings) -> Signature:
    """Signs a document with this worker's own key. Raises UsageError (`signing-failed`), and as `credentials.fetch` where Vault holds the key."""
    if signing.transit is not None:
        return _signed_by_vault(document, signing, signing.transit, settings)
    return Signature(key=signing.id, signature=base64.b64encode(_private(signing).sign(document.signed)).decode("ascii"))


def verify(document: Document, signature: Signature, environment: str, policy: Policy, settings: Settings) -> None:
    """Verifies that an environment's worker has signed a document.

    Raises PlanRefused: `key-unknown`, `key-revoked`, `signature-invalid`; as `credentials.fetch` where Vault verifies.
    """
    name, _, version = signature.key.partition(":")
    keys = policy.keys.get(environment, ())
    found = next((item for item in keys if item.id == signature.key), None) or next(
        (item for item in keys if item.id == name and item.transit is not None), None
    )
    if found is None:
        known = ", ".join(item.id for item in keys) or "none"
        raise errors.PlanRefused(
            f"this is signed with the key {signature.key} of {environment}, and the policy knows {known}",
            code="key-unknown",
            hint=f"add its public key under keys.{environment} of the policy, if it is that worker's",
        )
    if found.revoked or any(item.revoked and item.id in (signature.key, name) for item in keys):
        raise errors.PlanRefused(
            f"this is signed with the key {signature.key} of {environment}, which is revoked",
            code="key-revoked",
            hint="give that worker a new key; what the old one signed proves nothing any more",
        )
    valid = (
        _verified_by_vault(document, signature, found.transit, version, settings)
        if found.transit is not None
        else _verified(document, signature, found)
    )
    if not valid:
        raise errors.PlanRefused(
            f"the signature with the key {signature.key} of {environment} is not valid",
            code="signature-invalid",
            hint="the document was changed, or somebody else signed it: it proves nothing",
        )


def public_line(signing: Signing) -> str:
    """Returns the public key of a key file, as a policy's `public` takes it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return _private(signing).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")


def _private(signing: Signing) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    assert signing.file is not None
    try:
        if signing.file.stat().st_mode & 0o077:
            raise _unusable(signing, "others may read it: chmod 600")
        content = signing.file.read_bytes()
    except OSError as error:
        raise _unusable(signing, error.strerror or type(error).__name__) from None
    try:
        key = load_ssh_private_key(content, None) if b"OPENSSH PRIVATE KEY" in content else load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _unusable(signing, "it is no private key without a passphrase") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _unusable(signing, "it is no ed25519 key")
    return key


def _public(key: WorkerKey) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    try:
        if key.public.startswith("ssh-"):
            found = load_ssh_public_key(key.public.encode())
        else:
            found = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.public, validate=True))
    except (ValueError, binascii.Error, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, Ed25519PublicKey):
        raise errors.UsageError(
            f"the policy's key {key.id} is no ed25519 public key",
            code="bad-policy",
            hint="write the line of an OpenSSH .pub file, or 32 bytes as base64",
        )
    return found


def _verified(document: Document, signature: Signature, key: WorkerKey) -> bool:
    from cryptography.exceptions import InvalidSignature

    public = _public(key)
    try:
        public.verify(base64.b64decode(signature.signature, validate=True), document.signed)
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True


def _signed_by_vault(document: Document, signing: Signing, kept: Transit, settings: Settings) -> Signature:
    version, value = transit.sign(document.signed, kept.key, kept.mount, settings)
    return Signature(key=f"{signing.id}:{version}", signature=value)


def _verified_by_vault(document: Document, signature: Signature, kept: Transit, version: str, settings: Settings) -> bool:
    if not version.startswith("v") or not version[1:].isdecimal():
        return False
    return transit.verify(document.signed, version, signature.signature, kept.key, kept.mount, settings)


def _unusable(signing: Signing, reason: str) -> errors.UsageError:
    return errors.UsageError(
        f"the worker's own key {signing.id} can't sign: {reason}", code="signing-failed", hint="`signing` of the policy names it"
    )
