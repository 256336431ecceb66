"""What the Prefect server does by itself after `greylag deploy -notify`: on a real server, with a block that writes down what it is told."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from deployments.console import automations, flow_runs
from migrator import cli, errors

WAIT_SECONDS = 40.0
"""Proactive triggers of Prefect look at ten seconds at least, and the server evaluates them every five."""


@pytest.fixture
def mailbox() -> Iterator[tuple[str, list[str]]]:
    """A listener that keeps the bodies of what is posted to it."""
    told: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", told
    server.shutdown()
    server.server_close()


def until(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + WAIT_SECONDS
    while not holds() and time.monotonic() < end:
        time.sleep(0.2)
    return holds()


def emit(server: Any, event: str, resource: str, payload: dict[str, Any]) -> None:
    from prefect.events import Event, Resource

    made = Event(event=event, resource=Resource({"prefect.resource.id": resource}), payload=payload)
    server.request("POST", "/events", [made.model_dump(mode="json")])


def test_people_are_told_what_waits_and_what_has_drifted_and_silent_runs_end(prefect_server: Any, mailbox: tuple[str, list[str]]) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    url, told = mailbox
    block = CustomWebhookNotificationBlock(name="team", url=url, json_data={"text": "{{subject}}: {{body}}"})
    block.save("team", overwrite=True)
    said: list[str] = []
    with flow_runs.connected() as client:
        names = automations.install(client, "custom-webhook/team", said.append)
        assert automations.install(client, "custom-webhook/team", said.append) == names
        assert len(names) == len(set(names)) == len(automations.NEWS) + 1
        for name in names:
            assert len(client.read_automations_by_name(name)) == 1, "installed twice, there once"
        [beats] = client.read_automations_by_name("greylag: a run's heartbeats stopped")
        client.update_automation(beats.id, automations.heartbeats(timedelta(seconds=10)))
    alive, ended = (running(prefect_server) for _ in range(2))
    for run in (alive, ended):
        emit(prefect_server, "prefect.flow-run.heartbeat", f"prefect.flow-run.{run}", {})
    prefect_server.request("POST", f"/flow_runs/{ended}/set_state", {"state": {"type": "COMPLETED", "name": "NothingToDo"}})
    emit(prefect_server, "environment.drifted", "greylag.environment.dev", {"environment": "dev", "summary": "shop: a column is gone"})
    emit(prefect_server, "release.awaiting-approval", "greylag.release.prod", {"environment": "prod", "bundle": "b" * 64})
    assert until(lambda: len(told) == 2), told
    assert any("dev is not as it was released" in item and "shop: a column is gone" in item for item in told)
    assert any("prod awaits an approval" in item and "b" * 64 in item for item in told)
    assert until(lambda: state(prefect_server, alive) == ("CRASHED", "Crashed")), "nothing was heard of it"
    assert state(prefect_server, ended) == ("COMPLETED", "NothingToDo")


def running(server: Any) -> str:
    flow = server.request("POST", "/flows/", {"name": "heard-of"})["id"]
    return str(server.request("POST", "/flow_runs/", {"flow_id": flow, "state": {"type": "RUNNING"}})["id"])


def state(server: Any, run: str) -> tuple[str, str]:
    found = server.request("GET", f"/flow_runs/{run}")["state"]
    return found["type"], found["name"]


def test_bad_flow_a_block_that_the_server_does_not_have(prefect_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with flow_runs.connected() as client, pytest.raises(errors.NotFound) as caught:
        automations.install(client, "slack-webhook/nobody", print)
    assert caught.value.code == "no-such-block" and "slack-webhook/nobody" in caught.value.message
    assert cli.main(["deploy", "-h"]) == 0
    assert "-notify" in capsys.readouterr().out
