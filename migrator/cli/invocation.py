"""A command line and the environment -> what is to be done, to which databases (goose.md §5.1; pure, apart from looking up targets)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from migrator import errors
from migrator.address import redaction
from migrator.cli import flags, verbs
from migrator.cli.go_flags import FlagError, Values
from migrator.house_rules import NONE, Settings

if TYPE_CHECKING:
    from migrator.cli.credentials import Parts

DEFAULT_DIRECTORY = "."
DEFAULT_TABLE = "goose_db_version"


class Observation(NamedTuple):
    """What surrounds a database and is not in it: how its last migration Job ended, how its workload is. `problem` is raised once everything
    else has been said."""

    lines: tuple[str, ...]
    document: Mapping[str, object]
    problem: errors.GreylagError | None = None


class Located(NamedTuple):
    """One database that `@environment/service` stands for, as the console of a checkout finds it. `env` is what ENVSUB reads: the service's
    own names, so that a file means the same here and in a flow. `login_hint` is said where the server refuses the login. `observe` looks at what
    surrounds it. `rules` are fleet.yaml's, so are the hazards that are `accepted`: file, code, reason."""

    label: str
    driver: str
    dbstring: str
    directory: str
    service: str
    protected: bool = False
    owner_role: str = ""
    env: Mapping[str, str] | None = None
    observe: Callable[[], Observation] | None = None
    rules: Settings = NONE
    accepted: tuple[tuple[str, str, str], ...] = ()
    login_hint: str = ""


class Opening(NamedTuple):
    """One of several databases, which is found when it is opened: `open` is a context manager, and raises where credentials can't be read."""

    label: str
    open: Callable[[], AbstractContextManager[Located]]


@dataclass(frozen=True, slots=True)
class Invocation:
    """One verb on one database (or none). `label` is the target as `@environment/service`, empty for `driver URL`."""

    verb: verbs.VerbEntry
    arguments: tuple[str, ...]
    values: Values = field(repr=False)
    directory: str = DEFAULT_DIRECTORY
    table: str = DEFAULT_TABLE
    driver: str = ""
    dbstring: str = field(default="", repr=False)
    label: str = ""
    service: str = "greylag"
    protected: bool = False
    owner_role: str = ""
    env: Mapping[str, str] | None = field(default=None, repr=False)
    observe: Callable[[], Observation] | None = field(default=None, repr=False)
    rules: Settings = NONE
    accepted: tuple[tuple[str, str, str], ...] = ()
    login_hint: str = ""

    @property
    def call(self) -> str:
        """Tells how this database is named on a command line: what stands between `greylag` and a command. An address is not repeated."""
        if self.label:
            return self.label
        import shlex

        given = list(self.values.words)
        before = given[: given.index(self.verb.name)] if self.verb.name in given else []
        words = [word if word in verbs.DRIVERS else "DBSTRING" for word in before]
        table = ["-table", shlex.quote(self.table)] if "table" in self.values.given else []
        return " ".join(["-dir", shlex.quote(self.directory), *table, *words])

    @property
    def secrets(self) -> tuple[str, ...]:
        """Returns what must not be printed."""
        from migrator.address import addresses

        try:
            if self.driver == "clickhouse":
                return (addresses.parse_clickhouse(self.dbstring).password,)
            return (addresses.parse_postgres(self.dbstring).password or "",)
        except errors.GreylagError:
            return (self.dbstring,)


def configured(environ: Mapping[str, str], name: str) -> str:
    """Returns a setting of the environment: greylag's own variable before goose's."""
    return environ.get(f"GREYLAG_{name}") or environ.get(f"GOOSE_{name}") or ""


def apply_environment(values: Values, environ: Mapping[str, str]) -> None:
    """Fills flags that were not given from their variables. Raises UsageError for a value that the flag doesn't take."""
    for flag in flags.ALL:
        text = environ.get(flag.variable, "") if flag.variable else ""
        if text and flag.name not in values.given:
            try:
                values.values[flag.name] = flag.convert(text)
            except FlagError:
                raise errors.UsageError(
                    f'{flag.variable} holds "{text}", which -{flag.name} does not take', code="bad-variable", hint="correct or unset it"
                ) from None


