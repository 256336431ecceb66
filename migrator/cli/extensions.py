"""Verbs that other packages bring: the entry points of the group `greylag.verbs`, each a `verbs.VerbEntry`. The console of a checkout brings those that
need a fleet; in the group `greylag.fleet` it brings what `@environment/service` stands for.

The wheel's metadata name the console's verbs as well, and its modules are not in it. The metadata are read here, file by file, and only when a word
is no verb of the engine's, or for the help: `importlib.metadata` takes longer to be imported than the help takes altogether.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from migrator import errors
    from migrator.cli.calls import Call
    from migrator.cli.verbs import VerbEntry

VERBS = "greylag.verbs"

FLEET = "greylag.fleet"
"""`targets`: a module with `resolve` and `places`, which turn `@environment/service` into databases and into directories. `first_file`: one with
`fleet_path` and `write_fleet`, for `init`."""

INSTALL = 'run `make install` in the checkout, or: pip install -e ".[flows]"'

_loaded = False


def loaded() -> bool:
    """Tells whether anything of another package was imported: it may have something to clean up when the process ends."""
    return _loaded


def find(group: str) -> dict[str, str]:
    """Finds the entry points of a group, name -> `module:attribute`, as they are installed; none of them is imported. The first one of a name counts."""
    found: dict[str, str] = {}
    for text in _metadata():
        if f"[{group}]" in text:
            for name, value in _section(text, group):
                found.setdefault(name, value)
    return found


def names() -> list[str]:
    """Lists the verbs whose package is there, sorted. A verb of the engine's is never replaced by another one."""
    from importlib.util import find_spec

    from migrator.cli import verbs

    found = find(VERBS)
    packages = {_package(value): False for value in found.values()}
    for package in packages:
        try:
            packages[package] = find_spec(package) is not None
        except (ImportError, ValueError):
            pass
    return sorted(name for name, value in found.items() if name not in verbs.ALL and packages[_package(value)])


def run(name: str, arguments: list[str]) -> int | None:
    """Runs a verb of another package and returns its exit code; None where nobody knows it."""
    value = find(VERBS).get(name, "")
    if not value and not _is_declared(VERBS, name):
        return None
    from migrator.cli import calls, go_flags

    call = calls.Call(name, go_flags.Values(()), json=any(word in ("-json", "--json") for word in arguments))
    return calls.run(call, lambda: _act(call, name, value, arguments))


def _act(call: Call, name: str, value: str, arguments: list[str]) -> int:
    from migrator import errors
    from migrator.cli import flags, go_flags, output, usage

    verb: VerbEntry = _load(value, f"{name} needs")
    taken = (*verb.flags, flags.DOCUMENT)
    try:
        values = go_flags.parse(arguments, taken)
    except go_flags.HelpRequested:
        call.json = False
        output.out(usage.verb_text(verb))
        return 0
    except go_flags.FlagError as error:
        near = go_flags.nearest(error.name, [flag.name for flag in taken]) if isinstance(error, go_flags.UnknownFlag) else ""
        raise errors.UsageError(str(error), hint=_how(name) + (f"; did you mean -{near}?" if near else "")) from None
    call.values, call.json = values, values.boolean("json")
    call.arguments = tuple(_words(verb, values.words))
    return verb.load()(call)


def _words(verb: VerbEntry, given: Iterable[str]) -> list[str]:
    """Returns the words, as many as the verb's `arguments` name: `[X]` may be left out, `X …` may be several. Raises UsageError."""
    from migrator import errors

    words = [word for word in given if word != "--"]
    names = verb.arguments.split()
    needed = [name for name in names if name != "…" and not name.startswith("[") and not name.endswith("]")]
    if len(words) < len(needed):
        raise errors.UsageError(f"{verb.name} needs {' and '.join(needed[len(words) :])}", hint=_how(verb.name))
    if "…" not in verb.arguments and len(words) > len(names):
        raise errors.UsageError(f'{verb.name} has no use for "{words[len(names)]}"', hint=_how(verb.name))
    return words


