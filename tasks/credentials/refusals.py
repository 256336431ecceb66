"""Turns Vault's answers into errors: one error with a remedy per row of the table in vault.md §2.

hvac's exceptions carry no status code, and those of `requests` are not wrapped; so the class decides first, then the text of the answer. No token, no
answer's body and no exception of `requests` is ever quoted: an InvalidHeader holds the token itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import requests
from hvac import exceptions

from migrator import errors
from migrator.address.redaction import redact
from tasks.credentials.logins import Login
from tasks.settings import Settings

LONGEST_QUOTE = 200
"""Characters of Vault's own error list that a message quotes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to Vault, as far as an error message and its remedy need to name it.

    Attributes:
        doing: what was tried: "reading …", "logging in to Vault by AppRole".
        path: the path, as a policy names it. Empty for a login.
        capability: the capability that a policy must allow on that path.
        secret: the path of a KV secret, as `vault kv get` takes it. Empty for anything else.
        example: what that secret should hold, as `vault kv put` takes it.
        login: the way to log in that was tried; None for every request after the login.
    """

    doing: str
    settings: Settings
    path: str = ""
    capability: str = "read"
    secret: str = ""
    example: str = ""
    login: Login | None = None

    @property
    def mount(self) -> str:
        """The path's first segment. It is wrong for mounts of several segments, and good enough for a message."""
        return (self.secret or self.path).partition("/")[0]


def explained(error: Exception, asked: Asked) -> errors.GreylagError:
    """Returns greylag's error for the exception that a call to Vault ended with."""
    if isinstance(error, errors.GreylagError):
        return error
    for explain in (_transport, _not_vault, _login, _path, _denied, _server):
        found = explain(error, asked)
        if found is not None:
            return found
    return errors.Unavailable(
        f"{asked.doing}: {_quoted(error) or type(error).__name__}", code="vault-unexpected", hint=_look(asked.settings)
    )


def _transport(error: Exception, asked: Asked) -> errors.GreylagError | None:
    """Explains requests that never reached Vault. SSLError comes first, because it is a ConnectionError too."""
    doing, settings = asked.doing, asked.settings
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


_BELOW = ("/v1", "/ui/vault", "/ui")
"""Ends of addresses that people copy from a request or from the browser."""


def require_own_address(settings: Settings) -> None:
    """Raises UsageError (`vault-address`) where the address is that of Vault's API or UI."""
    address = settings.vault_address
    for end in _BELOW:
        if address.endswith(end):
            raise errors.UsageError(
                f"GREYLAG_VAULT_ADDRESS ends with {end}: the address is Vault's own",
                code="vault-address",
                hint=f"write {redact(address.removesuffix(end))}",
            )


def _not_vault(error: Exception, asked: Asked) -> errors.GreylagError | None:
    address = redact(asked.settings.vault_address)
    if isinstance(error, TypeError | KeyError | AttributeError | ValueError):
        # hvac passes the raw response on: HTML, or a redirect that isn't followed
        return errors.UsageError(
            f"{asked.doing}: {address} answered, but not as Vault does (a redirect, or a page of HTML)",
            code="vault-address",
            hint="give the address of Vault's API itself; the token is never sent on to where a redirect points",
        )
    if isinstance(error, exceptions.InvalidRequest) and "HTTP request to an HTTPS server" in str(error):
        return errors.UsageError(
            f"{asked.doing}: {address} speaks HTTPS only", code="vault-address", hint="write https:// into GREYLAG_VAULT_ADDRESS"
        )
    return None


def _login(error: Exception, asked: Asked) -> errors.GreylagError | None:
    """Explains a login that Vault refused. A refusal that may be due to an outage is transient, and worth a few tries."""
    refused = (
        exceptions.InvalidRequest
        | exceptions.Forbidden
        | exceptions.Unauthorized
        | exceptions.InvalidPath
        | exceptions.ParamValidationError
    )
    if asked.login is None or not isinstance(error, refused):
        return None
    said = _quoted(error)
    if isinstance(error, exceptions.Forbidden) and asked.login.ambiguous and said in ("", "permission denied"):
        return errors.Unavailable(
            f"{asked.doing}: Vault could not have the token reviewed: denied, or the cluster's API server does not answer",
            code="vault-review",
            hint=f"if it stays: Vault's reviewer needs system:auth-delegator in that cluster; {asked.login.remedy}",
        )
    return errors.LoginFailed(f"{asked.doing}: Vault refused: {said or 'no reason given'}", code="vault-login", hint=asked.login.remedy)


