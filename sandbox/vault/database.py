"""Short-lived PostgreSQL logins from the database engine, set up so that what they create outlives them (vault.md §3).

Each login is a member of one owner role and becomes it as soon as it connects (`ALTER ROLE … SET role`): tables belong to the owner, and
the login can be dropped. Its end is not only DROP ROLE: a session that has already become the owner would keep running DDL.
"""

from __future__ import annotations

import contextlib
from typing import Any

from migrator import errors
from sandbox.databases.postgres import PostgresServer, identifier, literal
from sandbox.vault.administration import Administration

MOUNT = "database"
_ADMIN = "vault_admin"


def creation_statements(owner: str) -> list[str]:
    """Returns what makes a login that acts as the owner. `{{name}}`, `{{password}}` and `{{expiration}}` are the server's."""
    return [
        "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'",
        f'GRANT {identifier(owner)} TO "{{{{name}}}}"',
        f'ALTER ROLE "{{{{name}}}}" SET role TO {literal(owner)}',
    ]


def revocation_statements() -> list[str]:
    """Returns what ends a login with its sessions."""
    return [
        'ALTER ROLE "{{name}}" NOLOGIN',
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}'",
        'DROP ROLE IF EXISTS "{{name}}"',
    ]


def prepare_database(postgres: PostgresServer, database: str, owner: str, admin_password: str) -> None:
    """Makes a database whose schema `public` belongs to an owner role that can't log in, and an administrator that is no superuser.

    Args:
        database: made if it is missing.
        owner: made if it is missing.
        admin_password: of the administrator `vault_admin`, through which the server makes logins.
    """
    postgres.create_database(database)
    postgres.create_role(_ADMIN, admin_password, "CREATEROLE")
    options = "WITH ADMIN OPTION" if postgres.version < 16 else "WITH ADMIN OPTION, INHERIT FALSE, SET FALSE"
    postgres.execute(
        f"SELECT {literal(f'CREATE ROLE {identifier(owner)} NOLOGIN')}"
        f" WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {literal(owner)})\\gexec\n"
        f"GRANT {identifier(owner)} TO {_ADMIN} {options};\n"
        f"GRANT pg_signal_backend TO {_ADMIN};\n"
        f"GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {identifier(database)} TO {identifier(owner)};\n"
        f"GRANT CONNECT ON DATABASE {identifier(database)} TO {_ADMIN};\n"
        f"\\connect {identifier(database)}\n"
        f"ALTER SCHEMA public OWNER TO {identifier(owner)};\n"
    )


def create_role(
    server: Administration,
    postgres: PostgresServer,
    name: str,
    *,
    database: str,
    owner: str,
    admin_password: str,
    ttl: str = "1h",
    maximum_ttl: str = "24h",
    mount: str = MOUNT,
    **options: Any,
) -> str:
    """Makes a role at `<mount>/creds/<name>` whose every reading is a new login; the database must be prepared. Returns that path.

    Args:
        name: the role's.
        database, owner, admin_password: as for `prepare_database`.
        ttl, maximum_ttl: of a login's lease.
        options: more of the role's fields, e.g. `revocation_statements`.
    """
    with contextlib.suppress(errors.Unavailable):  # answers 400 where it is mounted already
        server.request("POST", f"sys/mounts/{mount}", {"type": "database"})
    connection = {
        "plugin_name": "postgresql-database-plugin",
        "allowed_roles": ["*"],
        "connection_url": f"postgresql://{{{{username}}}}:{{{{password}}}}@{postgres.host}:{postgres.port}/{database}?sslmode=disable",
        "username": _ADMIN,
        "password": admin_password,
        "password_authentication": "scram-sha-256",  # the server then never shows PostgreSQL a plain password
    }
    server.request("POST", f"{mount}/config/{database}", connection)
    role = {
        "db_name": database,
        "creation_statements": creation_statements(owner),
        "revocation_statements": revocation_statements(),
        "default_ttl": ttl,
        "max_ttl": maximum_ttl,
    }
    server.request("POST", f"{mount}/roles/{name}", role | options)
    return f"{mount}/creds/{name}"


def login_policy(name: str, mount: str = MOUNT) -> dict[str, list[str]]:
    """Returns what a workload needs to take logins of a role and keep them alive; their end comes with the token's own."""
    return {f"{mount}/creds/{name}": ["read"], "sys/leases/renew": ["update"]}
