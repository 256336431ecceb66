"""The policy of a protected environment: a file of its worker's own, outside the checkout, named by GREYLAG_POLICY.

It says who may approve, how many of them, by which signatures, with whose keys, which images may run, and which commands. fleet.yaml, which a merge can
change, may only tighten it.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from migrator import errors
from tasks.fleet.models import Fleet, Target
from tasks.fleet.rules_section import ApprovalRules
from tasks.settings import Settings

VARIABLE = "GREYLAG_POLICY"

ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""What a token may be signed with: public keys only. `none` signs nothing, and HS256 would take the issuer's public key for a shared secret."""


class Verifier(enum.StrEnum):
    """The kinds of evidence that a policy asks for."""

    SSH = "ssh"
    OIDC = "oidc"
    CLAIM = "claim"


class Section(BaseModel):
    """Base of the file's sections: unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class SshKeys(Section):
    """People's keys: OpenSSH's allowed_signers file, and a key revocation list (KRL) or a list of revoked public keys."""

    allowed_signers: Path
    revoked: Path | None = None


class Issuer(Section):
    """One identity provider. `claims` must all be in the token, with exactly these values; `person` is the claim that names who is behind it.

    `jwks` is a file or an address with its public keys; without it the issuer's own configuration names the address.
    """

    issuer: str
    claims: Annotated[Mapping[str, str], Field(min_length=1)]
    algorithms: Annotated[tuple[str, ...], Field(min_length=1)] = ("RS256",)
    person: str = "sub"
    jwks: str = ""
    audience: str = "greylag-approval"
    """The token's audience is this, a colon, and the digest of the approval that it is for."""

    @model_validator(mode="after")
    def _asymmetric(self) -> Issuer:
        if other := sorted(set(self.algorithms) - ALGORITHMS):
            raise ValueError(f"algorithms: {other[0]} is not accepted; known here: {', '.join(sorted(ALGORITHMS))}")
        if not self.issuer.startswith(("https://", "http://127.0.0.1", "http://localhost")):
            raise ValueError(f'issuer: "{self.issuer}" does not begin with https://')
        return self


class Transit(Section):
    """A key that never leaves Vault: the mount of a transit engine, and the key's name. The version in use is part of the key's id."""

    key: str
    mount: str = "transit"


class Signing(Section):
    """The worker's own key, with which it signs what it has read: `id`, and a file (ed25519, PEM or OpenSSH) or a key of Vault's transit engine."""

    id: str
    file: Path | None = None
    transit: Transit | None = None

    @model_validator(mode="after")
    def _one(self) -> Signing:
        if (self.file is None) == (self.transit is None):
            raise ValueError("signing: give either `file` or `transit`")
        return self


class WorkerKey(Section):
    """A key that this worker accepts: `public` (an OpenSSH line or base64 of 32 bytes), or a key of Vault's transit engine, which then verifies.

    During a rotation the old and the new key stand side by side; `revoked` ends one at once.
    """

    id: str
    public: str = ""
    transit: Transit | None = None
    revoked: bool = False

    @model_validator(mode="after")
    def _one(self) -> WorkerKey:
        if not self.public and self.transit is None:
            raise ValueError(f"key {self.id}: give either `public` or `transit`")
        return self


class Commands(Section):
    """Which commands of fleet.yaml this worker runs."""

    preflight: bool = True
    after_migrate: bool = False


