"""`greylag approve`: says yes to one bundle and one plan in one environment, as a run that Prefect keeps.

The digests are those of the artifact `plan-ENVIRONMENT`; without them what waits is shown, and nothing is approved. With a key or a token it signs the
document that the environment's worker has signed, after checking it and showing all that it says.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from deployments.console import edge, flow_runs
from migrator import databases, errors
from migrator.cli import calls, output
from migrator.cli.calls import Call
from migrator.cli.go_flags import Flag
from migrator.cli.verbs import VerbEntry
from tasks import approval, fleet, promotions

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

DEPLOYMENT = f"{approval.FLOW}/approve"


def run(call: Call) -> int:
    """Starts the approval and follows it. Raises UsageError where it is not complete; then the newest plan is shown."""
    found = fleet.load()
    if not any(call.arguments):
        with flow_runs.connected() as client:
            _list_waiting(client, found)
        return 0
    environment = found.environment_name(call.arguments[0])
    bundle, plan, reason = (call.values.string(name) for name in ("bundle", "plan", "reason"))
    if not found.environment(environment).protected:
        raise errors.UsageError(f"{environment} needs no approval", code="not-protected", hint="`greylag promote` enters it by itself")
    signs = any(call.values.string(name) for name in ("key", "token-file", "policy"))
    with flow_runs.connected() as client:
        if not (bundle and plan):
            _list_waiting(client, found)
            raise _document_shown(environment, call) if signs else _shown(client, environment, as_json=call.json)
        signature = _signature(environment, bundle, plan, call) if signs else ""
        if call.values.boolean("print"):
            calls.note(signature=signature)
            if not call.json:
                edge.show(signature)
            return 0
        if not reason:
            raise errors.UsageError("an approval needs a reason", hint='add --reason "…"')
        given = {
            "environment": environment,
            "bundle": bundle,
            "plan": plan,
            "confirm": call.values.string("confirm") or _ask(environment),
            "approver": call.values.string("approver") or databases.default_actor(),
            "reason": reason,
        }
        if signature:
            given["signature"] = signature
        started = flow_runs.start(client, DEPLOYMENT, given, name=f"approve {environment} {bundle[:12]}")
        if call.values.boolean("no-wait"):
            flow_runs.tell_started(started)
            return 0
        return flow_runs.interruptible(lambda: flow_runs.follow(client, started))


def _signature(environment: str, bundle: str, plan: str, call: Call) -> str:
    """Returns the signed document on one line. Raises UsageError (`approval-unsigned`'s remedy) when neither a key nor a token is given."""
    from deployments.console import signing

    key, token = call.values.string("key"), call.values.string("token-file")
    if not key and not token:
        raise errors.UsageError("who signs?", code="signing-failed", hint="add -key FILE (ssh-keygen's), or -token-file FILE")
    known = signing.rules(call.values.string("policy"))
    found = signing.waiting(environment, known, bundle, plan)
    if not call.json and not call.values.boolean("print"):
        signing.show(found, known, found.signature.key)
    return signing.approved(found, key=key, token_file=token)


def _document_shown(environment: str, call: Call) -> errors.GreylagError:
    """Prints the newest document that can be signed; the error that says how to approve it."""
    from deployments.console import signing

    known = signing.rules(call.values.string("policy"))
    found = signing.waiting(environment, known)
    manifest = found.approval.manifest
    calls.note(document=found.approval.data(), digest=found.approval.digest)
    if not call.json:
        signing.show(found, known, found.signature.key)
    return errors.UsageError(
        "which bundle and which plan?",
        hint=f'this one: greylag approve {environment} -key FILE -bundle {manifest.bundle} -plan {manifest.plan} -reason "…"',
    )


def _list_waiting(client: SyncPrefectClient, found: fleet.Fleet) -> None:
    """Prints the promotions that wait for an approval, oldest first, and how each is approved."""
    from flows import approvals, forms

    runs = sorted(_waiting(client), key=lambda item: item.state.timestamp.isoformat() if item.state else "")
    protected = [name for name, item in found.environments.items() if item.protected]
    proposed = {item.run_id: (name, item) for name in protected for item in approvals.proposals(name)} if runs else {}
    listed = []
    for run in runs:
        name, proposal = proposed.get(str(run.id), ("", None))
        asked = forms.Asked(name, proposal.manifest.bundle, proposal.manifest.plan) if proposal else None
        listed.append(
            {
                "name": run.name,
                "id": str(run.id),
                "message": run.state.message if run.state else "",
                "environment": name,
                "bundle": asked.bundle if asked else "",
                "plan": asked.plan if asked else "",
                "command": asked.command if asked else "",
            }
        )
        since = f"since {run.state.timestamp:%Y-%m-%d %H:%M} UTC: {run.state.message}" if run.state else ""
        edge.say(f"{run.name} ({run.id}) waits {since}")
        if asked:
            edge.say(f"  {asked.command}")
    calls.note(waiting=listed)
    if not runs:
        edge.say("no promotion waits for an approval")


def _waiting(client: SyncPrefectClient) -> list[FlowRun]:
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterState, FlowRunFilterStateName

    waiting = FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=[promotions.AWAITING_APPROVAL])))
    return client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[promotions.FLOW])), flow_run_filter=waiting)