def target_word(words: list[str]) -> int | None:
    """Finds where a `@environment/service` stands: first, or after the command; None when there is none."""
    at = next((index for index in (0, 1) if len(words) > index and words[index].startswith("@")), None)
    return at if at == 0 or (at and words[0] in verbs.ALL) else None


def names_several(words: list[str]) -> bool:
    """Tells whether the target is a pattern or a whole environment: then output is a list, whatever it turns out to stand for."""
    at = target_word(words)
    return at is not None and ("/" not in words[at] or any(letter in words[at] for letter in "*?["))


def named_verb(words: list[str]) -> str:
    """Returns the verb that stands beside a target; an empty text where there is none."""
    at = target_word(words)
    rest = [] if at is None else words[:at] + words[at + 1 :]
    return rest[0] if rest else ""


def resolve(values: Values, environ: Mapping[str, str]) -> Iterable[Invocation]:
    """Returns what to do, in order. A target's databases are looked up one by one, each when its turn comes: the next one's password is fetched after
    the run before it.

    Raises UsageError: too few words, an unknown driver or verb, a flag that the verb does not have.
    """
    words = list(values.words)
    apply_environment(values, environ)
    at = target_word(words)
    if words and words[0] in verbs.ALL and verbs.ALL[words[0]].standalone and at is None:
        known = {name.lower(): configured(environ, name) for name in ("DRIVER", "DBSTRING")} if words[0] == "env" else {}
        return [_invocation(verbs.ALL[words[0]], words[1:], values, environ, **known)]
    if at is not None:
        return _targets(words[at], words[:at] + words[at + 1 :], values, environ)
    if len(words) > 2 and words[0] in verbs.ALL and words[1] in verbs.DRIVERS:  # verb first, as with @targets
        words, parts = [words[1], words[2], words[0], *words[3:]], None
    else:
        words, parts = _merge(words, environ)
    if len(words) < 3:
        if len(words) == 2 and words[0] in verbs.DRIVERS and (other := _called_otherwise(words[1], values)):
            raise errors.UsageError(f'"{words[1]}": no such command', code="unknown-command", hint=other)
        raise _too_few(words, values.words)
    driver, dbstring, name = words[:3]
    _require_driver(driver, dbstring)
    verb = verbs.ALL.get(name)
    if verb is None or (verb.standalone and name not in ("create", "fix")):
        hint = _called_otherwise(name, values) or _commands(name)
        if configured(environ, "DRIVER") and (name in verbs.DRIVERS or dbstring in verbs.DRIVERS):
            hint = "GOOSE_DRIVER is set, so leave the driver out of the command line"
        elif configured(environ, "DBSTRING") and ("://" in name or "=" in name):
            hint = "GOOSE_DBSTRING is set, so leave the address out of the command line"
        raise errors.UsageError(f'"{redaction.redact(name)}": no such command', code="unknown-command", hint=hint)
    env = {**parts.substitutions(driver), **environ} if parts else None
    return [_invocation(verb, words[3:], values, environ, driver=driver, dbstring=dbstring, env=env)]


def _too_few(words: list[str], typed: list[str]) -> errors.UsageError:
    """Returns the error for a line without driver, address or command. `words`: those typed and those of the environment."""
    hint = (
        "greylag -dir DIR DRIVER DBSTRING COMMAND, or GOOSE_DRIVER and GOOSE_DBSTRING in the environment, or the credentials in parts "
        "(POSTGRES_HOST and its siblings); greylag -h shows all"
    )
    if not words:
        return errors.UsageError("no command", hint=hint)
    is_driver = words[0] in verbs.DRIVERS
    if words[0] in verbs.ALL:
        missing = "driver and address are missing"
    elif words[-1] in verbs.ALL:
        missing = "the address is missing" if is_driver else "the driver is missing"
    elif len(words) == 2 and is_driver:
        missing, hint = "the address or the command is missing", f"greylag {words[0]} DBSTRING status; greylag -h lists the commands"
    elif is_driver:
        missing = "address and command are missing"
    else:
        missing, hint = "the first is neither a driver nor a command", _commands(words[0])
    return errors.UsageError(f'too few words: {missing} in "{" ".join(map(redaction.redact, typed))}"', hint=hint)