class Policy(Section):
    """The whole file.

    Attributes:
        environment: the environment that this worker serves. protected: whether it is entered through an approval, whatever fleet.yaml says; a worker that
            only has a key of its own, to prove what it holds, says `false`.
        approvers: per person the names under which allowed_signers or a token knows them; who isn't listed approves nothing. Persons are counted, not names
            or keys.
        minimum: how many persons have to approve. not_promoter: whether the one who promoted counts among them.
        validity_hours: the longest time between planning and the first statement.
        keys: per environment the keys of its worker; under the own environment those with which this worker's own plans may be signed.
        images: the repositories from which a migration may run; `{service}` and `{environment}` are replaced.
        registry_credentials: a file as Docker's config.json, for asking a registry which digest a tag has.
    """

    environment: str
    protected: bool = True
    verifier: Verifier = Verifier.CLAIM
    minimum: Annotated[int, Field(ge=1, le=20)] = 1
    not_promoter: bool = False
    validity_hours: Annotated[float, Field(gt=0, le=24)] = 24.0
    approvers: Mapping[str, tuple[str, ...]] = {}
    promoters: Mapping[str, tuple[str, ...]] = {}
    ssh: SshKeys | None = None
    oidc: tuple[Issuer, ...] = ()
    signing: Signing | None = None
    keys: Mapping[str, tuple[WorkerKey, ...]] = {}
    images: tuple[str, ...] = ()
    registry_credentials: Path | None = None
    commands: Commands = Commands()

    _digest: str = PrivateAttr(default="0" * 64)

    @model_validator(mode="after")
    def _complete(self) -> Policy:
        if self.verifier is Verifier.CLAIM:
            if self.not_promoter:
                raise ValueError("not_promoter needs the verifier ssh or oidc: a claim does not say who promoted")
            return self
        if self.signing is None or not self.keys.get(self.environment):
            raise ValueError(
                f"verifier {self.verifier} needs `signing`, and the public key under keys.{self.environment}: the plan is signed"
            )
        if self.verifier is Verifier.SSH and self.ssh is None:
            raise ValueError("verifier ssh needs the section `ssh`")
        if self.verifier is Verifier.OIDC and not self.oidc:
            raise ValueError("verifier oidc needs the section `oidc`")
        if self.not_promoter and self.ssh is None:
            raise ValueError("not_promoter needs the section `ssh`: a promotion is signed with ssh-keygen")
        if self.verifier is Verifier.SSH and len(self.approvers) < self.minimum:
            raise ValueError(f"approvers: {len(self.approvers)} can't be the {self.minimum} of `minimum`")
        seen: dict[str, str] = {}
        for person, names in self.approvers.items():
            for name in names:
                if seen.setdefault(name, person) != person:
                    raise ValueError(f"approvers: {name} is both {seen[name]} and {person}")
        return self

    @property
    def digest(self) -> str:
        """The sha256 of the file, which is part of every plan."""
        return self._digest

    @property
    def signed(self) -> bool:
        """Tells whether approvals need a signature."""
        return self.verifier is not Verifier.CLAIM

    @property
    def validity(self) -> timedelta:
        """The longest time between planning and the first statement."""
        return timedelta(hours=self.validity_hours)

    def read_from(self, content: bytes) -> Policy:
        """Returns the same policy with the digest of the file's content."""
        found = self.model_copy()
        found._digest = hashlib.sha256(content).hexdigest()
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of the persons who may approve or promote."""
        listed = {**self.promoters, **self.approvers}
        return tuple(dict.fromkeys([*listed, *(name for names in listed.values() for name in names)]))

    def person(self, name: str) -> str:
        """Returns the person who has a name; empty for a name that nobody has."""
        return next((person for person, names in self.approvers.items() if name in names or name == person), "")

    def known_person(self, name: str) -> str:
        """Returns the person who has a name, also one who may only promote; a name that is nobody's stands for itself."""
        found = self.person(name)
        return found or next((person for person, names in self.promoters.items() if name in names), name)

    def tightened(self, rules: ApprovalRules) -> Policy:
        """Returns the policy with what fleet.yaml asks for besides. What would weaken it changes nothing: of two numbers the stricter counts."""
        hours = self.validity_hours if rules.validity_hours is None else min(self.validity_hours, rules.validity_hours)
        allowed = self.commands
        found = self.model_copy(
            update={
                "minimum": max(self.minimum, rules.minimum),
                "not_promoter": self.not_promoter or rules.not_promoter,
                "validity_hours": hours,
                "commands": allowed,
            }
        )
        if (found.not_promoter or found.minimum > 1) and not found.signed:
            raise errors.UsageError(
                f"fleet.yaml asks for {'somebody else than the promoter' if found.not_promoter else f'{found.minimum} persons'}"
                f" in {self.environment}, and its worker's policy takes a claim",
                code="bad-policy",
                hint="let the policy's verifier be ssh or oidc: a claim is one text that anybody types",
            )
        return found

    def repositories(self, target: Target) -> tuple[str, ...]:
        """Returns the repositories from which a target's migration may run: the policy's, else that of fleet.yaml."""
        words = {"service": target.service, "environment": target.environment}
        found = self.images or ((target.job.image,) if target.job.image else ())
        return tuple(item.replace("{service}", words["service"]).replace("{environment}", words["environment"]) for item in found)


