"""The `greylag` command: goose's verbs and flags, then greylag's own; words it doesn't know may be verbs that other packages bring.

This file imports nothing that costs time: `greylag --help` runs through it.
"""

from __future__ import annotations

import sys

_COLLECT_EVERY = 50_000
"""Allocations between two garbage collections. Python's 700 make it search the modules just imported for garbage, again and again: a
tenth of the start."""


def main(argv: list[str] | None = None) -> int:
    """Runs the command; `argv` without the program's name. Returns the exit code of the table in `migrator.errors`.

    Without `argv` it is the process: then it ends the process itself.
    """
    if argv is not None:
        return _run(list(argv))
    import atexit
    import gc

    from migrator.cli import output, process

    process.begin()
    gc.set_threshold(_COLLECT_EVERY)
    output.prepare()
    atexit.register(output.settle)  # the first to be registered is the last to be called: whatever else ends may still write
    code = _run(sys.argv[1:])
    if process.is_alone():  # what another package starts may have something to clean up at exit
        process.leave(code)
    return code


def _run(arguments: list[str]) -> int:
    try:
        at = _first_word(arguments)
        if at is not None and _is_unknown_word(arguments[at]):
            from migrator.cli import extensions

            found = extensions.run(arguments[at], arguments[:at] + arguments[at + 1 :])
            if found is not None:
                return found
        from migrator.cli import command

        return command.run(arguments)
    except KeyboardInterrupt:  # before or after the guarded part
        return 23
    except Exception as error:  # noqa: BLE001 - a fault before or after the guarded part: Python would print it with its secrets
        from migrator.cli import faults

        return faults.last(error, arguments)


def _first_word(arguments: list[str]) -> int | None:
    """Finds where the first word stands that is no flag: flags may come before any verb. None when flags can't be read."""
    if not arguments or not arguments[0].startswith("-"):
        return 0 if arguments else None
    from migrator.cli import flags, go_flags

    found = go_flags.Values(flags.ALL)
    try:
        rest = go_flags.leading(arguments, flags.ALL, found)
    except (go_flags.FlagError, go_flags.HelpRequested):
        return None
    return len(arguments) - len(rest) if rest and "--" not in arguments else None


def _is_unknown_word(word: str) -> bool:
    """Tells whether a first word may be a verb of another package."""
    if not word or not word[0].isalpha():
        return False
    from migrator.cli import verbs

    return word not in verbs.ALL and word not in verbs.DRIVERS and word not in verbs.REFUSED_DRIVERS and word != "beta"
