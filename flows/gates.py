"""The gate of a protected environment, as its own worker keeps it: its policy, the approval that it accepts, and the proof that it asks for.

What comes over Prefect's API is transport: approvals carry signatures, the previous environment's proof carries this worker's nonce. Without signatures
(`claim`) an approval is what anybody who reaches the API can post, and every run says so.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.schemas.objects import FlowRun
from prefect.runtime import flow_run as current

from flows import approvals, endings, labels, remote_runs, reports
from migrator import errors
from migrator.planning.approvals import Approval as Consumed
from tasks import approval, fleet, settings
from tasks.approval import documents, images, oidc, policy, verifying, worker_keys
from tasks.approval.documents import Approval, Envelope, Proof, Receipt, Signature
from tasks.approval.policy import Policy, Verifier
from tasks.fleet.models import Target

YOUNG = timedelta(minutes=5)
"""The age up to which a service takes the proof of the whole run; the rest of the ten minutes is for its own way to the first statement."""


def document_key(environment: str) -> str:
    """Returns the key of the signed document of an environment's plan."""
    return f"plan-document-{environment}"


def proof_key(environment: str) -> str:
    """Returns the key of an environment's signed proof."""
    return f"proof-{environment}"


def receipt_key(environment: str) -> str:
    """Returns the key of a protected environment's receipts of tokens."""
    return f"receipt-{environment}"


@dataclass(frozen=True)
class Gate:
    """What holds for an environment on this worker: its policy, None when there is none; whether it is protected, by policy or fleet.yaml."""

    environment: str
    fleet: fleet.Fleet
    policy: Policy | None
    protected: bool

    @property
    def signed(self) -> bool:
        """Tells whether an approval needs signatures here."""
        return self.policy is not None and self.policy.signed

    @property
    def note(self) -> str:
        """Returns what every run of a protected environment says about its approvals; empty where they are signed or not needed."""
        if not self.protected or self.signed:
            return ""
        return policy.UNWRITTEN if self.policy is None else "approvals are claims here, by the worker's policy (verifier: claim)"

    def target(self, service: str) -> Target:
        """Returns a service in this environment under the worker's policy: protected, and only with the commands that may run."""
        found = self.fleet.target(service, self.environment)
        if self.policy is None:
            return found
        allowed = self.policy.commands
        changes: dict[str, object] = {"protected": self.protected}
        for name in ("preflight", "after_migrate"):
            if getattr(found, name) and not getattr(allowed, name):
                labels.logger().warning("%s: `%s` of fleet.yaml does not run: the worker's policy does not let it", found.label, name)
                changes[name] = ()
        return found.model_copy(update=changes)

    def repositories(self, target: Target) -> tuple[str, ...]:
        """Returns the repositories from which a service may run here; none where nothing names any."""
        if self.policy is not None:
            return self.policy.repositories(target)
        return (target.job.image,) if target.job.image else ()


def gate(found: fleet.Fleet, environment: str) -> Gate:
    """Returns what holds for an environment here. Raises UsageError (`bad-policy`)."""
    name = found.environment_name(environment)
    rules = policy.of(found, name, settings.load())
    protected = found.environment(name).protected or (rules is not None and rules.protected)
    made = Gate(name, found, rules, protected)
    if made.note:
        labels.logger().warning("%s: %s", name, made.note)
    return made


def acceptances(target: Target) -> tuple[str, ...]:
    """Returns the hazards that fleet.yaml accepts of a service's files, as an approval has them."""
    return tuple(sorted(f"{item.file}:{item.hazard}:{item.reason}" for item in target.accepted_hazards))


@dataclass(frozen=True)
class Entry:
    """An accepted approval: what it covers, and what of it is used up. `document` is None for a claim; `shown` says who gave it."""

    manifest: approval.ReleaseManifest
    identity: str
    shown: str
    document: Approval | None = None

    def image(self, service: str, given: str) -> str:
        """Returns the image of a service: the approved one, else the run's own."""
        part = self.document.part(service) if self.document else None
        return part.image if part else given

    def database(self, service: str) -> str:
        """Returns the approved database's identity; empty when any is."""
        part = self.document.part(service) if self.document else None
        return part.database if part else ""

    def consumed(self, until: datetime | None) -> Consumed:
        """Returns what the engine uses up, to be begun before a time."""
        return Consumed(self.identity, until.timestamp() if until else None)


@dataclass(frozen=True)
class Asked:
    """What a run in a protected environment gives besides its approval."""

    services: Sequence[str]
    part: bool
    bundles: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    mode: str = ""
    backoff_limit: int = 3
    active_deadline_seconds: float = 900.0