def _ask(environment: str) -> str:
    expected = approval.CONFIRMATION.format(environment=environment)
    if not sys.stdin.isatty():
        raise errors.UsageError("an approval must be confirmed", hint=f"add --confirm {expected}")
    output.err(f'Type "{expected}" to approve: ')
    answer = sys.stdin.readline().strip()
    if answer != expected:
        raise errors.PlanRefused(f'"{answer}" does not confirm it', code="approval-unconfirmed", hint=f'type "{expected}"')
    return answer


def _shown(client: SyncPrefectClient, environment: str, *, as_json: bool) -> errors.GreylagError:
    """Prints the newest plan; the error that says how to approve it."""
    rows = newest_plan(client, environment)
    if not rows:
        return errors.UsageError(
            f"no plan of {environment} has been published",
            code="no-plan",
            hint=f"`greylag promote` publishes it when it reaches {environment}; plan-environment/plan-environment-{environment} does so alone",
        )
    head = [name for name in rows[0] if name not in ("bundle", "plan")]
    calls.note(plan=rows)
    if not as_json:
        edge.show(edge.table(head, [[row.get(name, "") for name in head] for row in rows]))
    manifest = approval.ReleaseManifest(
        bundles={row["service"]: row["bundle"] for row in rows}, plans={row["service"]: row["plan"] for row in rows}
    )
    return errors.UsageError(
        "which bundle and which plan?",
        hint=f'this plan: greylag approve {environment} --bundle {manifest.bundle} --plan {manifest.plan} --reason "…"',
    )


def newest_plan(client: SyncPrefectClient, environment: str) -> list[dict[str, Any]]:
    """Returns the rows of the newest `plan-ENVIRONMENT` artifact, none where there is none."""
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import ArtifactSort

    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[f"plan-{environment}"]))
    found = client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC, limit=1)
    data: Any = found[0].data if found else []
    rows = json.loads(data) if isinstance(data, str) else data
    return [row for row in rows if isinstance(row, dict) and row.get("service")] if isinstance(rows, list) else []


VERB = VerbEntry(
    "approve",
    run,
    "approves one release for one environment: exactly this release, exactly this plan; without one lists what waits",
    arguments="[ENVIRONMENT]",
    flags=(
        Flag("bundle", "string", "", "the release's bundle digest"),
        Flag("plan", "string", "", "the release's plan digest in that environment"),
        Flag("reason", "string", "", "why, for those who read it later"),
        Flag("approver", "string", "", "who approves (default: this user); a claim, the server does not check it"),
        Flag("key", "string", "", "sign with this key of OpenSSH (a private one, or the public one of a key in the agent)"),
        Flag("token-file", "string", "", "approve with an identity provider's token in this file"),
        Flag("policy", "string", "", "the policy with the worker's keys (default: GREYLAG_POLICY)"),
        Flag("print", "bool", False, "print the signature for the form's field `signature`, and start nothing"),
        Flag("confirm", "string", "", "deploy-ENVIRONMENT; asked for on a terminal"),
        Flag("no-wait", "bool", False, "start, but don't follow"),
    ),
)
