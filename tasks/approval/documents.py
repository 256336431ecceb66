"""The documents that are signed: the approval with the contents that it is for, the promotion, the proof of the previous environment (pure).

A document is a frozen model; what is signed is its canonical text. Its first key says what it is, so that no signature of one kind passes for one of
another. Times are whole seconds of UTC.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from migrator import errors
from migrator.planning import canonical, plans
from tasks.approval.claims import ReleaseManifest

LONGEST_VALIDITY = timedelta(hours=24)
"""No approval is good for longer: the databases and the people that it was given for change."""

NONCE_BYTES = 32

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Nonce = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Moment = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]

LONGEST_ENVELOPE = 1_000_000
"""Characters of an envelope that are read; an approval of a hundred services has a tenth of that."""


def nonce() -> str:
    """Returns a new random number that nobody can guess, as 64 hex digits."""
    return secrets.token_hex(NONCE_BYTES)


def moment(when: datetime) -> str:
    """Returns a time as the documents have it."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def instant(text: str) -> datetime:
    """Returns the time that a document names."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


class Document(BaseModel):
    """Base of all that is signed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def data(self) -> dict[str, object]:
        """Returns the document as JSON data."""
        return self.model_dump(mode="json")

    @property
    def canonical(self) -> str:
        """The canonical text."""
        return canonical.text(self.data())

    @property
    def signed(self) -> bytes:
        """The bytes that a signature covers."""
        return canonical.encoded(self.data())

    @property
    def digest(self) -> str:
        """The document's identity: sha256 of what is signed."""
        return canonical.digest(self.data())

    @classmethod
    def read(cls, text: str) -> Self:
        """Reads a canonical text. Raises PlanRefused (`bad-document`)."""
        document = canonical.read(text)
        try:
            return cls.model_validate_json(json.dumps(document))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "the document"
            raise errors.PlanRefused(
                f"this is no {cls.__name__} document of this version of greylag: {place}: {first['msg']}",
                code="bad-document",
                hint="plan again with the same version of greylag on both sides",
            ) from None


class Part(Document):
    """What an approval says of one service. `database` is the identity that the server tells, `image` names a digest, or is empty; `accepted` are the
    hazards that fleet.yaml accepts of its files, as `FILE:CODE:REASON`."""

    service: str
    database: str
    bundle: Digest
    plan: Digest
    image: str = ""
    accepted: tuple[str, ...] = ()


class Approval(Document):
    """What people approve: one release in one environment, until an end.

    Attributes:
        id: a random number, so that no approval of one planning passes for one of another.
        policy, fleet: digests of the worker's policy and of its fleet.yaml when this was planned.
        contents: digest of the `Contents`, which hold the SQL.
        hazards: the warnings that came with the plan, as `service: code`.
        promotion: digest of the signed promotion, empty without one; promoter: the person who signed it.
    """

    greylag: Literal["approval/1"] = "approval/1"
    id: Nonce
    environment: str
    made: Moment
    expires: Moment
    policy: Digest
    fleet: Digest
    contents: Digest
    services: Annotated[tuple[Part, ...], Field(min_length=1)]
    mode: str = ""
    backoff_limit: int = 3
    active_deadline_seconds: str = "900"
    hazards: tuple[str, ...] = ()
    promotion: str = ""
    promoter: str = ""

    @property
    def manifest(self) -> ReleaseManifest:
        """The release that it is for."""
        return ReleaseManifest(
            bundles={item.service: item.bundle for item in self.services}, plans={item.service: item.plan for item in self.services}
        )

    def part(self, service: str) -> Part | None:
        """Returns what it says of a service."""
        return next((item for item in self.services if item.service == service), None)


class ContentsStep(Document):
    """One migration as it is shown: `text` is the file's own, before ENVSUB. A file that isn't UTF-8 has its bytes in `raw`, as base64."""

    version: int
    name: str
    direction: str
    text: str
    raw: str = ""

    @classmethod
    def of(cls, version: int, name: str, direction: str, content: bytes) -> ContentsStep:
        """Returns the step with a file's content."""
        shown = content.decode("utf-8", "replace")
        raw = "" if shown.encode() == content else base64.b64encode(content).decode("ascii")
        return cls(version=version, name=name, direction=direction, text=shown, raw=raw)

    @property
    def checksum(self) -> str:
        """The checksum of what is shown, as the plan's digest has it; empty when `raw` is something else than the text."""
        content = base64.b64decode(self.raw) if self.raw else self.text.encode()
        if content.decode("utf-8", "replace") != self.text:
            return ""
        return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()


