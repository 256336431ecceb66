"""docs/concepts/routes.md against what workers, a CI and the API do: the list of a gateway that stands before Prefect as a second wall."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
import uuid
from typing import Any

import pytest

from tests.attacks.siege import Siege
from tests.attacks.wall import Wall
from tests.demonstration import ROOT

pytestmark = [pytest.mark.attack, pytest.mark.slow]

PAGE = ROOT / "docs/concepts/routes.md"


def documented(column: str) -> set[str]:
    """The routes that the page's table has for somebody."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    names = [cell.strip() for cell in lines[0].strip("|").split("|")]
    place = names.index(column)
    found = set()
    for line in lines[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[place] == "x":
            found.add(re.sub(r"`", "", cells[0]))
    return found


def request(wall: Wall, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """What a CI's `curl` gets."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(wall.api_url + path, data, {"Content-Type": "application/json", "Connection": "close"}, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


@pytest.mark.parametrize("name", ["dev", "release", "prod", "promotion"])
def test_workers_use_the_routes_of_the_page_and_no_others(demo: Siege, name: str) -> None:
    seen = set(demo.walls[name].seen)
    assert seen, "its requests go through the wall"
    assert seen <= documented("promotion" if name == "promotion" else "worker")
    demo.note("passes: " + str(len(seen)) + " routes")


def test_a_ci_starts_and_follows_a_run_through_its_own_list_and_can_do_nothing_else(demo: Siege) -> None:
    with Wall(demo.stack.prefect.port, documented("CI")) as wall:
        found = request(wall, "GET", "/deployments/name/plan-environment/plan-environment-dev")
        path = f"/deployments/{found['id']}/create_flow_run"
        run = request(wall, "POST", path, {"parameters": {"environment": "dev"}, "idempotency_key": uuid.uuid4().hex})["id"]
        deadline = time.monotonic() + 120
        while (state := request(wall, "GET", f"/flow_runs/{run}")["state_type"]) not in (
            "COMPLETED",
            "FAILED",
        ) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert state == "COMPLETED"
        for method, other, body in (
            ("PATCH", f"/deployments/{found['id']}", {"pull_steps": []}),
            ("PATCH", "/work_pools/greylag-prod", {"is_paused": True}),
            ("POST", "/flow_runs/", {"flow_id": found["flow_id"], "state": {"type": "COMPLETED"}}),
            ("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "FAILED"}}),
            ("POST", "/artifacts/", {"key": "approval-prod"}),
            ("PUT", "/admin/storage", {}),
            ("DELETE", f"/flow_runs/{run}", None),
        ):
            with pytest.raises(urllib.error.HTTPError) as refused:
                request(wall, method, other, body)
            assert refused.value.code == 403, (method, other)
        assert len(wall.denied) == 7
    demo.note("the wall answers 403")
