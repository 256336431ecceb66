"""Step 2: makes the connection URL from the credentials, with every part percent-encoded, and checks that it is the right database's."""

from __future__ import annotations

import re

from pydantic import SecretStr

from migrator import errors
from migrator.address import addresses, naming
from tasks import redaction
from tasks.credentials.source import Credentials
from tasks.fleet.models import Engine, Target

_ENCODED = re.compile(r"%(?:2[0-9A-F]|3[A-F]|40|5[BD])", re.IGNORECASE)
"""Matches what encoding makes of a character that a URL reserves; in a password as it is, `%` is seldom followed by just these."""


def encode(credentials: Credentials, target: Target) -> SecretStr:
    """Returns the URL that goose and greylag take as DBSTRING. The secret's database is used as it is, and must be this environment's.

    Raises:
        NotFound: `wrong-database`: the secret names another database than `{base}{suffix}`.
        UsageError: `empty-host`, `empty-username`, `bad-port`.
    """
    source = target.source
    for name, code, value in (("host", "empty-host", credentials.host), ("username", "empty-username", credentials.username)):
        if not value:
            raise errors.UsageError(
                f"the {name} in {source.holder(target)} is empty",
                code=code,
                hint=source.remedy(target, source.key_names(target)[name][0]),
            )
    if not 1 <= credentials.port <= 65535:
        raise errors.UsageError(
            f"the port in {source.holder(target)} is not a number from 1 to 65535",
            code="bad-port",
            hint=source.remedy(target, source.key_names(target)["port"][0]),
        )
    naming.check(target.base, target.suffix, credentials.database)
    url = addresses.build(
        str(target.engine),
        host=credentials.host,
        port=credentials.port,
        username=credentials.username,
        password=credentials.password.get_secret_value(),
        database=credentials.database,
        parameters={"http_port": str(credentials.http_port), **target.parameters} if credentials.http_port else target.parameters,
    )
    redaction.register(credentials.password.get_secret_value(), url)
    return SecretStr(url)


def login_hint(target: Target, url: SecretStr, origin: str = "") -> str:
    """Returns what to look at when the server refuses the login of this URL: the place that it comes from, and what is odd about the password, without it.

    The password is encoded here, so a hint to encode it would break it for good.

    Args:
        origin: the place with the secret's version, where that is known.
    """
    text = url.get_secret_value()
    parsed = addresses.parse_clickhouse(text) if target.engine is Engine.CLICKHOUSE else addresses.parse_postgres(text)
    password, source = parsed.password or "", target.source
    found = [f"user and password come from {origin or source.holder(target)}"]
    if password != password.strip():
        key = source.key_names(target)["password"][0]
        found.append(f"the password begins or ends with white space or a line break: {source.remedy(target, key)} without it")
    elif _ENCODED.search(password):
        found.append("the password looks percent-encoded: it is stored as it is, and encoded here")
    return "; ".join(found)
