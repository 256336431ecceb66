"""The source `vault`, a KV version 2 secret at `vault.path`: the default where fleet.yaml names no source."""

from __future__ import annotations

from tasks.credentials.source import Credentials, SecretReader, Source, Wanted, credentials
from tasks.settings import Settings


class InVault(Source):
    """A source some or all of whose keys are those of the KV secret at `vault.path`."""

    def holder(self, target: Wanted) -> str:
        """Returns mount and path, as `vault kv get` takes them."""
        return f"{target.vault_mount}/{target.vault_path}"

    def called(self, target: Wanted) -> str:
        return f"the secret {self.holder(target)}"

    def remedy(self, target: Wanted, key: str, value: str = "…") -> str:
        return f"`vault kv patch {self.holder(target)} {key}={value}`"


class VaultSecret(InVault):
    """A secret that is read once; the Vault token is given back right after that."""

    word = "vault"
    example = "vault"

    def problem(self) -> str:
        return "vault takes nothing here: write vault; the path is vault.path of the fleet" if self.place else ""

    def read(self, target: Wanted, settings: Settings, reader: SecretReader | None = None) -> Credentials:
        from tasks.credentials import vault

        data, version = vault.read(target, settings, reader)
        return credentials(data, target, version)

    @property
    def policies(self) -> tuple[str, ...]:
        return ("kv",)

    def reference(self, target: Wanted) -> str:
        return self.holder(target)
