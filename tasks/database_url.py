"""Step 2: makes the connection URL from the credentials, with every part percent-encoded, and checks that it is the right database's."""

from __future__ import annotations

from pydantic import SecretStr

from migrator import errors
from migrator.address import addresses, naming
from tasks import redaction
from tasks.credentials.source import Credentials
from tasks.fleet.models import Target


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
