"""The approval of one bundle and one plan in one environment, by a person or a pipeline: a run of its own, with who, when and why (architecture.md §3.2)."""

from __future__ import annotations

from typing import Any

from prefect import State, flow
from prefect.states import Completed

from flows import approvals, endings, labels, parameters, remote_runs, reports
from migrator import errors
from tasks import approval
from tasks.approval.documents import Approval, Envelope


@flow(name=approval.FLOW, flow_run_name=labels.run_name, retries=0, persist_result=False)
def approve_release(
    environment: parameters.ProtectedEnvironment,
    bundle: parameters.RequiredDigest,
    plan: parameters.RequiredDigest,
    confirm: parameters.Confirmation,
    approver: parameters.Words,
    reason: parameters.Words,
    signature: parameters.Envelope = "",
) -> State[Any]:
    """Approves one release for one protected environment: exactly this bundle, exactly this plan, for a limited time.

    Args:
        environment: The environment that may be entered.
        bundle: The release's digest (not a service's bundle), as the plan of that environment shows it (artifact plan-ENVIRONMENT).
        plan: The release plan's digest (not a service's), from the same place. If the databases move meanwhile, another approval is needed.
        confirm: Choose the one that names the environment. It has no default, so that a form sent by a slip approves nothing.
        approver: Who approves. A claim: this server does not check it; what is recorded by the server is how the run was started.
        reason: Why, for those who read it later: a ticket, a change number.
        signature: What `greylag approve` prints, where the environment's policy asks for signatures. Its own worker checks it, nobody else.
    """
    try:
        manifest = _reviewed(environment, bundle, plan, confirm)
        if signature:
            _require_own(signature, environment, manifest)
    except errors.GreylagError as error:
        return endings.failed(error, target=environment)
    labels.attach(environment=environment, bundle=bundle)
    rows = [{"service": name, "bundle": manifest.bundles[name], "plan": manifest.plans[name]} for name in manifest.plans]
    how = "signed, which its worker will check" if signature else "as claimed in the form"
    description = f"{environment} approved by {approver} ({how}): {reason}"
    reports.publish_table(approvals.table_key(environment), rows, f"{description}\n\nrelease `{bundle}`\n\nrelease plan `{plan}`")
    told = f"release {labels.short(bundle)}, release plan {labels.short(plan)} approved by {approver}"
    return Completed(message=f"{environment}: {told} ({'signed' if signature else 'claimed'})")


def _require_own(signature: str, environment: str, manifest: approval.ReleaseManifest) -> None:
    """Raises PlanRefused (`bad-document`) for a signature of another release than the form names; whose it is, is not judged here."""
    given = Approval.read(Envelope.unpacked(signature).document)
    if (given.environment, given.manifest) != (environment, manifest):
        raise errors.PlanRefused(
            f"the signature is for release {labels.short(given.manifest.bundle)} and release plan {labels.short(given.manifest.plan)} in {given.environment}",
            code="bad-document",
            hint="sign what the form names, or fill the form with what was signed",
        )


def _reviewed(environment: str, bundle: str, plan: str, confirm: str) -> approval.ReleaseManifest:
    """Returns the plan to be approved, as that environment's worker published it, if its digests are those of the form."""
    expected = approval.CONFIRMATION.format(environment=environment)
    if confirm != expected:
        raise errors.PlanRefused(
            f'"{confirm}" does not confirm an approval for {environment}', code="approval-unconfirmed", hint=f'choose "{expected}"'
        )
    for rows in remote_runs.tables(approvals.plan_key(environment)):
        manifest = approvals.manifest_of(rows)
        if (manifest.bundle, manifest.plan) == (bundle, plan):
            approvals.require_current(environment, manifest)
            return manifest
    raise errors.PlanRefused(
        f"no plan of {environment} has release {labels.short(bundle)} and release plan {labels.short(plan)}",
        code="approval-unknown-plan",
        hint=f"copy both digests from the artifact plan-{environment}; plan-environment/plan-environment-{environment} publishes it afresh",
    )