def _called_otherwise(name: str, values: Values) -> str:
    """Tells how a command is called that stands where goose's stand, after driver and address, and takes none; empty for another word."""
    import shlex

    from migrator.cli import extensions

    directory = f"-dir {shlex.quote(values.string('dir'))} " if "dir" in values.given else ""
    others = () if name in verbs.ALL else extensions.names()
    if name == "test" and name in others:
        return f"test takes no address, its server is its own: greylag {directory or '-dir DIR '}test postgres (or clickhouse), or test @/SERVICE"
    if name in verbs.ALL and verbs.ALL[name].standalone:
        return f"{name} takes no driver and no address: greylag {directory if name != 'env' else ''}{name}"
    if name in others:
        return f"{name} takes no driver and no address: `greylag help {name}` shows how it is called"
    return ""


def _commands(word: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, list(verbs.ALL), n=1)
    return f"did you mean {near[0]}? greylag -h lists the commands" if near else "greylag -h lists the commands"


def _invocation(verb: verbs.VerbEntry, arguments: list[str], values: Values, environ: Mapping[str, str], **more: Any) -> Invocation:
    for flag in flags.OWN:
        if flag.name in values.given and flag.verbs and verb.name not in flag.verbs:
            raise errors.UsageError(
                f"-{flag.name} means nothing to {verb.name}", code="wrong-flag", hint=f"it belongs to {', '.join(flag.verbs)}"
            )
    directory = values.string("dir")
    if directory == DEFAULT_DIRECTORY:
        directory = configured(environ, "MIGRATION_DIR") or DEFAULT_DIRECTORY
    settings = {
        "directory": directory,
        "table": values.string("table") or configured(environ, "TABLE") or DEFAULT_TABLE,
        "service": values.string("service"),
    }
    return Invocation(verb=verb, arguments=tuple(arguments), values=values, **{**settings, **more})


def _merge(words: list[str], environ: Mapping[str, str]) -> tuple[list[str], Parts | None]:
    """goose's merge: a driver from the environment goes first, an address second (goose.md §5.1).

    Where goose would find too few words, because a command follows the driver, the address is made of credentials in parts; they come with it.
    """
    if not words:
        return words, None
    driver = configured(environ, "DRIVER")
    if driver:
        words = [driver, *words]
    dbstring = configured(environ, "DBSTRING")
    if dbstring:
        return [words[0], dbstring, *words[1:]], None
    if len(words) < 2 or words[1] not in verbs.ALL or words[0] not in verbs.DRIVERS:
        return words, None
    from migrator.cli import credentials

    parts = credentials.find(words[0], environ)
    if parts is None:
        return words, None
    return [words[0], parts.dbstring(words[0], environ.get(credentials.PARAMETERS, "")), *words[1:]], parts


def _require_driver(driver: str, dbstring: str) -> None:
    if driver in verbs.DRIVERS:
        return
    from migrator.goose import goquote

    reason = verbs.REFUSED_DRIVERS.get(driver, "greylag drives postgres (or pgx) and clickhouse" + _nearest_driver(driver))
    raise errors.UsageError(
        f'-dbstring={goquote.quote(_masked(dbstring))}: "{driver}": unknown dialect',
        code="unknown-driver",
        hint=reason if driver not in verbs.ALL else f"the driver comes before the command: greylag postgres DBSTRING {driver}",
    )


