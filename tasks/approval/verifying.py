"""Decides whether signed approvals let a run into a protected environment, by the worker's own policy: whose they are, how many, and what they are for.

Everything that comes over the Prefect API is only transport. An approval's document was signed by this worker itself when it planned, and then by
people or by an identity provider; what a run asks for besides is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from migrator import errors
from tasks.approval import documents, oidc, ssh, worker_keys
from tasks.approval.documents import Approval, Envelope, Promotion, Proof, Verified
from tasks.approval.policy import Policy, Verifier
from tasks.settings import Settings

CLOCKS = timedelta(minutes=5)
"""A document may lie this far in the future: clocks differ a little."""

PROOF_AGE = timedelta(minutes=10)
"""The greatest age of the previous environment's proof at the first statement."""


@dataclass(frozen=True)
class Wanted:
    """What a run asks for in a protected environment; empty texts and None ask for nothing of their own.

    `services`: those of the run, in any order; a run for one service of the release is allowed, and says so with `part`. `accepted`: the hazards that
    would be accepted of a service's files, which is never left to the approval: what people did not read isn't accepted.
    """

    environment: str
    fleet: str
    services: tuple[str, ...] = ()
    part: bool = False
    bundles: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    accepted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mode: str = ""
    backoff_limit: int | None = None
    active_deadline_seconds: float | None = None


@dataclass(frozen=True)
class Accepted:
    """Approvals that are enough: the document, and whose they are. (An ssh signature is named by its text's digest, as a token is.)"""

    approval: Approval
    identities: tuple[oidc.Identity, ...]

    @property
    def persons(self) -> tuple[str, ...]:
        """The persons who count."""
        return tuple(item.person for item in self.identities)

    def __str__(self) -> str:
        return ", ".join(item.shown for item in self.identities)


Received = Callable[[Approval, str], oidc.Identity | None]
"""Returns what a token proved when it was received earlier, by its fingerprint; None when it wasn't."""


def not_received(approval: Approval, token: str) -> oidc.Identity | None:
    """Knows of no earlier receipt."""
    return None


def accepted(
    envelopes: Sequence[Envelope], policy: Policy, wanted: Wanted, settings: Settings, now: datetime, received: Received = not_received
) -> Accepted:
    """Returns the approval that these envelopes give together. All of them must hold the same document.

    Raises PlanRefused: `approval-unsigned`, `bad-document`, `key-unknown`, `key-revoked`, `signature-invalid`, `approval-signature`,
    `approval-revoked`, `approval-minimum`, `approval-promoter`, `approval-expired`, `approval-other-policy`, `approval-other-run`.
    """
    if not envelopes:
        raise errors.PlanRefused(
            f"nobody has signed this approval, and the policy of {policy.environment} asks for {policy.verifier}",
            code="approval-unsigned",
            hint=f"`greylag approve {policy.environment}` shows what waits, signs it, and prints what the form's field `signature` takes",
        )
    text = envelopes[0].document
    approval = Approval.read(text)
    if any(item.document != text for item in envelopes):
        raise errors.PlanRefused(
            "these signatures are for different documents", code="bad-document", hint="let everybody sign the same plan: the newest one"
        )
    require_own(approval, envelopes, policy, settings)
    require_current(approval, policy, now)
    require_same(approval, wanted)
    given, reasons = _persons(approval, envelopes, policy, now, received)
    persons = _counted(approval, given, policy)
    if len(persons) < policy.minimum:
        raise _too_few(persons, given, reasons, policy)
    return Accepted(approval, tuple(given[name] for name in persons))


def require_own(approval: Approval, envelopes: Iterable[Envelope], policy: Policy, settings: Settings) -> None:
    """Raises PlanRefused unless the environment's own worker has signed the document."""
    signature = next((item.worker for item in envelopes if item.worker is not None), None)
    if signature is None:
        raise errors.PlanRefused(
            "no worker has signed this plan",
            code="signature-invalid",
            hint=f"plan again: {policy.environment}'s worker signs what it plans, with `signing` of its policy",
        )
    worker_keys.verify(approval, signature, policy.environment, policy, settings)