def _how(name: str) -> str:
    return f"greylag {name} -h shows how it is called"


def fleet(name: str) -> Any:
    """Loads a module of the group `greylag.fleet`. Raises UsageError: `no-fleet` where it or a package of it is missing, `not-installed`."""
    from migrator import errors

    who = "targets like @environment/service need"
    value = find(FLEET).get(name, "")
    if not value and not _is_declared(FLEET, name):
        raise _needs_checkout(who, "no-fleet")
    try:
        return _load(value, who)
    except errors.UsageError as error:
        if error.code == "not-installed":
            raise
        raise errors.UsageError(error.message, code="no-fleet", hint=f"{error.hint}; or write DRIVER DBSTRING instead") from None


def _load(value: str, who: str) -> Any:
    """Loads what an entry point names. Raises UsageError: `not-installed` where the checkout declares it and its installation is older, `needs-checkout`
    where its module is not there, `missing-extra` where a package is missing that it imports."""
    from functools import reduce
    from importlib import import_module

    from migrator import errors

    global _loaded
    if not value:
        raise errors.UsageError(
            f"{who} a newer installation: this checkout's is older than its pyproject.toml",
            code="not-installed",
            hint=INSTALL,
        )
    module, _, attribute = value.partition(":")
    _loaded = True
    try:
        return reduce(getattr, filter(None, attribute.split(".")), import_module(module))
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module == missing or module.startswith(f"{missing}."):
            raise _needs_checkout(who, "needs-checkout") from None
        if missing.partition(".")[0] in (_package(value), __name__.partition(".")[0]):
            raise  # a fault of the package's own
        raise errors.UsageError(
            f"{who} the package {missing}",
            code="missing-extra",
            hint='pip install -e ".[flows]" in the checkout; tests and demo: ".[flows,sandbox,dev]"',
        ) from None


def _needs_checkout(who: str, code: str) -> errors.GreylagError:
    from migrator import errors

    return errors.UsageError(
        f"{who} a checkout with its fleet.yaml",
        code=code,
        hint='run greylag from the checkout with the extras installed: pip install -e ".[flows]"',
    )


def _metadata() -> Iterator[str]:
    """Yields the text of each installed distribution's entry points, in the order of the search path; the first distribution of a name counts."""
    seen: set[str] = set()
    for directory in dict.fromkeys(sys.path):
        try:
            listed = os.listdir(directory or ".")  # noqa: PTH208
        except OSError:  # an archive, or nothing at all
            continue
        for entry in listed:
            if not entry.endswith((".dist-info", ".egg-info")):
                continue
            name = entry.partition("-")[0].lower()
            if name in seen:
                continue
            seen.add(name)
            try:
                with open(f"{directory or '.'}/{entry}/entry_points.txt", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                    yield file.read()
            except OSError:
                continue


def _section(text: str, group: str) -> Iterator[tuple[str, str]]:
    """Yields name and value of the lines of one section of an `entry_points.txt` (packaging.python.org, entry points specification)."""
    within = False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            within = line == f"[{group}]"
        elif within and line and line[0] not in "#;":
            name, _, value = line.partition("=")
            yield name.strip(), value.partition("[")[0].strip()


def _package(value: str) -> str:
    return value.partition(":")[0].partition(".")[0].strip()


def _is_declared(group: str, name: str) -> bool:
    """Tells whether the checkout that this file lies in declares the entry point: then its installation is older than its pyproject.toml."""
    path = f"{os.path.dirname(__file__)}/../../pyproject.toml"  # noqa: PTH120 - pathlib is not for what the help runs through
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            text = file.read()
    except OSError:
        return False
    if group.encode() not in text or name.encode("utf-8", "replace") not in text:
        return False
    import tomllib

    try:
        project = tomllib.loads(text.decode("utf-8", "replace")).get("project", {})
        return project.get("name") == "greylag" and name in project.get("entry-points", {}).get(group, {})
    except (tomllib.TOMLDecodeError, AttributeError):
        return False
