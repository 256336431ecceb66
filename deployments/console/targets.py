"""Targets: `@environment/service` -> databases. Both parts may hold `*`.

`@dev/auth-service` is one database, `@prod/*` (or `@prod`) all of an environment, `@*/auth-service` one service everywhere. `@/auth-service` is the
one that a developer works on: in the environment `local`, or else in the fleet's first one; leaving a word out never reaches further.
The order is that of the promotion, dependencies first. `greylag targets` lists what an expression means without asking Vault.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.console import edge
from migrator import errors
from migrator.cli import calls
from migrator.cli.calls import Call
from migrator.cli.invocation import Located, Observation, Opening
from migrator.cli.verbs import VerbEntry
from tasks import fleet

if TYPE_CHECKING:
    from tasks.credentials import Credentials
    from tasks.credentials.vault import Clients
    from tasks.settings import Settings

ALL = ("@*/*",)

HEAD = ("Target", "Engine", "Database", "Secret", "Directory")


@contextlib.contextmanager
def abreast(expression: str) -> Iterator[list[Opening]]:
    """Yields the databases of a target, each to be opened by itself, from any thread: what can't be read of one keeps none of the others from
    running. Their secrets are read with one login to Vault per thread. Raises UsageError as `select`.
    """
    from tasks import credentials, settings

    chosen, found = select(fleet.load(), expression), settings.load()
    with credentials.shared_logins(found) as reader:
        yield [Opening(f"@{target.label}", functools.partial(_open, target, found, reader)) for target in chosen]


def resolve(expression: str) -> Iterator[Located]:
    """Yields the databases of a target, with their credentials; each is fetched when its turn comes, so that one that can't be read does not
    keep the others from running, and a password is not older than it must be. A short-lived login ends when the next one's turn comes.

    Raises UsageError (`bad-target`, `unknown-environment`, `unknown-service`), and as `credentials.fetch` and `database_url.encode` do.
    """
    return _opened(select(fleet.load(), expression))


def places(expression: str) -> Iterator[Located]:
    """Yields the services' directories of a target, for verbs that need no database: nothing is asked of Vault. Raises UsageError as `resolve`."""
    return (
        Located(f"@{target.label}", str(target.engine), "", near(target.directory), target.service, rules=target.rules)
        for target in select(fleet.load(), expression)
    )


def near(directory: str) -> str:
    """Returns a directory as people write it: relative to where they are, if it lies below."""
    try:
        return str(Path(directory).relative_to(Path.cwd()))
    except ValueError:
        return directory


def select(found: fleet.Fleet, expression: str) -> list[fleet.Target]:
    """Returns the targets that an expression stands for; pure.

    Raises UsageError: `bad-target`, `unknown-environment`, `unknown-service`.
    """
    if not expression.startswith("@") or expression.count("/") > 1:
        raise errors.UsageError(
            f'"{expression}" is not a target', code="bad-target", hint="write @environment/service, @environment/* or @*/service"
        )
    place, _, name = expression[1:].partition("/")
    place = place or ("local" if "local" in found.environments else next(iter(found.environments)))
    environments = _matching(place, [*found.environments], {**{item: item for item in found.environments}, **found.aliases})
    services = _matching(name or "*", [*found.services], {item: item for item in found.services})
    if environments is None:
        found.environment(place)  # raises with the nearest name
    if services is None:
        found.service(name)
    order = [name for wave in found.order() for name in wave]
    chosen = [found.target(name, place) for place in environments or () for name in order if name in (services or ())]
    if not chosen:
        raise errors.UsageError(f"{expression} stands for no database", code="bad-target", hint="`greylag targets` lists all")
    return chosen


def _matching(pattern: str, names: Iterable[str], known: dict[str, str]) -> list[str] | None:
    """Returns the names that a part of a target means; None when it names exactly one, and that one is unknown."""
    if any(letter in pattern for letter in "*?["):
        wanted = {own for spelled, own in known.items() if fnmatch.fnmatchcase(spelled, pattern)}
        return [name for name in names if name in wanted]
    return [known[pattern]] if pattern in known else None


def _opened(targets: list[fleet.Target]) -> Iterator[Located]:
    from tasks import settings

    for target in targets:
        with _open(target, settings.load()) as located:
            yield located


@contextlib.contextmanager
def _open(target: fleet.Target, found: Settings, reader: Clients | None = None) -> Iterator[Located]:
    from tasks import credentials

    with credentials.LifetimeWatcher(target, found, reader=reader) as watcher:
        yield _located(target, credentials.fetch(target, watcher=watcher), found)


def _located(target: fleet.Target, found: Credentials, known: Settings) -> Located:
    from tasks import database_url, migration

    url = database_url.encode(found, target)
    return Located(
        label=f"@{target.label}",
        driver=str(target.engine),
        dbstring=url.get_secret_value(),
        directory=target.directory,
        service=target.service,
        protected=target.protected,
        owner_role=target.owner_role,
        env=migration.substitutions(target, found),
        observe=functools.partial(_observed, target, known),
        rules=target.rules,
        login_hint=database_url.login_hint(target, url, found.origin),
        accepted=tuple((item.file, item.hazard, item.reason) for item in target.accepted_hazards),
    )


def _observed(target: fleet.Target, known: Settings) -> Observation:
    from deployments.doctor import observation

    return observation.observe(target, known)


def run(call: Call) -> int:
    """Lists the databases. Raises UsageError as `select`."""
    found = fleet.load()
    chosen = {target.label: target for expression in call.arguments or ALL for target in select(found, expression)}
    rows = [(f"@{label}", str(target.engine), target.database, target.secret, target.directory) for label, target in chosen.items()]
    calls.note(targets=edge.records(HEAD, rows))
    if not call.json:
        edge.show(edge.table(HEAD, rows))
    return 0


VERB = VerbEntry(
    "targets", run, "lists the databases that a target stands for; both parts may hold * (default: all)", arguments="[TARGET …]"
)
