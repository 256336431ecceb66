"""The help: goose's usage in goose's order, then what greylag adds."""

from __future__ import annotations

from collections.abc import Sequence

from migrator.cli import flags, verbs
from migrator.cli.go_flags import Flag

HEAD = """Usage: greylag DRIVER DBSTRING [OPTIONS] COMMAND

or

Set environment key
GOOSE_DRIVER=DRIVER
GOOSE_DBSTRING=DBSTRING
GOOSE_MIGRATION_DIR=MIGRATION_DIR

Usage: greylag [OPTIONS] COMMAND

or, in a checkout with a fleet.yaml

Usage: greylag COMMAND @ENVIRONMENT/SERVICE [OPTIONS]

Drivers:
    postgres
    pgx
    clickhouse

Examples:
    greylag -dir migrations postgres "postgres://user:password@localhost:5432/app?sslmode=disable" up
    greylag -dir migrations postgres "user=postgres dbname=app sslmode=disable" status
    greylag -dir migrations clickhouse "clickhouse://user:password@localhost:9000/events" up
    greylag -dir migrations create add_users sql

    GOOSE_DRIVER=postgres GOOSE_DBSTRING="$DATABASE_URL" greylag -dir migrations plan
    GOOSE_DRIVER=postgres GOOSE_DBSTRING="$DATABASE_URL" greylag -dir migrations wait -timeout 2m

Options:
"""

ENVIRONMENT = """
Environment:
    GOOSE_DRIVER, GOOSE_DBSTRING, GOOSE_MIGRATION_DIR, GOOSE_TABLE and .env files as in goose.
    GREYLAG_DRIVER, GREYLAG_DBSTRING, GREYLAG_MIGRATION_DIR, GREYLAG_TABLE come before them.
    Credentials in parts stand in for a DBSTRING and need no percent-encoding (greylag -dir DIR postgres up):
    GREYLAG_CREDENTIALS_DIRECTORY with files host, port, username, password, database
    (with GREYLAG_CREDENTIALS_SOURCE it must say the same in its file greylag-source, within GREYLAG_CREDENTIALS_WAIT, 2m);
    or GREYLAG_HOST, …_PORT, …_USERNAME, …_PASSWORD, …_DATABASE; or the same after POSTGRES_ or CLICKHOUSE_.
    GREYLAG_PARAMETERS is added to the address: sslmode=verify-full. GREYLAG_TERMINATION_LOG: a file for the outcome, for a pod's status.
    CLICKHOUSE_HTTP_PORT: the HTTP port where a ClickHouse DBSTRING names the native one.

Exit codes:
    0 done, nothing to do included     1 as goose (up-by-one with nothing left, down at 0)     2 usage     3 pending (status -exit-code)
    permanent: 10 file   11 plan refused   12 login or permission   13 wrong or missing database   14 SQL rejected
               15 a statement needs an answer   16 verification failed
    transient: 20 lock   21 server unavailable   22 time-out   23 interrupted   24 not yet

Each command is described in docs/commands/.
"""


def text(console: Sequence[str] = ()) -> str:
    """Returns the whole help; `console` names the verbs that other packages bring, which tell more themselves."""
    parts = [HEAD, *map(_flag, flags.GOOSE), "\nCommands:\n", *map(_verb, verbs.GOOSE)]
    parts += ["\nOptions of greylag's own:\n", *map(_flag, flags.OWN), "\nCommands of greylag's own:\n", *map(_verb, verbs.OWN)]
    if console:
        parts.append(f"\nCommands of the checkout (greylag COMMAND -h):\n    {', '.join(console)}\n")
    return "".join([*parts, ENVIRONMENT])


_GOOSE_FLAGS_OF = {
    "allow-missing": (*flags.UPWARDS, "plan", "validate"),
    "no-versioning": (*flags.PLANNING, "status"),
    "s": ("create", "init"),
}
"""goose's flags stand with every command and mean something to these."""

_LOCK_FLAGS = ("lock-budget", "lock-timeout", "lock-wait", "statement-timeout")


def verb_text(verb: verbs.VerbEntry) -> str:
    """Returns the help of one command: how it is called, what it does, the options that mean something to it alone."""
    return _engine_text(verb) if verb.name in verbs.ALL else _other_text(verb)


def _other_text(verb: verbs.VerbEntry) -> str:
    """Returns the help of a verb of another package, which has all its options itself."""
    call = f"{verb.name} {verb.arguments}".strip()
    lines = [f"Usage: greylag {call} [OPTIONS]\n\n{verb.summary[:1].upper()}{verb.summary[1:]}.\n\nOptions:\n"]
    lines += [*map(_flag, (*verb.flags, flags.DOCUMENT)), f"\nExit codes: greylag -h. More about this one: docs/commands/{verb.name}.md\n"]
    return "".join(lines)


def _engine_text(verb: verbs.VerbEntry) -> str:
    name = verb.name
    call = f"{name} {verb.arguments}".strip()
    lines = [f"Usage: greylag [OPTIONS] {'' if verb.standalone else 'DRIVER DBSTRING '}{call}\n"]
    if name not in ("init", "env"):
        lines.append(f"       greylag {name} @ENVIRONMENT/SERVICE {verb.arguments}".rstrip() + " [OPTIONS]\n")
    lines.append(f"\n{verb.summary}.\n")
    own = [flag for flag in flags.ALL if _means_something(flag, name)]
    if own:
        lines += ["\nOptions of this command:\n", *map(_flag, own)]
    lines.append(
        f"\nOptions of every command, drivers, variables and exit codes: greylag -h. More about this one: docs/commands/{name}.md\n"
    )
    return "".join(lines)


def _means_something(flag: Flag, verb: str) -> bool:
    if flag.name in _LOCK_FLAGS:
        return verb in flags.CHANGING
    return verb in (_GOOSE_FLAGS_OF.get(flag.name) or flag.verbs)


def _flag(flag: Flag) -> str:
    kind = {"bool": "", "string": " string", "strings": " string", "duration": " duration", "integer": " int", "number": " float"}[
        flag.kind
    ]
    notes = ""
    if flag.kind == "duration" and isinstance(flag.default, float) and flag.default:
        notes = f" (default {flag.default:g}s)"
    elif flag.kind == "string" and flag.default:
        notes = f' (default "{flag.default}")'
    if flag.choices:
        notes += f" ({', '.join(filter(None, flag.choices))})"
    if flag.verbs:
        notes += f" [{', '.join(flag.verbs)}]"
    if flag.variable:
        notes += f" [{flag.variable}]"
    return f"  -{flag.name}{kind}\n    \t{flag.usage}{notes}\n"


def _verb(verb: verbs.VerbEntry) -> str:
    call = f"{verb.name} {verb.arguments}".strip()
    return f"    {call:<20} {verb.summary}\n"
