"""What a Job demands that has no flow beside it: an approval that people have signed, for exactly this image, these files, this plan, this database.

The document is the one that the environment's worker plans and `greylag approve -print` signs; its line comes in by `-approval`. Who may sign is written
in a directory of the platform's own (`-approvers`): allowed_signers, and `revoked` if there is one.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from migrator import errors, signatures
from migrator.planning import canonical
from migrator.planning.approvals import Approval

KIND = "approval/1"
LONGEST_VALIDITY = timedelta(hours=24)
"""As for every approval: the databases and the people that it was given for change."""

LONGEST = 1_000_000
"""Characters that are read; an approval of a hundred services has a tenth of that."""

_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Approvers:
    """Who may sign, and how many of them must. `directory` holds `allowed_signers`, ssh-keygen's file, and maybe `revoked`."""

    directory: Path
    minimum: int = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """What is about to be done: the service, the image that does it, the files' bundle digest, the database's identity as the server tells it."""

    service: str
    image: str
    bundle: str
    database: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """An approval that is enough: how it is used up, the digest of the plan that it is for, and who has signed."""

    approval: Approval
    plan: str
    persons: tuple[str, ...]


def accepted(given: str, approvers: Approvers, asked: Asked, plan: str = "") -> Accepted:
    """Returns the approval that these lines give together; each is what `greylag approve -print` prints, all of the same document.

    `plan` is the digest that the run is bound to besides, if it is. Whether the approval is still in time is asked when it is begun: what is begun may go on.

    Raises PlanRefused: `approval-unsigned`, `bad-document`, `approval-signature`, `approval-revoked`, `approval-minimum`, `approval-other-run`,
    `approval-other-database`.
    """
    lines = [line for line in re.split(r"[\s,]+", given) if line]
    if not lines:
        raise errors.PlanRefused(
            "something is to be applied, this Job demands a signed approval, and there is none",
            code="approval-unsigned",
            hint="`greylag approve ENVIRONMENT -key FILE … -print` prints it; the chart takes it as migration.signedApproval",
        )
    envelopes = [_unpacked(line) for line in lines]
    text = envelopes[0][0]
    if any(document != text for document, _ in envelopes):
        raise _bad("these signatures are for different documents")
    document = canonical.read(text)
    if document.get("greylag") != KIND:
        raise _bad("what was signed is no approval of this version of greylag")
    part = _part(document, asked.service)
    _require_same(part, asked, plan)
    persons = _persons(text, [signature for _, signature in envelopes], approvers)
    made, expires = (_instant(document, name) for name in ("made", "expires"))
    until = min(expires, made + LONGEST_VALIDITY)
    return Accepted(Approval(canonical.digest(document), until.timestamp(), signed=True), _text(part, "plan"), persons)


def _require_same(part: Mapping[str, object], asked: Asked, plan: str) -> None:
    for name, wanted in (("image", asked.image), ("bundle", asked.bundle), ("plan", plan or _text(part, "plan"))):
        approved = _text(part, name)
        if wanted != approved:
            raise errors.PlanRefused(
                f"{name} of {asked.service}: this is {_short(wanted)}, approved was {_short(approved)}",
                code="approval-other-run",
                hint="release what was approved, or have this one planned and approved",
            )
    if (approved := _text(part, "database")) != asked.database:
        raise errors.PlanRefused(
            f"{asked.service}: this database is {asked.database}, approved was {approved}",
            code="approval-other-database",
            hint="was it restored or moved since the plan? Look, then plan and approve again",
        )


def _persons(text: str, given: list[str], approvers: Approvers) -> tuple[str, ...]:
    """Returns who has signed. Raises PlanRefused where they are too few, with the reason why another signature does not count."""
    signers, revoked = (approvers.directory / name for name in ("allowed_signers", "revoked"))
    known = _known(signers)
    found: set[str] = set()
    reasons: list[errors.PlanRefused] = []
    for signature in given:
        try:
            names = signatures.verify(
                text.encode("ascii"), signature, signatures.APPROVAL, signers, revoked if revoked.exists() else None, known
            )
            persons = {known.get(name, name) for name in names}
            if len(persons) > 1:
                raise signatures.refused(f"its key is that of {' and of '.join(sorted(persons))}: nobody can tell who signed")
            found |= persons
        except errors.PlanRefused as error:
            reasons.append(error)
    if not found and reasons:
        raise reasons[0]
    if len(found) < approvers.minimum:
        why = f"; {reasons[0].message}" if reasons else ""
        raise errors.PlanRefused(
            f"{len(found)} of {approvers.minimum} persons have signed ({', '.join(sorted(found))}){why}",
            code="approval-minimum",
            hint="somebody else signs, too; two keys of one person count once",
        )
    return tuple(sorted(found))


def _known(signers: Path) -> dict[str, str]:
    """Returns the principals of allowed_signers, each with its person: the first principal of its line. Raises UsageError (`bad-policy`)."""
    try:
        text = signers.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise errors.UsageError(
            f"-approvers: {signers} can't be read", code="bad-policy", hint="mount the directory with allowed_signers (ssh-keygen(1))"
        ) from None
    lines = [line.split()[0].strip('"').split(",") for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found: dict[str, str] = {}
    for names in lines:
        for name in names:
            found.setdefault(name, names[0])
    return found


def _unpacked(line: str) -> tuple[str, str]:
    """Returns document and signature of one line."""
    try:
        if len(line) > LONGEST:
            raise ValueError
        envelope = json.loads(base64.b64decode(line, altchars=b"-_", validate=True))
        document, signature = envelope["document"], envelope["signature"]
        if isinstance(document, str) and isinstance(signature, str) and document.isascii():
            return document, signature
    except (ValueError, binascii.Error, KeyError, TypeError, RecursionError):
        pass
    raise _bad("the approval is not what `greylag approve -print` prints")


def _part(document: Mapping[str, object], service: str) -> Mapping[str, object]:
    """Returns what the document says of the service."""
    services = document.get("services")
    parts = [item for item in services if isinstance(item, dict)] if isinstance(services, list) else []
    found = [item for item in parts if item.get("service") == service]
    if len(found) != 1:
        named = ", ".join(sorted(str(item.get("service")) for item in parts)) or "none"
        raise errors.PlanRefused(
            f"the approval is for other services than {service}: {named}",
            code="approval-other-run",
            hint="give the approval of this service's release; GREYLAG_SERVICE names the service",
        )
    return found[0]


def _text(document: Mapping[str, object], name: str) -> str:
    value = document.get(name, "")
    if not isinstance(value, str):
        raise _bad(f"{name} is no text")
    return value


def _instant(document: Mapping[str, object], name: str) -> datetime:
    try:
        return datetime.strptime(_text(document, name), _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise _bad(f"{name} is no time") from None


def _short(value: str) -> str:
    return value or "none"


def _bad(message: str) -> errors.PlanRefused:
    return errors.PlanRefused(message, code="bad-document", hint="copy the whole line; if it is whole, plan and approve again")
