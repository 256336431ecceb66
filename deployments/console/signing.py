"""What `approve` and `promote` sign on the machine of the person who types them: the worker's document, checked before; a promotion of this checkout."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.console import edge
from migrator import errors
from tasks import approval, fleet, migration, settings
from tasks.approval import documents, oidc, policy, ssh, worker_keys
from tasks.approval.documents import ContentsPart, Envelope, Promotion
from tasks.approval.policy import Policy

if TYPE_CHECKING:
    from flows.plan_documents import Waiting


def rules(path: str) -> Policy:
    """Returns the policy by which documents are checked here: the given file, else GREYLAG_POLICY's.

    Raises UsageError (`bad-policy`), also when there is none: without it nobody can tell whose key signed the plan.
    """
    chosen = settings.load()
    found = policy.load(chosen.model_copy(update={"policy": Path(path)}) if path else chosen)
    if found is None:
        raise errors.UsageError(
            "whose key signs the plans of this environment? No policy says so",
            code="bad-policy",
            hint="give -policy FILE (or GREYLAG_POLICY): the worker's policy, or a copy with its `keys`",
        )
    return found


def waiting(environment: str, known: Policy, bundle: str = "", plan: str = "") -> Waiting:
    """Returns the newest published document of an environment that its own worker has signed, that shows what it says, and that has not ended.

    Raises PlanRefused: `approval-unknown-plan` when there is none with these digests, else what is wrong with the newest one.
    """
    from flows import plan_documents

    problem: errors.GreylagError | None = None
    for item in plan_documents.read(environment):
        manifest = item.approval.manifest
        if (bundle and manifest.bundle != bundle) or (plan and manifest.plan != plan):
            continue
        try:
            worker_keys.verify(item.approval, item.signature, environment, known, settings.load())
            documents.require_shown(item.approval, item.contents)
            if documents.instant(item.approval.expires) <= datetime.now(UTC):
                raise errors.PlanRefused(
                    f"the plan of {item.approval.made} ended at {item.approval.expires}", code="approval-expired", hint="promote again"
                )
            return item
        except errors.PlanRefused as error:
            problem = problem or error
    raise problem or errors.PlanRefused(
        f"{environment}'s worker has published no signed plan with these digests",
        code="approval-unknown-plan",
        hint=f"`greylag promote` has it planned; plan-environment/plan-environment-{environment} does so alone",
    )


def show(found: Waiting, known: Policy, key: str) -> None:
    """Prints everything that a signature of this document says yes to, with the SQL. Control characters of a file are shown, not sent to the terminal."""
    given = found.approval
    lines = [
        f"{given.environment}: plan of {given.made}, signed by its worker with {key}",
        f"bundle   {given.manifest.bundle}",
        f"plan     {given.manifest.plan}",
        f"document {given.digest}",
        f"ends     {given.expires}",
        f"mode     {given.mode or 'as the worker chooses'}; backoff_limit {given.backoff_limit}, deadline {given.active_deadline_seconds} s",
        f"promoted by {given.promoter or 'nobody who signed it'}",
        *(f"warning  {item}" for item in given.hazards),
    ]
    for issuer in known.oidc:
        lines.append(f"a token of {issuer.issuer} needs the audience {oidc.audience(issuer, given)}")
    for part in given.services:
        lines += ["", f"== {part.service}: {part.database}" + (f", image {part.image}" if part.image else "")]
        lines += [f"accepts  {item}" for item in part.accepted]
        lines += _sql(next((item for item in found.contents.services if item.service == part.service), None))
    edge.show("\n".join(_visible(line) for line in lines))


def _sql(part: ContentsPart | None) -> list[str]:
    if part is None or not part.steps:
        return ["(nothing to do)"]
    return [line for step in part.steps for line in (f"-- {step.name} ({step.direction})", *step.text.rstrip("\n").split("\n"))]


def _visible(line: str) -> str:
    return "".join(letter if letter.isprintable() or letter == "\t" else f"\\x{ord(letter):02x}" for letter in line.removesuffix("\r"))


def approved(found: Waiting, *, key: str = "", token_file: str = "") -> str:
    """Returns the signed document as one line: with a key of OpenSSH, or with an identity provider's token from a file."""
    if token_file:
        try:
            signature = Path(token_file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise errors.UsageError(
                f"{token_file} can't be read: {type(error).__name__}",
                code="signing-failed",
                hint="write the token, and nothing else, to a file",
            ) from None
    else:
        signature = ssh.sign(found.approval.signed, Path(key).expanduser(), ssh.APPROVAL)
    return Envelope(document=found.approval.canonical, worker=found.signature, signature=signature).packed()


def promoted(found: fleet.Fleet, until: str, services: Sequence[str], image: str, key: str) -> tuple[str, str]:
    """Signs a promotion of this checkout's files; returns its bundle, and the signed document as one line."""
    first = next(iter(found.environments))
    names = list(services) or list(found.services)
    manifest = approval.ReleaseManifest(bundles={name: migration.load_bundle(found.target(name, first)).digest() for name in names})
    document = Promotion(id=documents.nonce(), until=until, made=documents.moment(datetime.now(UTC)), bundle=manifest.bundle, image=image)
    signature = ssh.sign(document.signed, Path(key).expanduser(), ssh.PROMOTION)
    return manifest.bundle, Envelope(document=document.canonical, signature=signature).packed()
