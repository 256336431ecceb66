"""The signed document of a plan: what people approve, and the SQL that they have to see first, as the protected environment's worker signed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from flows import gates, labels, remote_runs, reports
from migrator import errors
from tasks import approval, migration, settings
from tasks.approval import documents, images, policy, verifying, worker_keys
from tasks.approval.documents import Approval, Contents, ContentsPart, ContentsStep, Envelope, Part, Signature
from tasks.outcomes import PlanOutcome


@dataclass(frozen=True)
class Options:
    """What a release is planned with besides its files: it is what it will be deployed with. `promotion` is the signed promotion, or empty."""

    image: str = ""
    mode: str = ""
    backoff_limit: int = 3
    active_deadline_seconds: float = 900.0
    promotion: str = ""


def publish(gate: gates.Gate, outcomes: Sequence[PlanOutcome], options: Options) -> str:
    """Signs and publishes the document of an environment's plan, where its policy asks for signed approvals; returns its digest, or an empty text.

    Raises PlanRefused (`image-refused`, and as `verifying.promoter`), what resolving a tag raises, UsageError (`signing-failed`).
    """
    if gate.policy is None or not gate.signed or not outcomes:
        return ""
    assert gate.policy.signing is not None
    contents = Contents(environment=gate.environment, services=tuple(_contents(gate, item) for item in outcomes))
    made = datetime.now(UTC)
    person, promotion = _promoter(gate, outcomes, options)
    document = Approval(
        id=documents.nonce(),
        environment=gate.environment,
        made=documents.moment(made),
        expires=documents.moment(made + gate.policy.validity),
        policy=gate.policy.digest,
        fleet=policy.fleet_digest(gate.fleet),
        contents=contents.digest,
        services=tuple(_part(gate, item, options) for item in outcomes),
        mode=options.mode,
        backoff_limit=options.backoff_limit,
        active_deadline_seconds=verifying.seconds(options.active_deadline_seconds),
        hazards=tuple(sorted({f"{item.service}: {remark.code}" for item in outcomes for remark in item.remarks})),
        promotion=promotion,
        promoter=person,
    )
    documents.require_shown(document, contents)
    signature = worker_keys.sign(document, gate.policy.signing, settings.load())
    worker_keys.verify(document, signature, gate.environment, gate.policy, settings.load())  # a key that nobody accepts is noticed now
    row = {
        "document": document.canonical,
        "key": signature.key,
        "signature": signature.signature,
        "contents": contents.canonical,
    }
    reports.publish_table(
        gates.document_key(gate.environment),
        [row],
        f"{gate.environment}: the plan as its worker signed it; `greylag approve {gate.environment}` checks and shows it\n\n"
        f"document `{document.digest}`\n\nends {document.expires}",
    )
    return document.digest


def _contents(gate: gates.Gate, outcome: PlanOutcome) -> ContentsPart:
    migrations = migration.load_bundle(gate.target(outcome.service), outcome.bundle)
    steps = []
    for item in outcome.steps:
        file = migrations.by_version(item.version)
        if file is None:
            raise errors.PlanRefused(f"{item.name} has gone since it was planned", code="bundle-changed", hint="plan again")
        steps.append(ContentsStep.of(item.version, item.name, item.direction, file.read()))
    return ContentsPart(service=outcome.service, steps=tuple(steps))


def _part(gate: gates.Gate, outcome: PlanOutcome, options: Options) -> Part:
    target = gate.target(outcome.service)
    assert gate.policy is not None
    image = ""
    if options.image:
        image = images.pinned(target.image(options.image), gate.repositories(target), target.label, gate.policy.registry_credentials)
        labels.logger().info("%s: image %s", target.label, image)
    return Part(
        service=outcome.service,
        database=outcome.database,
        bundle=outcome.bundle,
        plan=outcome.plan,
        image=image,
        accepted=gates.acceptances(target),
    )


def _promoter(gate: gates.Gate, outcomes: Sequence[PlanOutcome], options: Options) -> tuple[str, str]:
    """Returns who promoted and the digest of what they signed; two empty texts without a signed promotion."""
    if not options.promotion or gate.policy is None or gate.policy.ssh is None:
        return "", ""
    names = list(gate.fleet.environments)
    onwards = tuple(names[names.index(gate.environment) :])
    return verifying.promoter(Envelope.unpacked(options.promotion), gate.policy, onwards, approval.manifest(outcomes).bundle)


@dataclass(frozen=True)
class Waiting:
    """A published document, as it was read; `signature` is the worker's, which the reader has to check."""

    approval: Approval
    contents: Contents
    signature: Signature
    run_id: str
    made_at: datetime


def read(environment: str) -> list[Waiting]:
    """Returns the published documents of an environment's plans, newest first; leaves out what can't be read as one."""
    found = []
    for run_id, made_at, rows in remote_runs.publications(gates.document_key(environment)):
        if item := _read(rows[0] if rows else {}, run_id, made_at):
            found.append(item)
    return found


def _read(row: Mapping[str, object], run_id: UUID, made_at: datetime) -> Waiting | None:
    try:
        return Waiting(
            Approval.read(str(row.get("document"))),
            Contents.read(str(row.get("contents"))),
            Signature(key=str(row.get("key")), signature=str(row.get("signature"))),
            str(run_id),
            made_at,
        )
    except errors.PlanRefused:
        return None