def enter(found: Gate, asked: Asked, run_id: str) -> Entry:
    """Returns the entry that an approval run gives to a protected environment.

    Raises PlanRefused as `verifying.accepted` where the policy asks for signatures, else as `approvals.agreed`.
    """
    if found.policy is None or not found.signed:
        manifest = approvals.agreed(found.environment, asked.services, run_id)
        given = approval_run(found.environment, run_id)
        _require_image(found, asked)
        return Entry(manifest, f"claim:{given.run_id}", f"{given.approver} (claimed)")
    given = approval_run(found.environment, run_id)
    if not given.signature:
        verifying.accepted([], found.policy, verifying.Wanted(found.environment, ""), settings.load(), datetime.now(UTC))
    wanted = verifying.Wanted(
        found.environment,
        policy.fleet_digest(found.fleet),
        tuple(asked.services),
        asked.part,
        asked.bundles,
        {name: found.target(name).image(asked.image) for name in asked.services} if asked.image else {},
        {name: acceptances(found.target(name)) for name in asked.services},
        asked.mode,
        asked.backoff_limit,
        asked.active_deadline_seconds,
    )
    envelopes = _envelopes(found.environment, Envelope.unpacked(given.signature))
    receipts = _Receipts(found.environment, found.policy)
    accepted = verifying.accepted(envelopes, found.policy, wanted, settings.load(), datetime.now(UTC), receipts.known)
    receipts.note(accepted, envelopes)
    approvals.require_current(found.environment, accepted.approval.manifest, given)
    labels.logger().info("%s: approval %s accepted, by %s", found.environment, accepted.approval.digest[:12], accepted)
    return Entry(accepted.approval.manifest, accepted.approval.digest, str(accepted), accepted.approval)


def approval_run(environment: str, run_id: str) -> approval.Approval:
    """Returns the approval that a run of approve-release holds, whatever it is worth. Raises PlanRefused (`approval-missing`)."""
    try:
        wanted = str(UUID(run_id))
    except ValueError:
        wanted = ""
    found = next((item for item in approval.read(environment) if item.run_id == wanted), None)
    if found is None:
        raise errors.PlanRefused(
            f"{run_id} is no completed approval for {environment}",
            code="approval-missing",
            hint="give the id of a completed run of approve-release; promote-release finds it by itself",
        )
    return found


def _envelopes(environment: str, first: Envelope) -> list[Envelope]:
    """Returns everybody's envelopes of the same document; one that can't be read is nobody's."""
    found = [first]
    for item in approval.read(environment):
        if not item.signature:
            continue
        try:
            other = Envelope.unpacked(item.signature)
        except errors.PlanRefused:
            continue
        if other.document == first.document and other not in found:
            found.append(other)
    return found


def _require_image(found: Gate, asked: Asked) -> None:
    """Raises PlanRefused (`image-refused`) for an image from elsewhere, where anything says from where images come."""
    if not asked.image:
        return
    for name in asked.services:
        target = found.target(name)
        if repositories := found.repositories(target):
            images.require_allowed(target.image(asked.image), repositories, target.label)


def require_image(found: Gate, service: str, image: str) -> None:
    """Raises PlanRefused (`image-refused`) when a run in a protected environment names an image from elsewhere."""
    if found.protected:
        _require_image(found, Asked((service,), part=True, image=image))


class _Receipts:
    """What tokens of an identity provider proved when they arrived: noted by this worker with its own signature, read back by later runs."""

    def __init__(self, environment: str, rules: Policy) -> None:
        self._environment, self._rules = environment, rules
        self._old: dict[tuple[str, str], oidc.Identity] | None = None

    def known(self, given: Approval, token: str) -> oidc.Identity | None:
        """Returns what an earlier run noted of a token for an approval."""
        if self._rules.verifier is not Verifier.OIDC:
            return None
        if self._old is None:
            self._old = dict(self._read())
        return self._old.get((given.digest, token))

    def _read(self) -> list[tuple[tuple[str, str], oidc.Identity]]:
        found = []
        for rows in remote_runs.tables(receipt_key(self._environment)):
            for row in rows:
                try:
                    receipt = Receipt.read(str(row.get("document")))
                    signature = Signature(key=str(row.get("key")), signature=str(row.get("signature")))
                    worker_keys.verify(receipt, signature, self._environment, self._rules, settings.load())
                except errors.PlanRefused:
                    continue
                found.append(((receipt.approval, receipt.token), oidc.Identity(receipt.person, receipt.shown, receipt.token)))
        return found

    def note(self, accepted: verifying.Accepted, envelopes: Sequence[Envelope]) -> None:
        """Notes the tokens that were accepted just now."""
        if self._rules.verifier is not Verifier.OIDC or self._rules.signing is None:
            return
        rows = []
        for identity in accepted.identities:
            if self.known(accepted.approval, identity.token) is None:
                receipt = Receipt(
                    approval=accepted.approval.digest,
                    token=identity.token,
                    person=identity.person,
                    shown=identity.shown,
                    received=documents.moment(datetime.now(UTC)),
                )
                made = worker_keys.sign(receipt, self._rules.signing, settings.load())
                rows.append({"document": receipt.canonical, "key": made.key, "signature": made.signature})
        if rows:
            reports.publish_table(receipt_key(self._environment), rows, f"{self._environment}: tokens received")