def require_current(approval: Approval, policy: Policy, now: datetime) -> None:
    """Raises PlanRefused unless the document is for this environment, in time, and made under today's policy."""
    if approval.environment != policy.environment:
        raise errors.PlanRefused(
            f"this approval is for {approval.environment}, not for {policy.environment}",
            code="approval-missing",
            hint="approve the right one",
        )
    made, end = documents.instant(approval.made), documents.instant(approval.expires)
    end = min(end, made + policy.validity, made + documents.LONGEST_VALIDITY)
    if now >= end:
        raise errors.PlanRefused(
            f"the approval ended at {documents.moment(end)}; now it is {documents.moment(now)}",
            code="approval-expired",
            hint="promote again: it plans afresh, and asks for a new approval",
        )
    if made > now + CLOCKS:
        raise errors.PlanRefused(
            f"the plan was made at {documents.moment(made)}, and here it is {documents.moment(now)}",
            code="approval-expired",
            hint="the clocks of the workers differ: set them right",
        )
    if approval.policy != policy.digest:
        raise errors.PlanRefused(
            "the worker's policy has changed since this was planned",
            code="approval-other-policy",
            hint="promote again under today's policy",
        )


def require_same(approval: Approval, wanted: Wanted) -> None:
    """Raises PlanRefused (`approval-other-policy`, `approval-other-run`) when a run asks for something else than what was approved."""
    if approval.fleet != wanted.fleet:
        raise errors.PlanRefused(
            "fleet.yaml has changed since this was planned", code="approval-other-policy", hint="promote again with today's fleet.yaml"
        )
    approved = {item.service for item in approval.services}
    services = set(wanted.services) or approved
    if not services <= approved or (services != approved and not wanted.part):
        raise _other("services", ", ".join(sorted(services)), ", ".join(sorted(approved)))
    for name, bundle in wanted.bundles.items():
        part = approval.part(name)
        if bundle and (part is None or part.bundle != bundle):
            raise _other(f"bundle of {name}", bundle[:12], part.bundle[:12] if part else "none")
    for name, image in wanted.images.items():
        part = approval.part(name)
        if image and (part is None or part.image != image):
            raise _other(f"image of {name}", image, (part.image if part else "") or "none")
    for name, accepts in wanted.accepted.items():
        part = approval.part(name)
        if part is not None and sorted(accepts) != sorted(part.accepted):
            raise _other(f"accepted hazards of {name}", "; ".join(accepts) or "none", "; ".join(part.accepted) or "none")
    if wanted.mode and wanted.mode != approval.mode:
        raise _other("mode", wanted.mode, approval.mode or "the worker's own choice")
    if wanted.backoff_limit is not None and wanted.backoff_limit != approval.backoff_limit:
        raise _other("backoff_limit", str(wanted.backoff_limit), str(approval.backoff_limit))
    if wanted.active_deadline_seconds is not None and seconds(wanted.active_deadline_seconds) != approval.active_deadline_seconds:
        raise _other("active_deadline_seconds", seconds(wanted.active_deadline_seconds), approval.active_deadline_seconds)


def seconds(value: float) -> str:
    """Returns a number of seconds as documents have it."""
    return f"{value:g}"


def _persons(
    approval: Approval, envelopes: Sequence[Envelope], policy: Policy, now: datetime, received: Received
) -> tuple[dict[str, oidc.Identity], list[errors.GreylagError]]:
    """Returns the persons whose signatures are valid, each with what it proves, and why the other signatures are not."""
    given: dict[str, oidc.Identity] = {}
    reasons: list[errors.GreylagError] = []
    for item in envelopes:
        if not item.signature:
            continue
        try:
            if policy.verifier is Verifier.OIDC:
                identity = received(approval, oidc.fingerprint(item.signature)) or oidc.verify(item.signature, approval, policy, now)
                given[identity.person] = identity
            else:
                person = ssh.person(ssh.verify(approval.signed, item.signature, ssh.APPROVAL, policy), policy)
                given[person] = oidc.Identity(person, f"{person} (ssh)", oidc.fingerprint(item.signature))
        except errors.PlanRefused as error:
            reasons.append(error)
    return given, reasons


