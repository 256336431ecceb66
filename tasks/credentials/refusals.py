"""What Vault's answers mean: one error with a remedy per row of the table in vault.md §2.

hvac's exceptions carry no status code, and requests' are not wrapped; so this goes by class, then by what the answer says. No token, no
answer's body and no exception of `requests` is ever quoted: an InvalidHeader holds the token itself.
"""

from __future__ import annotations

from typing import Any

import requests
from hvac import exceptions

from migrator import errors
from migrator.redaction import redact
from tasks.credentials.secret import place
from tasks.fleet_models import Target
from tasks.settings import Settings

LONGEST_QUOTE = 200
"""Characters of Vault's own error list that a message quotes."""


def explained(error: Exception, target: Target, settings: Settings, doing: str) -> errors.GreylagError:
    """The error that a call to Vault ended with, in greylag's terms.

    Args:
        doing: what was tried, for the message: "reading …", "logging in by AppRole".
    """
    for explain in (_transport, _not_vault, _path, _denied, _server):
        found = explain(error, target, settings, doing)
        if found is not None:
            return found
    return errors.Unavailable(f"{doing}: {_quoted(error) or type(error).__name__}", code="vault-unexpected", hint=_look(settings))


def _transport(error: Exception, target: Target, settings: Settings, doing: str) -> errors.GreylagError | None:
    """What never reached Vault. SSLError comes first: it is a ConnectionError too."""
    address = redact(settings.vault_address)
    if isinstance(error, requests.exceptions.SSLError):
        return errors.LoginFailed(
            f"{doing}: the certificate of {address} is not trusted: unknown authority, expired, or made for another name",
            code="vault-certificate",
            hint="GREYLAG_VAULT_CA_FILE (or VAULT_CACERT) names the file with Vault's certificate authority",
        )
    if isinstance(error, requests.exceptions.InvalidHeader):
        return errors.UsageError(
            f"{doing}: the token holds characters that no HTTP header may hold (a line break?)",
            code="vault-token",
            hint="write the token alone into its file, on one line",
        )
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema | requests.exceptions.InvalidSchema):
        return errors.UsageError(f"{doing}: {address} is not an address", code="vault-address", hint="set GREYLAG_VAULT_ADDRESS")
    if isinstance(error, requests.exceptions.Timeout):
        seconds = f"{settings.vault_timeout_seconds:g} s"
        return errors.Unavailable(f"{doing}: {address} did not answer within {seconds}", code="vault-timeout", hint=_look(settings))
    if isinstance(error, requests.exceptions.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return errors.Unavailable(f"{doing}: {address} can't be reached", code="vault-unreachable", hint=_look(settings))
    if isinstance(error, OSError) and not isinstance(error, requests.exceptions.RequestException):
        return errors.UsageError(
            f"{doing}: the CA file {settings.vault_ca_file} can't be read", code="vault-ca-file", hint="correct GREYLAG_VAULT_CA_FILE"
        )
    return None


def _not_vault(error: Exception, target: Target, settings: Settings, doing: str) -> errors.GreylagError | None:
    address = redact(settings.vault_address)
    if isinstance(error, TypeError | KeyError | AttributeError):  # hvac hands the raw response on: HTML, or a redirect that isn't followed
        return errors.UsageError(
            f"{doing}: {address} answered, but not as Vault does (a redirect, or a page of HTML)",
            code="vault-address",
            hint="give the address of Vault's API itself; the token is never sent on to where a redirect points",
        )
    if isinstance(error, exceptions.InvalidRequest) and "HTTP request to an HTTPS server" in str(error):
        return errors.UsageError(
            f"{doing}: {address} speaks HTTPS only", code="vault-address", hint="write https:// into GREYLAG_VAULT_ADDRESS"
        )
    return None


def _path(error: Exception, target: Target, settings: Settings, doing: str) -> errors.GreylagError | None:
    """The kinds of 404 (vault.md §2): a version that is gone has metadata, a path that never was has none."""
    if not isinstance(error, exceptions.InvalidPath):
        return None
    secret = place(target)
    answer = error.json if isinstance(error.json, dict) else {}
    data = answer.get("data")
    metadata: dict[str, Any] = (data.get("metadata") or {}) if isinstance(data, dict) else {}
    if metadata.get("destroyed"):
        version = metadata.get("version")
        return errors.NotFound(
            f"version {version} of {secret} was destroyed", code="secret-destroyed", hint=f"write it anew: `vault kv put {secret} …`"
        )
    if metadata.get("deletion_time"):
        version = metadata.get("version")
        return errors.NotFound(
            f"version {version} of {secret} was deleted at {metadata['deletion_time']}",
            code="secret-deleted",
            hint=f"`vault kv undelete -versions={version} {secret}` brings it back",
        )
    if "no handler for route" in _quoted(error):
        return errors.NotFound(
            f'Vault has no secrets engine at "{target.vault_mount}"', code="mount-missing", hint="correct vault.mount in fleet.yaml"
        )
    return errors.NotFound(
        f"there is no secret {secret}, or {target.vault_mount} is not a KV version 2 mount",
        code="secret-missing",
        hint=f"`vault kv put {secret} host=… port=… username=… password=… database={target.database}`",
    )


def _denied(error: Exception, target: Target, settings: Settings, doing: str) -> errors.GreylagError | None:
    said = _quoted(error)
    if isinstance(error, exceptions.Forbidden | exceptions.Unauthorized):
        return errors.LoginFailed(
            f"{doing}: Vault refused: {said or 'permission denied'}",
            code="vault-forbidden",
            hint=f'the role needs `path "{target.vault_mount}/data/{target.vault_path}" {{ capabilities = ["read"] }}`, and its token must be alive',
        )
    if isinstance(error, exceptions.InvalidRequest | exceptions.ParamValidationError):
        return errors.LoginFailed(
            f"{doing}: Vault refused: {said or 'invalid request'}",
            code="vault-login",
            hint="check GREYLAG_VAULT_ROLE_ID and the file of GREYLAG_VAULT_SECRET_ID_FILE",
        )
    return None


def _server(error: Exception, target: Target, settings: Settings, doing: str) -> errors.GreylagError | None:
    """Vault is there and can't answer now: worth a bounded number of tries."""
    named: tuple[tuple[type[Exception], str, str], ...] = (
        (exceptions.VaultNotInitialized, "vault-uninitialised", "Vault is not initialised"),
        (exceptions.VaultDown, "vault-sealed", "Vault is sealed or a standby without a leader"),
        (exceptions.RateLimitExceeded, "vault-rate-limited", "Vault's quota is used up for now"),
        (exceptions.BadGateway, "vault-gateway", "the proxy before Vault got no answer from it"),
        (exceptions.InternalServerError, "vault-error", "Vault failed inside"),
        (exceptions.UnexpectedError, "vault-unexpected", "Vault or a proxy gave an unusual answer"),
    )
    for kind, code, words in named:
        if isinstance(error, kind):
            said = _quoted(error)
            return errors.Unavailable(f"{doing}: {words}{f': {said}' if said else ''}", code=code, hint=_look(settings))
    return None


def _quoted(error: Exception) -> str:
    """Vault's own error list, which names paths and reasons, never values. The body as text may be anything and is not quoted."""
    said = getattr(error, "errors", None)
    texts = [item for item in said if isinstance(item, str)] if isinstance(said, list) else []
    return redact(" ".join("; ".join(texts).split()))[:LONGEST_QUOTE]


def _look(settings: Settings) -> str:
    return f"`vault status -address={redact(settings.vault_address)}` tells how it is"