UNWRITTEN = "no policy: GREYLAG_POLICY names none, so an approval is a claim that anybody who reaches the Prefect API can make"
"""Told in every run of a protected environment without a policy."""


def load(settings: Settings) -> Policy | None:
    """Reads the file that GREYLAG_POLICY names; None when it names none. Raises UsageError (`bad-policy`)."""
    if settings.policy is None:
        return None
    try:
        content = settings.policy.read_bytes()
    except OSError as error:
        raise _bad(settings.policy, f"it can't be read: {error.strerror}") from None
    return parse(content, settings.policy)


def parse(content: bytes, path: Path) -> Policy:
    """Returns the policy in a file's content; `path` is named in errors, and relative paths begin at its directory. Raises UsageError (`bad-policy`)."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document: Any = YAML(typ="safe", pure=True).load(content.decode("utf-8"))
    except (YAMLError, UnicodeDecodeError):
        raise _bad(path, "it is no YAML in UTF-8") from None
    if not isinstance(document, Mapping):
        raise _bad(path, "a policy is a mapping with `environment` and `verifier`")
    try:
        found = Policy.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise _bad(path, f"{place}: {message}" if place else message) from None
    return _placed(found, path).read_from(content)


def _placed(found: Policy, path: Path) -> Policy:
    """Returns the policy with its paths made absolute."""

    def at(item: Path | None) -> Path | None:
        return None if item is None else path.parent / item

    changes: dict[str, Any] = {"registry_credentials": at(found.registry_credentials)}
    if found.ssh is not None:
        changes["ssh"] = found.ssh.model_copy(update={"allowed_signers": at(found.ssh.allowed_signers), "revoked": at(found.ssh.revoked)})
    if found.signing is not None:
        changes["signing"] = found.signing.model_copy(update={"file": at(found.signing.file)})
    if found.oidc:
        changes["oidc"] = tuple(
            item if not item.jwks or "://" in item.jwks else item.model_copy(update={"jwks": str(path.parent / item.jwks)})
            for item in found.oidc
        )
    return found.model_copy(update=changes)


def of(fleet: Fleet, environment: str, settings: Settings) -> Policy | None:
    """Returns the policy under which this worker serves an environment, tightened by fleet.yaml; None when there is none for it.

    A worker with a policy serves its own environment: an environment that fleet.yaml calls unprotected is still under it. Raises UsageError
    (`bad-policy`).
    """
    found = load(settings)
    if found is None or fleet.environment_name(found.environment) != environment:
        return None
    return found.tightened(fleet.environment(environment).approval)


def fleet_digest(fleet: Fleet) -> str:
    """Returns the sha256 of fleet.yaml as this worker has it, which is part of every plan."""
    return hashlib.sha256(fleet.path.read_bytes()).hexdigest()


def _bad(path: Path, message: str) -> errors.UsageError:
    return errors.UsageError(
        message, code="bad-policy", where=errors.Location(str(path)), hint="docs/concepts/approvals.md describes the file"
    )
