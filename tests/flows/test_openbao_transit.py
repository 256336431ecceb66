"""A worker's key in a real OpenBao's transit engine: signs with its own path, verifies with the next one's, and can't do anything else."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from migrator import errors
from sandbox.vault.openbao_server import OpenBaoServer
from tasks.approval import documents, policy, worker_keys
from tasks.approval.documents import Proof, Signature
from tasks.settings import Settings
from tests import needs

SIGNING = policy.Signing(id="release-2026", transit=policy.Transit(key="release"))


@dataclass(frozen=True)
class Place:
    """A server with the key `release`, and tokens that may do one thing with it."""

    server: OpenBaoServer
    directory: Path

    def settings(self, *paths: str) -> Settings:
        """A worker whose policy allows `update` on these paths and nothing else."""
        name = f"worker-{secrets.token_hex(4)}"
        self.server.create_policy(name, {path: ["update"] for path in paths})
        file = self.directory / name
        file.write_text(self.server.create_token(name) + "\n", encoding="utf-8")
        return Settings().model_copy(update={"vault_address": self.server.url, "vault_token_file": file})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    needs.openbao()
    directory = tmp_path_factory.mktemp("transit")
    with OpenBaoServer(directory / "openbao") as server:
        try:
            server.request("POST", "sys/mounts/transit", {"type": "transit"})
        except errors.GreylagError as error:
            pytest.skip(f"the OpenBao that is built has no transit engine: {error.message}")
        server.request("POST", "transit/keys/release", {"type": "ed25519"})
        yield Place(server, directory)


def proof() -> Proof:
    return documents.proof_of("release", documents.nonce(), datetime.now(UTC), [])


def rules(**key: object) -> policy.Policy:
    given = {"id": "release-2026", **(key or {"transit": {"key": "release"}})}
    return policy.Policy.model_validate({"environment": "prod", "keys": {"release": [given]}})


def refused(code: str, document: Proof, signature: Signature, known: policy.Policy, settings: Settings) -> None:
    with pytest.raises(errors.GreylagError) as caught:
        worker_keys.verify(document, signature, "release", known, settings)
    assert caught.value.code == code, caught.value.describe()


def test_one_worker_signs_and_the_next_verifies_each_by_its_own_path(place: Place) -> None:
    document = proof()
    signature = worker_keys.sign(document, SIGNING, place.settings("transit/sign/release"))
    assert signature.key == "release-2026:v1"
    verifier = place.settings("transit/verify/release")
    worker_keys.verify(document, signature, "release", rules(), verifier)
    refused("signature-invalid", proof(), signature, rules(), verifier)
    refused("key-unknown", document, signature.model_copy(update={"key": "other:v1"}), rules(), verifier)
    refused("key-revoked", document, signature, rules(transit={"key": "release"}, revoked=True), verifier)


def test_bad_flow_who_verifies_can_not_sign_and_the_key_does_not_leave(place: Place) -> None:
    with pytest.raises(errors.LoginFailed):
        worker_keys.sign(proof(), SIGNING, place.settings("transit/verify/release"))
    key = place.server.request("GET", "transit/keys/release")["data"]
    assert key["exportable"] is False
    assert key["type"] == "ed25519"


def test_old_and_new_versions_of_the_key_stand_side_by_side(place: Place) -> None:
    signer, verifier = place.settings("transit/sign/release"), place.settings("transit/verify/release")
    document = proof()
    old = worker_keys.sign(document, SIGNING, signer)
    place.server.request("POST", "transit/keys/release/rotate")
    new = worker_keys.sign(document, SIGNING, signer)
    assert old.key != new.key
    for signature in (old, new):
        worker_keys.verify(document, signature, "release", rules(), verifier)
    refused("signature-invalid", document, new.model_copy(update={"key": old.key}), rules(), verifier)
    for version in ("release-2026:", "release-2026:v", "release-2026:v1:v2", "release-2026:vx"):
        refused("signature-invalid", document, new.model_copy(update={"key": version}), rules(), verifier)


def test_the_public_key_alone_verifies_without_vault(place: Place) -> None:
    document = proof()
    signature = worker_keys.sign(document, SIGNING, place.settings("transit/sign/release"))
    version = signature.key.rpartition(":v")[2]
    public = place.server.request("GET", "transit/keys/release")["data"]["keys"][version]["public_key"]
    known = policy.Policy.model_validate({"environment": "prod", "keys": {"release": [{"id": signature.key, "public": public}]}})
    worker_keys.verify(document, signature, "release", known, Settings())
    refused("signature-invalid", proof(), signature, known, Settings())
