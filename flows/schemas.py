"""What an environment's worker tells of its schemas, and how they compare with those of the environment before (facts.md §5).

No worker reads another environment's database: each publishes its objects in digests when it has verified them. Where the proof of the environment before
is signed, so is the digest of that table; elsewhere the table is a claim, as everything is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from flows import gates, labels, remote_runs, reports
from migrator import errors
from migrator.planning import schema_environments
from migrator.planning.schema_environments import Digested, Environments
from tasks.fleet.models import Target
from tasks.fleet.rules_section import SchemaDifferences
from tasks.outcomes import VerificationOutcome

EVENT = "release.schema-differs"

AGE = timedelta(days=7)
"""How old an unsigned table may be: what was done by hand since is in none, and an environment that is entered was verified within minutes."""

MOST_READ = 10
"""Tables that are looked through for the one at this bundle, newest first; a large schema's has a megabyte."""

MOST_NAMED = 5
"""Objects that a table's cell and a message name; the artifact has all of them."""

MOST_TOLD = 100
"""Objects that the event names: an event is a message, no report."""

_DIFFERS = "differs from "


def key(service: str, environment: str) -> str:
    """Returns the key of the table that tells a service's schema."""
    return f"schema-{service}-{environment}"


def publish(target: Target, verified: VerificationOutcome) -> str:
    """Publishes what a verification has read of the schema; returns the digest of the table."""
    rows = list(verified.objects)
    reports.publish_table(
        key(target.service, target.environment),
        rows,
        f"{target.label} at bundle `{labels.short(verified.bundle)}`: {len(rows) - 1} objects, each with a digest of its definition",
    )
    return schema_environments.digest(rows)


def differs(row: Mapping[str, object]) -> bool:
    """Tells whether a result's row says that the schema differs."""
    return str(row.get("schema", "")).startswith(_DIFFERS)


def compare(gate: gates.Gate, target: Target, verified: VerificationOutcome) -> str:
    """Compares a verified schema with that of the environment before, publishes the differences, and returns what a result's row says of them.

    Raises VerificationFailed (`environments-differ`) where fleet.yaml says that differences fail.
    """
    previous = gate.fleet.previous(target.environment)
    ours = schema_environments.read(verified.objects)
    if previous is None or ours is None:
        return ""
    strict = gate.fleet.environment(target.environment).schema_differences is SchemaDifferences.FAIL
    try:
        found = _against(gate, target.service, ours, previous)
    except errors.VerificationFailed as error:
        if strict:
            raise
        found = Environments(incomparable=error.message)
    if found.incomparable:
        labels.logger().info("%s: not compared with %s: %s", target.label, previous, found.incomparable)
        return f"not compared with {previous}: {found.incomparable}"
    rows = [{"object": line} for line in found.differences]
    said = f"as in {previous}, {found.compared} objects" if not rows else f"{_DIFFERS}{previous}: {_some(found.differences)}"
    reports.publish_table(
        f"schema-difference-{target.service}-{target.environment}", rows or [{"object": "none"}], f"{target.label}: {said}"
    )
    if not rows:
        return said
    for line in found.differences:
        labels.logger().warning("%s: the schema differs from that of %s: %s", target.label, previous, line)
    _emit(target, previous, verified.bundle, found.differences)
    if strict:
        raise errors.VerificationFailed(
            f"{target.label}: the schema {said}",
            code="environments-differ",
            hint=f"make both alike with a new migration, or undo by hand what was done by hand in {previous} or {target.environment}",
            detail="\n".join(found.differences),
        )
    return said


def _against(gate: gates.Gate, service: str, ours: Digested, previous: str) -> Environments:
    theirs, reason = _told(gate, service, ours.bundle, previous)
    if theirs is None:
        return Environments(incomparable=reason)
    return schema_environments.compare_digested(ours, theirs, gate.environment, previous)


def _told(gate: gates.Gate, service: str, bundle: str, previous: str) -> tuple[Digested | None, str]:
    """Returns what the previous environment's worker has told of a service's schema at a bundle, or why there is nothing to compare with.

    Raises VerificationFailed (`environments-differ`) when what is published is not what that worker has signed.
    """
    signed = gates.proven_objects(gate.environment, service, bundle)
    if signed is not None:
        run_id, expected = signed
        try:
            table = remote_runs.table(run_id, key(service, previous))
        except errors.NotFound:
            table = []
        if schema_environments.digest(table) != expected:
            raise errors.VerificationFailed(
                f"the table {key(service, previous)} is not the one that {previous}'s worker has signed",
                code="environments-differ",
                hint=f"somebody has changed or deleted that artifact of run {run_id}; Retry asks {previous}'s worker anew",
            )
        return schema_environments.read(table), f"{previous}'s worker has told it in a way that this version of greylag doesn't read"
    since = datetime.now(UTC) - AGE
    for _, published, rows in remote_runs.publications(key(service, previous), MOST_READ):
        found = schema_environments.read(rows)
        if found is not None and found.bundle == bundle and published > since:
            return found, ""
    return None, f"{previous} has told nothing of its schema at this bundle"


def _some(lines: Sequence[str]) -> str:
    more = f"; and {len(lines) - MOST_NAMED} more" if len(lines) > MOST_NAMED else ""
    return "; ".join(lines[:MOST_NAMED]) + more


def _emit(target: Target, previous: str, bundle: str, differences: Sequence[str]) -> None:
    environment = target.environment
    reports.emit(
        EVENT,
        f"greylag.release.{environment}",
        f"release in {environment}",
        environment=environment,
        service=target.service,
        previous=previous,
        bundle=bundle,
        count=len(differences),
        differences=list(differences[:MOST_TOLD]),
    )