class ContentsPart(Document):
    """The migrations of one service, in the order in which they would run."""

    service: str
    steps: tuple[ContentsStep, ...] = ()

    @property
    def plan(self) -> str:
        """The plan's digest, computed from what is shown."""
        return plans.digest_of([(item.version, item.name, item.direction, item.checksum) for item in self.steps])


class Contents(Document):
    """The SQL of a plan: what somebody has to see before approving it."""

    greylag: Literal["contents/1"] = "contents/1"
    environment: str
    services: tuple[ContentsPart, ...]


class Promotion(Document):
    """What somebody signs who promotes: so that whoever approves it is known to be somebody else."""

    greylag: Literal["promotion/1"] = "promotion/1"
    id: Nonce
    until: str
    made: Moment
    bundle: Digest
    image: str = ""


class Verified(Document):
    """What a worker has read of one service's database. `objects` is the digest of the table that tells its schema (facts.md §5)."""

    service: str
    database: str
    bundle: Digest
    version: int
    objects: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""


class Proof(Document):
    """What an environment's worker has read afresh, for the worker that gave the nonce."""

    greylag: Literal["proof/1"] = "proof/1"
    environment: str
    nonce: Nonce
    verified: Moment
    services: tuple[Verified, ...]


class Receipt(Document):
    """What a protected worker notes of an identity provider's token when it arrives: tokens end within minutes, the approval doesn't."""

    greylag: Literal["receipt/1"] = "receipt/1"
    approval: Digest
    token: Digest
    person: str
    shown: str
    received: Moment


class Signature(BaseModel):
    """A worker's signature: the id of its key, and the signature in base64."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    signature: str


class Envelope(BaseModel):
    """A document with its signatures, as one line of text that fits a form's field.

    `worker` is the signature of the worker that made the document, if a worker did; `signature` is a person's (the armoured text of ssh-keygen) or
    an identity provider's (a JWT); empty when nobody has signed yet.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    document: str
    worker: Signature | None = None
    signature: str = ""

    def packed(self) -> str:
        """Returns the envelope as one line."""
        return base64.urlsafe_b64encode(self.model_dump_json().encode()).decode("ascii")

    @classmethod
    def unpacked(cls, line: str) -> Envelope:
        """Reads the line. Raises PlanRefused (`bad-document`)."""
        try:
            if len(line) > LONGEST_ENVELOPE:
                raise ValueError
            return cls.model_validate_json(base64.b64decode("".join(line.split()), altchars=b"-_", validate=True))
        except (ValueError, binascii.Error, ValidationError):
            raise errors.PlanRefused(
                "the signature is not what `greylag approve` or `greylag promote` prints",
                code="bad-document",
                hint="copy the whole line; it begins with ey",
            ) from None


def require_shown(approval: Approval, contents: Contents) -> None:
    """Raises PlanRefused (`bad-document`) unless these contents are the approval's: their digest, and each plan's digest computed from the SQL in them."""
    if contents.digest != approval.contents or contents.environment != approval.environment:
        raise _not_shown("the SQL that is shown is not what the worker signed")
    shown = {item.service: item.plan for item in contents.services}
    wanted = {item.service: item.plan for item in approval.services}
    for service in sorted(shown.keys() | wanted.keys()):
        if shown.get(service) != wanted.get(service):
            raise _not_shown(f"the SQL that is shown of {service} does not have the plan's digest")


def _not_shown(message: str) -> errors.PlanRefused:
    return errors.PlanRefused(message, code="bad-document", hint="do not approve it; plan again, and tell who runs the Prefect server")


def proof_of(environment: str, given: str, when: datetime, found: Sequence[Mapping[str, Any]]) -> Proof:
    """Returns the proof of what was read; each item has service, database, bundle, version and objects."""
    return Proof(environment=environment, nonce=given, verified=moment(when), services=tuple(Verified(**item) for item in found))
