"""`greylag promote`: starts the promotion dev -> release -> prod on the Prefect server and follows it."""

from __future__ import annotations

from typing import Any

from deployments.console import deploy, edge, flow_runs
from migrator import errors
from migrator.cli import calls
from migrator.cli.calls import Call
from migrator.cli.go_flags import Flag, Values
from migrator.cli.verbs import VerbEntry
from tasks import fleet

DEPLOYMENT = "promote-release/promote"


def run(call: Call) -> int:
    """Starts the promotion and follows it."""
    found = fleet.load()
    given = parameters(found, call.values)
    if key := call.values.string("key"):
        from deployments.console import signing

        until = given.get("until") or list(found.environments)[-1]
        bundle, given["signature"] = signing.promoted(found, until, given.get("services", ()), given.get("image", ""), key)
        if given.setdefault("bundle", bundle) != bundle:
            raise errors.PlanRefused(
                f"the files here are bundle {bundle[:12]}, not {given['bundle'][:12]}",
                code="bundle-changed",
                hint="sign where that bundle is",
            )
        if call.values.boolean("print"):
            calls.note(signature=given["signature"], bundle=bundle)
            if not call.json:
                edge.show(given["signature"])
            return 0
    limit = call.values.seconds("timeout") if "timeout" in call.values.given else None
    with flow_runs.connected() as client:
        words = [given.get("start", ""), given.get("until", ""), given.get("bundle", "")[:12]]
        started = flow_runs.start(client, DEPLOYMENT, given, name=" ".join(["promote", *filter(None, words)]))
        if call.values.boolean("no-wait"):
            flow_runs.tell_started(started)
            return 0
        return flow_runs.interruptible(lambda: flow_runs.follow(client, started, timeout=limit))


def parameters(found: fleet.Fleet, values: Values) -> dict[str, Any]:
    """Returns the flow's parameters, only those that were given. Raises UsageError for names that the fleet does not have."""
    given: dict[str, Any] = {}
    for name in ("until", "start"):
        if values.string(name):
            given[name] = found.environment_name(values.string(name))
    services = values.strings("service")
    for name in services:
        found.service(name)
    if services:
        given["services"] = list(services)
    for name in ("bundle", "image", "mode", "backoff-limit", "active-deadline-seconds", "approval-timeout-seconds"):
        value = values.given_value(name)
        if value is not None:
            given[name.replace("-", "_")] = value
    return given


VERB = VerbEntry(
    "promote",
    run,
    "promotes this checkout's migrations from environment to environment, and follows the run",
    flags=(
        Flag("until", "string", "", "the last environment to enter (default: the fleet's last)"),
        Flag("start", "string", "", "the first environment to enter (default: the fleet's first)"),
        Flag("service", "strings", (), "a service to promote; may be repeated (default: all)"),
        Flag("bundle", "string", "", "digest that the release must have"),
        Flag("image", "string", "", "the release's image, whose rollout is awaited"),
        *deploy.RETRIES,
        Flag("key", "string", "", "sign the promotion with this key of OpenSSH: somebody else can then approve it"),
        Flag("print", "bool", False, "print the signature for the form's field `signature`, and start nothing"),
        Flag("approval-timeout-seconds", "number", None, "how long to wait for an approval"),
        Flag("timeout", "number", None, "seconds to follow the run; it goes on afterwards"),
        Flag("no-wait", "bool", False, "start, but don't follow"),
    ),
)
