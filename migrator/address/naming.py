"""Database names per environment: `{base_name}{env_suffix}`, so `analytics_db` is `analytics_db_dev` in dev and `analytics_db` in prod.

The database that a secret names is used as it is, and must equal this name: an environment can't migrate another's data (promises.md §7).
"""

from __future__ import annotations

from migrator import errors

LONGEST_NAME = 63
"""Bytes of a PostgreSQL identifier. The server cuts longer ones silently, so that two environments could share one database."""


def database_name(base: str, suffix: str) -> str:
    """Returns the name of one environment's database; `suffix` is empty (prod) or begins with an underscore (`_dev`).

    Raises UsageError when base is empty or already carries the suffix, when suffix lacks its underscore, or when the name is too long.
    """
    if not base:
        raise errors.UsageError(
            "the base name of the database is empty", code="bad-name", hint="give the service a database name in fleet.yaml"
        )
    if suffix and (not suffix.startswith("_") or suffix == "_"):
        raise errors.UsageError(
            f'"{suffix}" is not an environment suffix',
            code="bad-name",
            hint=f'write "_{suffix.strip("_") or "dev"}", or leave it empty for prod',
        )
    if suffix and base.endswith(suffix):
        raise errors.UsageError(
            f'the base name "{base}" already ends with the suffix "{suffix}"',
            code="bad-name",
            hint=f'write the base name without it: "{base.removesuffix(suffix)}"',
        )
    name = base + suffix
    if len(name.encode()) > LONGEST_NAME:
        raise errors.UsageError(
            f'the database name "{name}" is longer than {LONGEST_NAME} bytes, PostgreSQL would cut it',
            code="bad-name",
            hint="choose a shorter base name",
        )
    return name


def check(base: str, suffix: str, actual: str) -> str:
    """Returns the expected name, if `actual` (the name in the secret or on the server) is exactly that.

    Raises NotFound (`wrong-database`) otherwise.
    """
    expected = database_name(base, suffix)
    if actual != expected:
        raise errors.NotFound(
            f'the credentials name the database "{actual}", this environment\'s database is "{expected}"',
            code="wrong-database",
            hint=f"put \"{expected}\" into the secret, or correct the service's database or the environment's suffix in fleet.yaml",
        )
    return expected