# --- the proof of the previous environment --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Proven:
    """A proof: when it was asked for, the bundles, the run that published it, and per service the digest of the table that tells its schema."""

    asked: datetime
    bundles: Mapping[str, str]
    run_id: UUID
    objects: Mapping[str, str]


_proofs: dict[tuple[str, str], _Proven] = {}
"""Proofs that this process has asked for itself, by run and environment: a worker's process runs one flow run."""

_asking = threading.Lock()


def prove(found: Gate, bundles: Mapping[str, str]) -> datetime | None:
    """Makes sure that the previous environment's worker has just read that it holds these bundles; returns until when that counts.

    None where nothing is asked: there is no previous environment, or approvals are claims and the policy knows no key of it; then its run's own table
    is the proof (`approvals.require_proof`). Raises PlanRefused: `proof-refused`, `key-unknown`, `key-revoked`, `signature-invalid`, `release-unproven`.
    """
    previous = found.fleet.previous(found.environment)
    if previous is None:
        return None
    rules = found.policy
    if rules is None or not (rules.signed or rules.keys.get(previous)):
        approvals.require_proof(found.fleet, found.environment, bundles)
        return None
    with _asking:
        known = _known(found.environment)
        if known is None or datetime.now(UTC) - known.asked > YOUNG or not bundles.items() <= known.bundles.items():
            known = _proofs[(str(current.id), found.environment)] = _asked(found, rules, previous, bundles)
        return known.asked + verifying.PROOF_AGE


def _known(environment: str) -> _Proven | None:
    """Returns the proof that this run has asked for; a service's run takes its environment's."""
    runs = (str(item) for item in (current.id, current.parent_flow_run_id) if item)
    return next((item for run in runs if (item := _proofs.get((run, environment)))), None)


def _asked(found: Gate, rules: Policy, previous: str, bundles: Mapping[str, str]) -> _Proven:
    nonce, asked = documents.nonce(), datetime.now(UTC)
    labels.logger().info("%s: asks %s's worker to verify afresh", found.environment, previous)
    child = remote_runs.start(
        "verify-environment",
        f"verify-environment-{previous}",
        {"environment": previous, "services": list(bundles), "bundles": dict(bundles), "nonce": nonce},
        environment=previous,
        bundle=approval.ReleaseManifest(bundles=bundles).bundle,
        key=nonce,
        name=f"verify-environment {previous} for {found.environment}",
    )
    child = remote_runs.wait(child, found.fleet.target(next(iter(bundles)), previous).work_pool)
    _require_verified(child, previous)
    try:
        row = remote_runs.table(child.id, proof_key(previous))[0]
        proof = Proof.read(str(row.get("document")))
        signature = Signature(key=str(row.get("key")), signature=str(row.get("signature")))
    except (errors.NotFound, IndexError):
        raise errors.PlanRefused(
            f"{previous}'s worker has verified, and signed nothing",
            code="proof-refused",
            hint=f"give that worker a policy with `environment: {previous}`, `protected: false` and `signing`",
        ) from None
    envelope = Envelope(document=proof.canonical, worker=signature)
    verifying.require_proof(proof, envelope, previous, nonce, bundles, rules, settings.load(), asked=asked, now=datetime.now(UTC))
    return _Proven(asked, dict(bundles), child.id, {item.service: item.objects for item in proof.services})


def proven_objects(environment: str, service: str, bundle: str) -> tuple[UUID, str] | None:
    """Returns the run in which the previous environment's worker has told a service's schema, and the digest of that table as it was signed.

    None where nothing signed tells of it: no proof was asked for, or its worker tells none yet.
    """
    known = _known(environment)
    if known is None or known.bundles.get(service) != bundle or not known.objects.get(service):
        return None
    return known.run_id, known.objects[service]


def _require_verified(child: FlowRun, previous: str) -> None:
    """Raises PlanRefused (`proof-refused`) when the previous environment does not hold the release, RunFailed when that could not be found out."""
    error = endings.failure(child)
    if error is not None and error.exit_code == errors.ExitCode.VERIFICATION:
        raise errors.PlanRefused(
            f"{previous} does not hold this release",
            code="proof-refused",
            detail=error.detail,
            hint="promote the release to that environment first; its worker then proves it",
        )
    endings.require_completed(child)


def publish_proof(environment: str, nonce: str, held: Sequence[Mapping[str, object]]) -> None:
    """Publishes, signed by this worker, what it has just read; without a key of its own it signs nothing, and says so."""
    rules = policy.load(settings.load())
    if rules is None or rules.signing is None or rules.environment != environment:
        labels.logger().warning("%s: a proof was asked for, and this worker has no key to sign with (GREYLAG_POLICY)", environment)
        return
    proof = documents.proof_of(environment, nonce, datetime.now(UTC), held)
    made = worker_keys.sign(proof, rules.signing, settings.load())
    row = {"document": proof.canonical, "key": made.key, "signature": made.signature}
    reports.publish_table(proof_key(environment), [row], f"{environment}: verified for nonce {nonce[:12]}")
