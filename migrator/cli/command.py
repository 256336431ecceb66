"""One command line from its words to its exit code."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from migrator.cli import flags, go_flags, output, verbs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from migrator import errors
    from migrator.cli.go_flags import Values
    from migrator.cli.invocation import Invocation

ABREAST = ("status", "verify")
"""Verbs that print one line per target of several, all at once; with -v each target's own words, one after the other."""

USAGE = 2  # errors.ExitCode.USAGE, spelled out because the help must not import dataclasses


def run(arguments: list[str]) -> int:
    """Runs a command line and returns the exit code (promises.md §1)."""
    try:
        values = go_flags.parse(arguments, flags.ALL)
    except go_flags.HelpRequested:
        return _help(arguments)
    except go_flags.FlagError as error:
        near = go_flags.nearest(error.name, [flag.name for flag in flags.ALL]) if isinstance(error, go_flags.UnknownFlag) else ""
        output.err(f"{error}\ngreylag: {f'hint: did you mean -{near}? ' if near else ''}greylag -h shows every flag\n")
        return USAGE
    if values.boolean("version"):
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("greylag")
        except PackageNotFoundError:  # run from a checkout that was never installed
            number = "unknown"
        output.out(f"greylag version: {number}\n")
        return 0
    if values.boolean("h"):
        return _help(values.words)
    if values.words[:1] == ["help"]:
        return _help_on(values.words[1:])
    return _resolved(values)


def _help(words: list[str]) -> int:
    """Prints all of it, as goose prints it wherever `-h` stands; what a named command does comes before."""
    from migrator.cli import extensions, usage

    named = next((word for word in words if word in verbs.ALL), "")
    output.out(f"{usage.verb_text(verbs.ALL[named])}\n" if named else "")
    output.out(usage.text(extensions.names()))
    return 0


def _help_on(words: list[str]) -> int:
    """Answers `help` and `help COMMAND`."""
    from migrator.cli import extensions, usage

    if not words:
        return _help(words)
    if words[0] in verbs.ALL:
        output.out(usage.verb_text(verbs.ALL[words[0]]))
        return 0
    code = extensions.run(words[0], ["-h"])
    if code is not None:
        return code
    near = go_flags.nearest(words[0], [*verbs.ALL, *extensions.names()])
    output.err(f'greylag: "{words[0]}": no such command [unknown-command]\n')
    output.err(f"greylag: hint: {f'did you mean {near}? ' if near else ''}greylag -h lists the commands\n")
    return USAGE


def _resolved(values: Values) -> int:
    from migrator import errors
    from migrator.cli import invocation

    if not values.words:
        from migrator.cli import usage

        output.err(usage.text())
        return USAGE
    try:
        _load_environment(values.string("env"))
        if values.words[0] == "beta":
            return _beta(values.words[1:])
        invocations = invocation.resolve(values, os.environ)
        if not invocation.names_several(values.words):
            return max((run_one(item) for item in invocations), default=0)
        if (name := invocation.named_verb(values.words)) in ABREAST and not values.boolean("v"):
            from migrator.cli import abreast

            with invocation.abreast(values, os.environ) as openings:
                return abreast.run(name, openings, values)
    except errors.GreylagError as error:
        return _refuse(error, values)
    return _each(invocations, values)


def _each(invocations: Iterable[Invocation], values: Values) -> int:
    """Runs the verb on several targets, one after the other. A changing verb stops at the first that fails; the exit code is the first failure's."""
    from migrator import errors
    from migrator.cli import calls

    documents: list[dict[str, object]] = []
    exit_code = 0
    try:
        for item in invocations:
            code = run_one(item, documents)
            exit_code = exit_code or code
            if code and item.verb.writes:
                break
    except errors.GreylagError as error:  # the next target could not be found out
        documents.append({"error": calls.described(error), "exit_code": int(error.exit_code)})
        exit_code = exit_code or _refuse(error, values, document=False)
    if values.boolean("json"):
        result = {"targets": documents, "exit_code": exit_code}
        if any(word in verbs.ALL and verbs.ALL[word].streams for word in values.words):
            output.write_line({"event": "result", **result})
        else:
            output.write_document(result)
    return exit_code


def _load_environment(path: str) -> None:
    """Loads the variables of `-env`: best effort for the default file, an error for a named one (goose.md §5.2)."""
    if path == "none":
        return
    from migrator import errors

    if not path and not os.access(".env", os.F_OK):
        return
    from migrator.cli import dotenv

    try:
        dotenv.load(path or ".env", os.environ)
    except OSError as error:
        if path:
            from migrator.planning import files

            raise errors.UsageError(
                f"failed to load env file: {files.failure(path, error)}", code="no-env-file", hint="`-env none` reads no file"
            ) from None
    except errors.UsageError as error:
        if path:
            error.message = f"failed to load env file: {error.message}"
            raise
        from migrator.cli import text

        text.own(f"warning: {error.where}: {error.message}: nothing of it was loaded [{error.code}]")


def _beta(words: list[str]) -> int:
    from migrator.cli import text

    if not words:
        text.log("goose beta: missing subcommand")
        return USAGE
    if words[0] == "drivers":
        output.out("Available drivers:\n" + "".join(f"  {name}\n" for name in sorted(verbs.DRIVERS)))
    return 0


def _refuse(error: errors.GreylagError, values: Values, *, document: bool = True) -> int:
    """Tells an error that came before there was anything to run."""
    from migrator.address import redaction
    from migrator.cli import calls, text

    own_line = error.message.startswith(("-dbstring=", "failed to load"))
    text.log(redaction.redact(error.message if own_line else f"goose run: {error.message}"))
    text.own(f"{error.where}: [{error.code}]" if error.where else f"[{error.code}]")
    text.own(f"hint: {error.hint}" if error.hint else "")
    if place := os.environ.get("GREYLAG_TERMINATION_LOG"):
        from migrator.cli import termination

        told = {"verb": "", "error": calls.described(error)}
        termination.write(termination.outcome(told, int(error.exit_code), ()), place)
    if document and values.boolean("json"):
        output.write_document({"error": calls.described(error), "exit_code": int(error.exit_code)})
    return int(error.exit_code)


def run_one(item: Invocation, documents: list[dict[str, object]] | None = None) -> int:
    """Runs one verb on one database and returns its exit code; every error ends here, told in goose's and in greylag's words.

    Args:
        documents: takes the JSON document of one target of several, instead of standard output.
    """
    from migrator.cli import calls, interruption, text
    from migrator.cli.engine_calls import EngineCall

    call = EngineCall(item)
    if documents is not None:
        text.own(f"--- {item.verb.name} {item.label}")
    timeout = item.values.seconds("timeout")
    if item.verb.name == "wait":
        timeout = 0.0  # its own time-out is an answer (24), not an error

    def action() -> int:
        with interruption.guard(timeout):
            return item.verb.load()(call)

    return calls.run(call, action, documents)