def _counted(approval: Approval, given: Mapping[str, oidc.Identity], policy: Policy) -> list[str]:
    if not policy.not_promoter:
        return sorted(given)
    if not approval.promoter:
        raise errors.PlanRefused(
            f"{policy.environment} asks for somebody else than the promoter, and nobody has signed this promotion",
            code="approval-promoter",
            hint="promote with `greylag promote -key FILE`, which signs it",
        )
    persons = sorted(set(given) - {approval.promoter})
    if given and not persons:
        raise errors.PlanRefused(
            f"{approval.promoter} promoted this, and can't approve it too", code="approval-promoter", hint="somebody else has to approve"
        )
    return persons


def _too_few(
    persons: Sequence[str], given: Mapping[str, oidc.Identity], reasons: Sequence[errors.GreylagError], policy: Policy
) -> errors.GreylagError:
    if not given and reasons:
        return reasons[0]
    if not given:
        return errors.PlanRefused(
            f"nobody has signed this approval, and the policy of {policy.environment} asks for {policy.verifier}",
            code="approval-unsigned",
            hint=f"`greylag approve {policy.environment}` signs it, and prints what the form's field `signature` takes",
        )
    more = f"; {'; '.join(item.message for item in reasons)}" if reasons else ""
    return errors.PlanRefused(
        f"{', '.join(persons)} approved: {len(persons)} of {policy.minimum} persons{more}",
        code="approval-minimum",
        hint="somebody else has to approve, too; two keys of one person count once",
    )


def promoter(envelope: Envelope, policy: Policy, until: Collection[str], bundle: str) -> tuple[str, str]:
    """Returns who promoted, and the digest of the signed promotion. Raises PlanRefused (`approval-signature`, `approval-revoked`, `bad-document`)."""
    promotion = Promotion.read(envelope.document)
    if promotion.until not in until or promotion.bundle != bundle:
        raise errors.PlanRefused(
            f"the signed promotion is for bundle {promotion.bundle[:12]} until {promotion.until}", code="bad-document", hint="promote again"
        )
    names = ssh.verify(promotion.signed, envelope.signature, ssh.PROMOTION, policy)
    persons = {policy.known_person(name) for name in names}
    if len(persons) != 1:
        raise errors.PlanRefused(
            f"its key is that of {' and of '.join(sorted(persons))}", code="approval-signature", hint="one key belongs to one person"
        )
    return persons.pop(), promotion.digest


def require_proof(
    proof: Proof,
    envelope: Envelope,
    previous: str,
    given: str,
    bundles: Mapping[str, str],
    policy: Policy,
    settings: Settings,
    *,
    asked: datetime,
    now: datetime,
) -> None:
    """Raises PlanRefused unless the previous environment's worker has signed, for this nonce, that it holds these bundles.

    `key-unknown`, `key-revoked`, `signature-invalid`; `proof-refused` (another nonce, environment or bundle, not read since it was asked for);
    `proof-expired`.

    Args:
        given: the nonce that this worker made. asked: when it made it, which is after the approval was accepted.
    """
    if envelope.worker is None:
        raise _no_proof(f"{previous}'s worker has signed nothing")
    worker_keys.verify(proof, envelope.worker, previous, policy, settings)
    if proof.environment != previous or proof.nonce != given:
        raise _no_proof(f"what {proof.environment}'s worker signed is not the answer to this question")
    verified = documents.instant(proof.verified)
    if verified < asked - CLOCKS or verified > now + CLOCKS:
        raise _no_proof(f"{previous} says that it was read at {proof.verified}, and it was asked for at {documents.moment(asked)}")
    if now - asked > PROOF_AGE:
        raise errors.PlanRefused(
            f"{previous}'s proof is older than {PROOF_AGE.total_seconds() / 60:.0f} minutes",
            code="proof-expired",
            hint="Retry asks for a new one",
        )
    held: dict[str, Verified] = {item.service: item for item in proof.services}
    for service, bundle in bundles.items():
        if service not in held or held[service].bundle != bundle:
            raise _no_proof(f"{previous} does not hold bundle {bundle[:12]} of {service}")


def _no_proof(message: str) -> errors.PlanRefused:
    return errors.PlanRefused(
        message, code="proof-refused", hint="promote the release to that environment first; its worker then proves it"
    )


def _other(what: str, given: str, approved: str) -> errors.PlanRefused:
    return errors.PlanRefused(
        f"this run asks for {what}: {given}; approved was {approved}",
        code="approval-other-run",
        hint="leave it out: the approval says what is run",
    )
