"""What the Prefect server does by itself: `greylag deploy` puts it there, by name, and replaces what an earlier one made.

A run whose process has gone is told by its heartbeats alone, and open-source Prefect marks none: that automation is always made. The others tell
people that an approval waits, that a release is blocked, that an environment is not as it was released; they need a block that knows whom to tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from migrator import errors

if TYPE_CHECKING:
    from datetime import timedelta
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore, EventTrigger

NEWS = {
    "greylag: an approval waits": (
        "release.awaiting-approval",
        "greylag.release.*",
        "greylag: {{ event.payload.environment }} awaits an approval",
        "Release {{ event.payload.bundle }} waits for an approval to enter {{ event.payload.environment }}."
        "\n\n{{ event.payload.form }}\n\n{{ event.payload.command }}",
    ),
    "greylag: a release is blocked": (
        "release.blocked",
        "greylag.release.*",
        "greylag: the release is blocked before {{ event.payload.environment }}",
        "{{ event.payload.reason }} [{{ event.payload.code }}]",
    ),
    "greylag: an environment has drifted": (
        "environment.drifted",
        "greylag.environment.*",
        "greylag: {{ event.payload.environment }} is not as it was released",
        "{{ event.payload.summary }}",
    ),
    "greylag: an environment could not be verified": (
        "environment.unverified",
        "greylag.environment.*",
        "greylag: {{ event.payload.environment }} could not be verified",
        "{{ event.payload.summary }}",
    ),
}
"""Automations that tell people: the event, its resource, subject and text."""


def install(client: SyncPrefectClient, notify: str, say: Callable[[str], None]) -> list[str]:
    """Makes the automations and returns their names. Safe to repeat.

    Args:
        notify: the block that knows whom to tell, `TYPE/NAME` as in `prefect block ls`; without one those that tell people are kept as they are.

    Raises NotFound (`no-such-block`) where the server has no such block.
    """
    from tasks import signs_of_life

    wanted = [heartbeats(signs_of_life.patience())]
    if notify:
        block = _block(client, notify)
        wanted += [news(name, block) for name in NEWS]
    for item in wanted:
        before = client.read_automations_by_name(item.name)
        if before:
            client.update_automation(before[0].id, item)
        else:
            client.create_automation(item)
    say(f"automations: {', '.join(item.name.removeprefix('greylag: ') for item in wanted)}")
    if not notify:
        say(
            "nobody is told of what waits or fails: `greylag deploy -notify TYPE/NAME` names a notification block (`prefect block ls`)"
            " [no-notification]"
        )
    return [item.name for item in wanted]


def heartbeats(patience: timedelta) -> AutomationCore:
    """Returns the automation that marks a run Crashed when nothing was heard of it for so long; pure.

    Any event of the run counts as a sign of life, not heartbeats alone: a run may end in a state of any name.
    """
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture

    seconds = round(patience.total_seconds())
    return _automation(
        "greylag: a run's heartbeats stopped",
        "Marks a run Crashed when it shows no sign of life. What it did is in the database: start it again.",
        EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=patience,
        ),
        ChangeFlowRunState(
            name="Crashed",
            state=StateType.CRASHED,
            force=False,  # a run that has ended stays as it ended
            message=f"no sign of life for {seconds} s: its process or its worker has gone. Retry, or start it again: what was finished is recorded",
        ),
    )


def news(name: str, block: UUID) -> AutomationCore:
    """Returns the automation of `NEWS` that tells people by a block; pure."""
    from prefect.events.actions import SendNotification
    from prefect.events.schemas.automations import EventTrigger, Posture

    event, resource, subject, body = NEWS[name]
    trigger = EventTrigger(expect={event}, match={"prefect.resource.id": resource}, posture=Posture.Reactive, threshold=1)
    return _automation(name, f"Tells people of {event}.", trigger, SendNotification(block_document_id=block, subject=subject, body=body))


def _automation(name: str, description: str, trigger: EventTrigger, action: object) -> AutomationCore:
    from prefect.events.schemas.automations import AutomationCore

    return AutomationCore.model_validate(
        {"name": name, "description": description, "enabled": True, "trigger": trigger, "actions": [action]}
    )


def _block(client: SyncPrefectClient, notify: str) -> UUID:
    from prefect.exceptions import ObjectNotFound

    kind, _, name = notify.partition("/")
    try:
        return client.read_block_document_by_name(name, kind, include_secrets=False).id
    except ObjectNotFound:
        raise errors.NotFound(
            f'the Prefect server has no block "{notify}"',
            code="no-such-block",
            hint="`prefect block ls` lists them as TYPE/NAME; Blocks in the UI makes one, for example slack-webhook/releases",
        ) from None