def _nearest_driver(driver: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(driver.lower(), verbs.DRIVERS, n=1)
    return f": did you mean {near[0]}?" if near else ""


def _masked(dbstring: str) -> str:
    """Returns an address of any driver without its password: MySQL's are no URLs, `user:password@tcp(host)/database`."""
    head, at, tail = redaction.redact(dbstring).rpartition("@")
    user, colon, _ = head.partition(":")
    return f"{user}:{redaction.MASK}@{tail}" if at and colon and "://" not in dbstring else head + at + tail


def _targets(expression: str, words: list[str], values: Values, environ: Mapping[str, str]) -> Iterator[Invocation]:
    if not words:
        raise errors.UsageError(f"no command for {expression}", hint=f"greylag status {expression}")
    verb = verbs.ALL.get(words[0])
    if verb is None:
        from migrator.cli import extensions

        first = (
            f"write the command first: greylag {words[0]} {expression}"
            if words[0] in extensions.names()
            else "greylag -h lists the commands"
        )
        raise errors.UsageError(f'"{words[0]}": no such command', code="unknown-command", hint=first)
    if verb.standalone and verb.name != "env":
        yield from _places(verb, expression, words[1:], values, environ)
        return
    none = True
    for item in located(expression):
        none = False
        yield _at(item, verb, words[1:], values, environ)
    if none:
        raise errors.UsageError(f"{expression} names no service", code="no-target", hint="fleet.yaml lists environments and services")


def _at(item: Located, verb: verbs.VerbEntry, arguments: list[str], values: Values, environ: Mapping[str, str]) -> Invocation:
    more = item._asdict()
    more |= {name: values.string(flag) for name, flag in (("directory", "dir"), ("service", "service")) if flag in values.given}
    return _invocation(verb, arguments, values, environ, **more)


@contextmanager
def abreast(values: Values, environ: Mapping[str, str]) -> Iterator[list[tuple[str, Callable[[], AbstractContextManager[Invocation]]]]]:
    """Yields the databases of a target by their labels, each to be opened by itself and from any thread; for a verb that only reads.

    Raises UsageError as the fleet does. Opening one raises as Vault and the URL do.
    """
    words = list(values.words)
    apply_environment(values, environ)
    at = target_word(words) or 0
    expression, (name, *arguments) = words[at], words[:at] + words[at + 1 :]

    @contextmanager
    def opened(item: Opening) -> Iterator[Invocation]:
        with item.open() as place:
            yield _at(Located(*place), verbs.ALL[name], arguments, values, environ)

    with _console_targets().abreast(expression) as openings:
        found = [Opening(*item) for item in openings]
        yield [(item.label, partial(opened, item)) for item in found]


def _places(verb: verbs.VerbEntry, expression: str, words: list[str], values: Values, environ: Mapping[str, str]) -> Iterator[Invocation]:
    """Yields the directories of a target's services, for verbs that need files and no database; nothing is asked for a password."""
    if verb.name not in ("create", "fix", "validate"):
        raise errors.UsageError(f"{verb.name} has no use for {expression}", hint=f"greylag {verb.name}")
    found: dict[str, Located] = {item.directory: item for item in (Located(*item) for item in _console_targets().places(expression))}
    if len(found) > 1 and (verb.name == "create" or "dir" in values.given):
        raise errors.UsageError(
            f"{expression} stands for {len(found)} directories", code="bad-target", hint=f"name one service: greylag {verb.name} @/SERVICE"
        )
    for item in found.values():
        directory = values.string("dir") if "dir" in values.given else item.directory
        yield _invocation(
            verb, words, values, environ, directory=directory, label=item.label, service=item.service, driver=item.driver, rules=item.rules
        )


def located(expression: str) -> Iterator[Located]:
    """Yields the databases of a target, each with its password when its turn comes. Raises UsageError, and as the fleet, Vault and the URL do."""
    return (Located(*item) for item in _resolver()(expression))


def _resolver() -> Any:
    return _console_targets().resolve


def _console_targets() -> Any:
    from migrator.cli import extensions

    return extensions.fleet("targets")
