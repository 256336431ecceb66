"""`greylag promote`: starts the promotion dev -> release -> prod on the Prefect server and follows it."""

from __future__ import annotations

from typing import Any

from deployments.console import edge, flow_runs
from tasks import fleet

SUMMARY = "promotes this checkout's migrations from environment to environment, and follows the run"

DEPLOYMENT = "promote-release/promote"


@edge.guarded
def run(arguments: list[str]) -> int:
    """`greylag promote [--until ENVIRONMENT] [--start ENVIRONMENT] [--service NAME …] [options]`."""
    parser = edge.Parser("promote", SUMMARY)
    parser.add_argument("--until", default="", help="the last environment to enter (default: the fleet's last)")
    parser.add_argument("--start", default="", help="the first environment to enter (default: the fleet's first)")
    parser.add_argument("--service", action="append", default=[], help="a service to promote; may be repeated (default: all)")
    parser.add_argument("--bundle", default="", help="digest that the release must have")
    parser.add_argument("--image", default="", help="the release's image, whose rollout is awaited")
    parser.add_argument("--mode", default="", choices=["", "inline", "job"], help="how migrations are run")
    parser.add_argument("--backoff-limit", type=int, default=None, help="retries after the first attempt of a step")
    parser.add_argument("--active-deadline-seconds", type=float, default=None, help="time for all attempts of a step together")
    parser.add_argument("--approval-timeout-seconds", type=float, default=None, help="how long to wait for an approval")
    parser.add_argument("--timeout", type=float, default=None, help="seconds to follow the run; it goes on afterwards")
    parser.add_argument("--no-wait", action="store_true", help="start, but don't follow")
    options = parser.parse_args(arguments)
    given = parameters(fleet.load(), options)
    with flow_runs.connected() as client:
        words = [given.get("start", ""), given.get("until", ""), given.get("bundle", "")[:12]]
        started = flow_runs.start(client, DEPLOYMENT, given, name=" ".join(["promote", *filter(None, words)]))
        if options.no_wait:
            flow_runs.tell_started(started)
            return 0
        return flow_runs.interruptible(lambda: flow_runs.follow(client, started, timeout=options.timeout))


def parameters(found: fleet.Fleet, options: Any) -> dict[str, Any]:
    """The flow's parameters, only those that were given. Raises UsageError for names that the fleet does not have."""
    given: dict[str, Any] = {}
    for name in ("until", "start"):
        if getattr(options, name):
            given[name] = found.environment_name(getattr(options, name))
    for name in options.service:
        found.service(name)
    if options.service:
        given["services"] = options.service
    for name in ("bundle", "image", "mode", "backoff_limit", "active_deadline_seconds", "approval_timeout_seconds"):
        if getattr(options, name) not in ("", None):
            given[name] = getattr(options, name)
    return given
