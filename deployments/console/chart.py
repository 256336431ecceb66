"""`greylag chart`: what the Helm chart needs to know of a service, from fleet.yaml and from its migration files."""

from __future__ import annotations

from deployments.chart import values
from deployments.console import edge, targets
from migrator import errors
from migrator.cli import calls
from migrator.cli.calls import Call
from migrator.cli.go_flags import Flag
from migrator.cli.verbs import VerbEntry
from migrator.planning import files
from tasks import fleet

PARTS = ("values",)

FLAGS = (
    Flag("bundle", "bool", False, "bind the image's files to the digest of this checkout's"),
    Flag("sql", "bool", False, "put the migration files into the values, for a ConfigMap"),
)


def run(call: Call) -> int:
    """Prints the values of one service. Raises UsageError for a part that there is not, for a target that is not one database and for flags that
    contradict each other; FileError as `files.load`.
    """
    part, expression = call.arguments
    if part not in PARTS:
        raise errors.UsageError(f'"{part}" is no part of the chart', hint=f"one of: {', '.join(PARTS)}")
    chosen = targets.select(fleet.load(), expression)
    if len(chosen) != 1:
        raise errors.UsageError(
            f"{expression} stands for {len(chosen)} databases, and values belong to one",
            code="bad-target",
            hint=f"name one, e.g. @{chosen[0].label}",
        )
    if call.values.boolean("sql") and call.values.boolean("bundle"):
        raise errors.UsageError("-sql and -bundle exclude each other", hint="with -sql the chart computes the digest of what it carries")
    (target,) = chosen
    found = values.values(
        target,
        bundle=files.load(target.directory).digest() if call.values.boolean("bundle") else "",
        files=_texts(target) if call.values.boolean("sql") else None,
    )
    text = values.text(found, target)
    calls.note(part=part, values=found, text=text.rstrip())
    if not call.json:
        edge.show(text.rstrip())
    return 0


def _texts(target: fleet.Target) -> dict[str, str]:
    """Returns the migration files by name, line ends as LF. Raises FileError for one that is not UTF-8: a ConfigMap holds text."""
    found: dict[str, str] = {}
    for item in files.load(target.directory).migrations:
        try:
            found[item.name] = item.read().decode("utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError:
            raise errors.FileError(
                f"{item.path} is not UTF-8, and a ConfigMap holds text", code="not-text", hint="leave the files in the image: without -sql"
            ) from None
    return found


VERB = VerbEntry(
    "chart",
    run,
    "prints what the Helm chart needs of a service, PART being `values`",
    arguments="PART TARGET",
    flags=FLAGS,
)
