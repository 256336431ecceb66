"""The results of a run: for people in Prefect's UI plans as markdown and results as tables, under keys that stay the same from run to run; for
automations events.

An artifact is plain text for every user of the server: statements are the files' own text, before ENVSUB, and hold no value of a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.events import emit_event
from prefect.runtime import flow_run

Row = dict[str, Any]


def result_row(service: str, environment: str, outcome: str, **facts: Any) -> Row:
    """Returns one row of a result table; every row has the same columns, so that the table's header is complete.

    The UI cuts a wide table at its right edge, so the most important columns come first.
    """
    columns = ("migrations", "statements", "seconds", "verification", "schema", "rollout", "accepted", "versions", "bundle")
    return {"service": service, "environment": environment, "outcome": outcome, **{name: facts.get(name, "") for name in columns}}


def publish_table(key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """Publishes a table; an empty one would show nothing, so it gets a row that says so."""
    create_table_artifact(key=key, table=[dict(row) for row in rows] or [{"result": "nothing"}], description=description)


def publish_markdown(key: str, text: str, description: str) -> None:
    """Publishes a page."""
    create_markdown_artifact(key=key, markdown=text, description=description)


def fenced(text: str, language: str = "sql") -> str:
    """Returns the text as a code block, whose fence is longer than any run of backticks in it."""
    longest, run = 0, 0
    for letter in text:
        run = run + 1 if letter == "`" else 0
        longest = max(longest, run)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def cell(text: str) -> str:
    """Returns the text for a cell of a markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def emit(event: str, resource: str, name: str, **payload: Any) -> None:
    """Emits an event that automations can listen to, with this run as what it is about.

    Args:
        resource: the id of what it happened to, `greylag.release.prod`; `name` is what people call it.
    """
    emit_event(
        event,
        resource={"prefect.resource.id": resource, "prefect.resource.name": name},
        related=[{"prefect.resource.id": f"prefect.flow-run.{flow_run.id}", "prefect.resource.role": "flow-run"}],
        payload=payload,
    )