def _path(error: Exception, asked: Asked) -> errors.GreylagError | None:
    """Explains the kinds of 404 (vault.md §2): a version that is gone has metadata, a path that never existed has none."""
    if not isinstance(error, exceptions.InvalidPath):
        return None
    answer = error.json if isinstance(error.json, dict) else {}
    data = answer.get("data")
    if asked.secret and isinstance(data, dict) and (found := gone(data.get("metadata") or {}, asked.secret)):
        return found
    if "no handler for route" in _quoted(error):
        return errors.NotFound(
            f'Vault has no secrets engine at "{asked.mount}"',
            code="mount-missing",
            hint="correct vault.mount in fleet.yaml" if asked.secret else "correct `credentials` in fleet.yaml",
        )
    if any("versioned K/V" in str(item) for item in answer.get("warnings") or ()):
        return errors.NotFound(
            f'"{asked.mount}" is a KV version 2 mount: {asked.path} gives no logins',
            code="mount-kind",
            hint="name a role of the database engine in fleet.yaml: `credentials: {dynamic: database/creds/ROLE}`",
        )
    if not asked.secret:
        return errors.NotFound(
            f"{asked.doing}: there is nothing at {asked.path}", code="role-missing", hint="correct `credentials` in fleet.yaml"
        )
    return errors.NotFound(
        f"there is no secret {asked.secret}, or {asked.mount} is not a KV version 2 mount",
        code="secret-missing",
        hint=f"`vault kv put {asked.secret} {asked.example}`",
    )


def gone(metadata: dict[str, Any], secret: str) -> errors.NotFound | None:
    """Returns the error for a version that was deleted or destroyed, by its metadata; None for one that exists."""
    version = metadata.get("version")
    if metadata.get("destroyed"):
        return errors.NotFound(
            f"version {version} of {secret} was destroyed", code="secret-destroyed", hint=f"write it anew: `vault kv put {secret} …`"
        )
    if metadata.get("deletion_time"):
        return errors.NotFound(
            f"version {version} of {secret} was deleted at {metadata['deletion_time']}",
            code="secret-deleted",
            hint=f"`vault kv undelete -versions={version} {secret}` brings it back",
        )
    return None


def _denied(error: Exception, asked: Asked) -> errors.GreylagError | None:
    said = _quoted(error)
    if isinstance(error, exceptions.Forbidden | exceptions.Unauthorized):
        return errors.LoginFailed(
            f"{asked.doing}: Vault refused: {said or 'permission denied'}",
            code="vault-forbidden",
            hint=f'the role needs `path "{asked.path}" {{ capabilities = ["{asked.capability}"] }}`, and its token must be alive',
        )
    if isinstance(error, exceptions.InvalidRequest) and "unknown role" in said:
        return errors.NotFound(
            f"{asked.doing}: Vault has no such role", code="role-missing", hint="correct `credentials` in fleet.yaml, or create the role"
        )
    if isinstance(error, exceptions.InvalidRequest | exceptions.ParamValidationError):
        return errors.LoginFailed(
            f"{asked.doing}: Vault refused: {said or 'invalid request'}",
            code="vault-refused",
            hint=f"`vault read {asked.path}` says the same",
        )
    return None


def _server(error: Exception, asked: Asked) -> errors.GreylagError | None:
    """Explains answers of a Vault that is there and can't serve now: worth a limited number of tries."""
    named: tuple[tuple[type[Exception], str, str], ...] = (
        (exceptions.VaultNotInitialized, "vault-uninitialised", "Vault is not initialised"),
        (exceptions.VaultDown, "vault-sealed", "Vault is sealed or a standby without a leader"),
        (exceptions.RateLimitExceeded, "vault-rate-limited", "Vault's quota is used up for now"),
        (exceptions.BadGateway, "vault-gateway", "the proxy before Vault got no answer from it"),
        (exceptions.InternalServerError, "vault-error", "Vault failed inside"),
        # 504 of a proxy; also 412, which Vault Enterprise gives while a standby has not caught up. hvac doesn't tell them apart.
        (exceptions.UnexpectedError, "vault-unexpected", "Vault or a proxy gave an unusual answer"),
    )
    for kind, code, words in named:
        if isinstance(error, kind):
            said = _quoted(error)
            return errors.Unavailable(f"{asked.doing}: {words}{f': {said}' if said else ''}", code=code, hint=_look(asked.settings))
    return None


def _quoted(error: Exception) -> str:
    """Returns Vault's own error list, which names paths and reasons, never values. An answer's raw text may hold anything and is not quoted."""
    said = getattr(error, "errors", None)
    texts = [item for item in said if isinstance(item, str)] if isinstance(said, list) else []
    return redact(" ".join("; ".join(texts).split()))[:LONGEST_QUOTE]


def _look(settings: Settings) -> str:
    return f"`vault status -address={redact(settings.vault_address)}` tells how it is"
