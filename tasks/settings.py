"""Settings from the environment (`GREYLAG_*`): the addresses of Vault and the cluster, and a run's time limits. Secrets are paths or SecretStr only.

Vault's own names (VAULT_ADDR, VAULT_CACERT, VAULT_NAMESPACE, VAULT_TOKEN) are accepted if GREYLAG_* is not set, so that a shell in which
`vault` works also works for greylag.
"""

from __future__ import annotations

import enum
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from migrator import errors

PREFIX = "GREYLAG_"

SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
"""The file with a pod's own token; a token for Vault alone is projected elsewhere, with its own audience (vault.md §4)."""


class Mode(enum.StrEnum):
    """The ways in which step 3 runs the migration (architecture.md §3.1)."""

    INLINE = "inline"
    JOB = "job"
    ARGOCD = "argocd"


def _either(own: str, usual: str) -> AliasChoices:
    return AliasChoices(PREFIX + own, usual)


class Settings(BaseSettings):
    """Everything that may differ between two workers. Durations are seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    vault_address: str = Field(default="http://127.0.0.1:8200", validation_alias=_either("VAULT_ADDRESS", "VAULT_ADDR"))
    vault_namespace: str = Field(default="", validation_alias=_either("VAULT_NAMESPACE", "VAULT_NAMESPACE"))
    vault_ca_file: Path | None = Field(default=None, validation_alias=_either("VAULT_CA_FILE", "VAULT_CACERT"))
    vault_token: SecretStr | None = Field(default=None, validation_alias=_either("VAULT_TOKEN", "VAULT_TOKEN"))
    vault_token_file: Path | None = None
    vault_role_id: str = ""
    vault_secret_id_file: Path | None = None
    vault_wrapped_secret_id_file: Path | None = None
    vault_approle_mount: str = "approle"
    vault_jwt_role: str = ""
    vault_jwt_file: Path | None = None
    vault_jwt_mount: str = "jwt"
    vault_kubernetes_role: str = ""
    vault_kubernetes_token_file: Path = SERVICE_ACCOUNT_TOKEN
    vault_kubernetes_mount: str = "kubernetes"
    vault_audience: str = ""
    """The audience that the token of a JWT or Kubernetes login must have; a token for another is not even sent. Empty: only Vault checks it."""
    vault_timeout_seconds: Annotated[float, Field(gt=0)] = 10.0

    mode: Mode | None = None
    """None: `job` when a cluster is configured and the run names an image, else `inline`."""
    kube_context: str = ""
    """The kubeconfig's context; `in-cluster` for the pod's own service account; empty: no cluster is configured."""
    rollout_timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Seconds for which one attempt watches a rollout: Kubernetes' own progressDeadlineSeconds."""
    rollout_poll_seconds: Annotated[float, Field(gt=0)] = 3.0

    argocd_token_file: Path | None = None
    """A file with the token of Argo CD's account; read again for each run."""
    argocd_token: SecretStr | None = Field(default=None, validation_alias=_either("ARGOCD_TOKEN", "ARGOCD_AUTH_TOKEN"))
    argocd_ca_file: Path | None = None
    argocd_timeout_seconds: Annotated[float, Field(gt=0)] = 30.0

    job_patience_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Seconds for which a Job's pod may lack an image, a Secret or a container before the run fails; five times as long for a node."""

    backoff_limit: Annotated[int, Field(ge=0, le=1000)] = 3
    """A Job's backoffLimit: retries after the first attempt."""
    backoff_base_seconds: Annotated[float, Field(ge=0)] = 10.0
    """The first delay; Kubernetes has 10. Tests and the demo shorten it."""
    active_deadline_seconds: Annotated[float, Field(gt=0)] = 900.0
    """A Job's activeDeadlineSeconds: over all attempts of a task, delays included."""

    lock_wait_seconds: Annotated[float, Field(ge=0)] = 300.0
    statement_timeout_seconds: Annotated[float, Field(ge=0)] = 0.0

    policy: Path | None = None
    """The policy file of the protected environment that this worker serves; it lies outside the checkout. None: approvals are claims."""
    approval_maximum_age_seconds: Annotated[float, Field(gt=0)] = 86_400.0
    """Seconds. A day: an older approval was given for a database that may have changed since."""
    create_limits: bool = True
    """Whether a run creates its concurrency limit when it is missing; `greylag deploy` creates all of them."""

    @field_validator("vault_address")
    @classmethod
    def _address(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("an address begins with https:// (or http:// on a developer's machine)")
        return value.rstrip("/")

    @cached_property
    def has_cluster(self) -> bool:
        """Tells whether a Kubernetes cluster is configured."""
        return bool(self.kube_context)

    def migration_mode(self, image: str, context: str = "") -> Mode:
        """Returns the mode of step 3 when the run itself names none: a Job if there are a cluster and the release's image.

        Args:
            image: the release's, empty when it is unknown. context: the environment's own kube context, which takes precedence over the worker's.
        """
        return self.mode or (Mode.JOB if (context or self.has_cluster) and image else Mode.INLINE)


def load() -> Settings:
    """Reads the environment.

    Raises UsageError (`bad-setting`) naming the variable; its value is never quoted, because it may be a secret.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        variable = name if name.isupper() else PREFIX + name.upper()
        reason = first["msg"].removeprefix("Value error, ")
        raise errors.UsageError(
            f"{variable}: {reason[:1].lower()}{reason[1:]}", code="bad-setting", hint=f"correct {variable} or unset it"
        ) from None
