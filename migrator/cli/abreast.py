"""Several databases at once: `status` and `verify` of `@environment/*` or `@*/*`, one line per target in the fleet's order.

A target whose credentials can't be read, or whose server doesn't answer, is one line with its reason; the others go on. What a target's own
command would print comes with `-v`, one target after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from migrator import errors
from migrator.cli import calls, interruption, output, text
from migrator.cli.engine_calls import EngineCall
from migrator.cli.go_flags import Values
from migrator.cli.invocation import Invocation

AT_ONCE = 16
"""Databases that are asked at once: most of a target's time is waiting for Vault and the server, and a server counts its connections."""

Document = Mapping[str, Any]

Openings = Sequence[tuple[str, Callable[[], AbstractContextManager[Invocation]]]]


class QuietCall(EngineCall):
    """A call that keeps its words: the document holds what it found."""

    def own(self, message: str) -> None:
        """Prints nothing."""

    def log(self, message: str) -> None:
        """Prints nothing."""

    def fail(self, error: errors.GreylagError) -> int:
        """Puts the error into the document. Returns the exit code."""
        self.document["error"] = calls.described(error, tuple(self.secrets()))
        return int(error.exit_code)

    def finish(self, exit_code: int, documents: list[dict[str, object]] | None = None) -> None:
        """Completes the document."""
        self.document["exit_code"] = exit_code


def run(verb: str, openings: Openings, values: Values) -> int:
    """Runs a verb on every database and prints a line of each as soon as those before it are known. Returns the first failure's exit code.

    Raises Interrupted, and TimedOut when `-timeout` is over for all of them together.
    """
    documents: list[Document] = []
    width = max((len(label) for label, _ in openings), default=0)
    with interruption.guard(values.seconds("timeout")):
        for document in _documents(verb, openings):
            documents.append(document)
            if not values.boolean("json"):
                output.out(f"{document['target']!s:<{width}}  {line(verb, document)}\n")
    failed = [int(document["exit_code"]) for document in documents if document["exit_code"]]
    exit_code = failed[0] if failed else 0
    if values.boolean("json"):
        output.write_document({"targets": documents, "exit_code": exit_code})
    else:
        for told in closing(verb, documents):
            text.own(told)
    return exit_code


def line(verb: str, document: Document) -> str:
    """Returns what is said of one target: its version, then what is not as it should be; pure."""
    error = document.get("error")
    known = document.get("status") or document
    version = f"version {known['current']}" if "current" in known else ""
    if error:
        said = f"{error['message'].splitlines()[0]} [{error['code']}]"
    elif verb == "verify":
        said = f"verified, {document['objects_checked']} object(s)"
    else:
        said = "; ".join(_standing(document)) or "up to date"
    return "  ".join(part for part in (version, said) if part)


def _standing(document: Document) -> Iterator[str]:
    if pending := document["pending"]:
        yield f"{len(pending)} pending: {_some(pending)}"
    if half := document["half_applied"]:
        yield f"half applied: {_some([item['version'] for item in half])}"
    if changed := document["changed"]:
        yield f"changed after they were applied: {_some(changed)}"
    if foreign := document["not_in_directory"]:
        yield f"not in the directory: {_some(foreign)}"


def _some(versions: Sequence[int]) -> str:
    more = f" and {len(versions) - 3} more" if len(versions) > 3 else ""
    return ", ".join(map(str, versions[:3])) + more


def closing(verb: str, documents: Sequence[Document]) -> list[str]:
    """Returns the last lines: how many are in order, and each hint once; pure."""
    failed = [document for document in documents if document.get("error")]
    word = "verified" if verb == "verify" else "answered"
    hints = dict.fromkeys((document["error"]["code"], document["error"].get("hint", "")) for document in failed)
    return [f"{len(documents) - len(failed)} of {len(documents)} {word}", *(f"hint [{code}]: {hint}" for code, hint in hints if hint)]


def _documents(verb: str, openings: Openings) -> Iterator[Document]:
    """Yields the documents in the targets' order."""
    pool = ThreadPoolExecutor(min(AT_ONCE, len(openings)) or 1, thread_name_prefix="target")
    try:
        yield from pool.map(lambda item: _document(verb, *item), openings)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _document(verb: str, label: str, opened: Callable[[], AbstractContextManager[Invocation]]) -> Document:
    try:
        with opened() as item:
            call = QuietCall(item)
            calls.run(call, lambda: item.verb.load()(call))
            return call.document
    except errors.GreylagError as error:  # its credentials
        return {"verb": verb, "target": label, "error": calls.described(error), "exit_code": int(error.exit_code)}
