"""Go's `flag` syntax with flags anywhere, as goose reads its command line (goose.md §5.1).

`-x`, `--x`, `-x=v` and `-x v` are the same; a boolean takes a value only as `-x=false`. Kept free of other imports: `greylag --help` needs
nothing else.
"""

from __future__ import annotations

TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})

ALL: tuple[str, ...] = ()
"""As a flag's `verbs`: every verb takes it."""


class FlagError(Exception):
    """The command line can't be read; the text is Go's."""


class UnknownFlag(FlagError):
    """A flag that there isn't; `name` is as it was written, without dashes."""

    def __init__(self, name: str) -> None:
        super().__init__(f"flag provided but not defined: -{name}")
        self.name = name


class HelpRequested(Exception):
    """`-help` or `--help`, which Go answers with the usage though no such flag is defined."""


class Flag:
    """One flag: `kind` is bool, string, duration (seconds as float), integer, number (a float) or strings (may be given several times).

    `choices` are the values that it takes (none: any);
    `variable` names the environment variable that stands in for the flag; `verbs` the verbs that know it (empty: all); `goose` whether goose has it.
    """

    __slots__ = ("choices", "default", "goose", "kind", "name", "usage", "variable", "verbs")

    def __init__(
        self,
        name: str,
        kind: str,
        default: object,
        usage: str,
        *,
        variable: str = "",
        verbs: tuple[str, ...] = ALL,
        goose: bool = False,
        choices: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.usage = usage
        self.variable = variable
        self.verbs = verbs
        self.goose = goose
        self.choices = choices

    def convert(self, text: str) -> object:
        """Converts to the value that `text` stands for. Raises FlagError with Go's words."""
        if self.kind == "bool":
            if text in TRUE:
                return True
            if text in FALSE:
                return False
            raise FlagError(f'invalid boolean value "{text}" for -{self.name}: parse error')
        if self.kind == "duration":
            from migrator import errors
            from migrator.goose import durations

            try:
                return durations.parse(text)
            except errors.UsageError:
                raise FlagError(f'invalid value "{text}" for flag -{self.name}: parse error') from None
        if self.kind == "integer":
            digits = text[1:] if text[:1] in ("-", "+") else text
            if not (digits.isascii() and digits.isdigit()) or abs(int(digits)) >= 1 << 63:
                raise FlagError(f'invalid value "{text}" for flag -{self.name}: parse error')
            return int(text)
        if self.kind == "number":
            try:
                return float(text)
            except ValueError:
                raise FlagError(f'invalid value "{text}" for flag -{self.name}: parse error') from None
        if self.choices and text not in self.choices:
            raise FlagError(f'invalid value "{text}" for flag -{self.name}: one of {", ".join(filter(None, self.choices))}')
        return text


class Values:
    """What was given: the value of each flag, which of them were on the command line, and the words that are no flags."""

    __slots__ = ("given", "values", "words")

    def __init__(self, flags: tuple[Flag, ...]) -> None:
        self.values: dict[str, object] = {flag.name: flag.default for flag in flags}
        self.given: set[str] = set()
        self.words: list[str] = []

    def given_value(self, name: str) -> object:
        """Returns the value of a flag that was on the command line and is not empty, else None."""
        value = self.values[name] if name in self.given else None
        return None if value == "" else value

    def string(self, name: str) -> str:
        """Returns the value of a string flag."""
        return str(self.values[name])

    def strings(self, name: str) -> tuple[str, ...]:
        """Returns all values of a flag that may be repeated."""
        value = self.values[name]
        return tuple(value) if isinstance(value, (list, tuple)) else ()

    def boolean(self, name: str) -> bool:
        """Returns the value of a boolean flag."""
        return self.values[name] is True

    def seconds(self, name: str) -> float:
        """Returns the value of a duration flag."""
        value = self.values[name]
        return float(value) if isinstance(value, (int, float)) else 0.0

    def integer(self, name: str) -> int:
        """Returns the value of an integer flag."""
        value = self.values[name]
        return value if isinstance(value, int) else 0


def nearest(word: str, known: list[str]) -> str:
    """Guesses what a mistyped word most likely means, or nothing."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, known, n=1)), "")


def parse(arguments: list[str], flags: tuple[Flag, ...]) -> Values:
    """Reads a command line. Raises FlagError with Go's message, HelpRequested for `-help`."""
    found = Values(flags)
    known = {flag.name: flag for flag in flags}
    rest = _parse_run(arguments, known, found)
    index = 0
    while index < len(rest):
        word = rest[index]
        if word == "--":
            found.words += rest[index:]
            break
        if len(word) > 1 and word.startswith("-"):
            rest = _parse_run(rest[index:], known, found)
            index = 0
            continue
        found.words.append(word)
        index += 1
    return found


def leading(arguments: list[str], flags: tuple[Flag, ...], found: Values) -> list[str]:
    """Reads the flags before the first word into `found` and returns the rest. Raises as `parse`."""
    return _parse_run(arguments, {flag.name: flag for flag in flags}, found)


def _parse_run(arguments: list[str], known: dict[str, Flag], found: Values) -> list[str]:
    """Makes one pass of Go's FlagSet.Parse: flags up to the first word that is none, or past a `--`. Returns what is left."""
    index = 0
    while index < len(arguments):
        word = arguments[index]
        if len(word) < 2 or not word.startswith("-"):
            break
        index += 1
        if word == "--":
            break
        body = word[2:] if word.startswith("--") else word[1:]
        if not body or body[0] in "-=":
            raise FlagError(f"bad flag syntax: {word}")
        name, equals, value = body.partition("=")
        flag = known.get(name)
        if flag is None:
            if name in ("help", "h"):
                raise HelpRequested
            raise UnknownFlag(name)
        if flag.kind == "bool" and not equals:
            value = "true"
        elif not equals:
            if index >= len(arguments):
                raise FlagError(f"flag needs an argument: -{name}")
            value = arguments[index]
            index += 1
        _store(flag, value, found)
    return arguments[index:]


def _store(flag: Flag, text: str, found: Values) -> None:
    value = flag.convert(text)
    if flag.kind == "strings":
        value = [*found.strings(flag.name), value]
    found.values[flag.name] = value
    found.given.add(flag.name)
