"""A demo that stands as a team's does: prod holds a release that two persons have signed, the next one is in release and waits. And what somebody has
who attacks it: the Prefect API's address, dev's credentials, commits in the checkout. Whether an attack got anywhere is read from prod's databases.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sandbox.databases.postgres import identifier, literal
from sandbox.stack.demo_approval import SignedApprovals
from sandbox.stack.stack import PROMOTION, Stack, client_environment
from tests.attacks.wall import Wall
from tests.demonstration import ROOT
from tests.flows import prefect_api
from tests.flows.worker_stage import Desk

PROD = "prod"
SERVICE = "auth-service"
NEXT = "20990101000000_add_notes.sql"
"""The release that waits: one file of one service."""
APPLICATION = "shop-application"
"""The role with which the service itself reads and writes its tables in prod, with the default privileges that teams give."""
REFUSED_EVENT = "release.refused"


@dataclass(frozen=True)
class Refusal:
    """What an attack met: the code and the words of its refusal, and the event that tells it; all empty where nothing was to refuse."""

    outcome: str
    code: str = ""
    event: str = ""


@dataclass
class Siege:
    """The demo under attack. `told` holds what each test met."""

    stack: Stack
    people: SignedApprovals
    home: Path
    told: dict[str, list[Refusal]] = field(default_factory=dict)
    walls: dict[str, Wall] = field(default_factory=dict)
    test: str = ""

    # --- what an attacker does: the API

    def api(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One request to Prefect's API."""
        return self.stack.prefect.request(method, path, body)

    def start(self, deployment: str, **parameters: Any) -> str:
        """Starts a deployment (FLOW/NAME); the run's id."""
        return prefect_api.create_run(self.stack.prefect, deployment, parameters)

    def deploy(self, approval: str = "", **given: Any) -> str:
        """Starts prod's deployment; the run's id."""
        return self.start("deploy-environment/deploy-environment-prod", environment=PROD, approval=approval, **given)

    def ended(self, run: str) -> dict[str, Any]:
        """A run once it has ended."""
        return prefect_api.ended(self.stack.prefect, run, 120)

    def flow(self, name: str) -> str:
        """A flow's id."""
        return str(self.api("POST", "/flows/filter", {"flows": {"name": {"any_": [name]}}})[0]["id"])

    def posted(self, flow: str, parameters: dict[str, Any], state: str = "COMPLETED", **more: Any) -> str:
        """Posts a run that never ran, with its end; the run's id."""
        body = {"flow_id": self.flow(flow), "parameters": parameters, "state": {"type": state}, **more}
        run = str(self.api("POST", "/flow_runs/", body)["id"])
        self.api("POST", f"/flow_runs/{run}/set_state", {"force": True, "state": {"type": state}})
        return run

    def publish(self, key: str, rows: list[dict[str, Any]] | str, run: str) -> str:
        """Posts an artifact under a run's name; its id."""
        kind = "markdown" if isinstance(rows, str) else "table"
        data = rows if isinstance(rows, str) else json.dumps(rows)
        return str(self.api("POST", "/artifacts/", {"key": key, "type": kind, "data": data, "flow_run_id": run})["id"])

    # --- what people do

    def promotion(self) -> str:
        """The line by which pat signs that these files are promoted."""
        from tasks import fleet

        return self.people.promoted(fleet.load(self.home / "deployments/fleet.yaml"))["signature"]

    def planned(self, **given: Any) -> Any:
        """prod's plan as its worker signed it just now."""
        from flows import plan_documents

        run = self.start("plan-environment/plan-environment-prod", environment=PROD, **{"promotion": self.promotion(), **given})
        ended = self.ended(run)
        assert ended["state_type"] == "COMPLETED", ended["state"]["message"]
        return next(item for item in plan_documents.read(PROD) if item.run_id == run)

    def approve(self, found: Any, line: str, who: str = "ada") -> str:
        """Gives an approval by the form's fields; the run's id."""
        manifest = found.approval.manifest
        given = {"environment": PROD, "bundle": manifest.bundle, "plan": manifest.plan, "confirm": f"deploy-{PROD}", "signature": line}
        run = self.start("approve-release/approve", **given, approver=who, reason="CHG-1")
        ended = self.ended(run)
        assert ended["state_type"] == "COMPLETED", ended["state"]["message"]
        return run

    def genuine(self, found: Any) -> str:
        """ada and grace approve a plan; the id of one of the runs."""
        with ThreadPoolExecutor() as threads:
            runs = list(threads.map(lambda who: self.approve(found, self.people.signed(found, who), who), ("ada", "grace")))
        return runs[-1]

    def promote(self, until: str) -> dict[str, Any]:
        """Promotes the checkout's files; the run once it has ended. ada and grace approve where prod waits."""
        parameters = self.people.promoted(self.stack.fleet)
        run = self.start("promote-release/promote", until=until, **parameters)
        if until == PROD:
            found = prefect_api.eventually(self._waiting, bool, 300)
            assert found, self.ended(run)["state"]
            self.genuine(found)
        ended = prefect_api.ended(self.stack.prefect, run, 300)
        assert ended["state_type"] == "COMPLETED", ended["state"]["message"]
        return ended

    def _waiting(self) -> Any:
        from flows import plan_documents

        return next(iter(plan_documents.read(PROD)), None)

    @contextlib.contextmanager
    def merged(self, name: str, text: str) -> Iterator[Path]:
        """A merge that changes a file of every worker's checkout, taken back afterwards."""
        path = self.home / name
        before = path.read_text(encoding="utf-8") if path.exists() else None
        path.write_text(text, encoding="utf-8")
        try:
            yield path
        finally:
            if before is None:
                path.unlink()
            else:
                path.write_text(before, encoding="utf-8")

    @property
    def fleet(self) -> str:
        """The text of fleet.yaml."""
        return (self.home / "deployments/fleet.yaml").read_text(encoding="utf-8")

    def greylag(self, *arguments: str, environment: str = "dev", **more: str) -> subprocess.CompletedProcess[str]:
        """The command as somebody with an environment's credentials types it."""
        held = client_environment(self.stack.directory, self.stack.addresses(), environment)
        return subprocess.run(
            [sys.executable, "-m", "migrator.cli", *arguments],
            cwd=ROOT,
            env=os.environ | held | more,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )

    # --- what came of it

    def sql(self, statement: str, service: str = SERVICE, environment: str = PROD) -> str:
        """What a statement gives on a service's database, past greylag, by its administrator."""
        target = self.stack.fleet.target(service, environment)
        server: Any = self.stack.postgres if target.engine == "postgres" else self.stack.clickhouse
        return str(server.execute(statement, target.database)).strip()

    def held(self) -> dict[str, str]:
        """What each of prod's databases holds: its history, and its tables."""
        found = {}
        for target in self.stack.fleet.targets():
            if target.environment == PROD:
                columns = "SELECT count(*) FROM information_schema.columns WHERE table_schema NOT IN ('system', 'INFORMATION_SCHEMA')"
                found[target.service] = "\n".join(
                    self.sql(statement, target.service)
                    for statement in ("SELECT version_id, count(*) FROM goose_db_version GROUP BY 1 ORDER BY 1", columns)
                )
        return found

    def refused(self, run: str, *codes: str) -> str:
        """The reason of a run that prod's worker must refuse, with one of these codes, told by an event; and prod is what it was."""
        ended = self.ended(run)
        assert ended["state_type"] == "FAILED", (ended["state"], self.log())
        code = str(ended["labels"]["greylag.code"])
        assert code in codes, ended["state"]["message"]
        found = prefect_api.eventually(lambda: self._events(run), bool, 20)
        assert found and found[0]["payload"]["code"] == code, found
        reason = str(found[0]["payload"]["reason"])
        assert reason.partition("\n")[0] in ended["state"]["message"], reason
        self.note(reason, code, REFUSED_EVENT)
        return reason

    def _events(self, run: str) -> list[dict[str, Any]]:
        """Events of refusals by a run itself, or by the run of a service that it has started."""
        wanted = {"filter": {"event": {"name": [REFUSED_EVENT]}, "related": {"id": [f"prefect.flow-run.{run}"]}}}
        return list(self.api("POST", "/events/filter", wanted)["events"])

    def note(self, outcome: str, code: str = "", event: str = "") -> None:
        """Notes what the running test's attack met."""
        self.told.setdefault(self.test, []).append(Refusal(outcome, code, event))

    def log(self) -> str:
        """The end of what prod's worker wrote."""
        return self.stack.workers[PROD].log.read_text(encoding="utf-8")[-3000:]


@dataclass
class Gatehouse(Desk):
    """prod's worker, for the attacks on workers."""

    siege: Siege | None = None

    def refused(self, run_id: str) -> str:
        reason = super().refused(run_id)
        assert self.siege is not None
        self.siege.note(reason, "run-refused", "greylag.run.refused")
        return reason


@contextlib.contextmanager
def laid(directory: Path, routes: Mapping[str, Iterable[str] | None] | None = None) -> Iterator[Siege]:
    """Starts the demo, promotes its release to prod with two persons' signatures, and the next one to release.

    Each worker reaches the API through a wall of its own; `routes` are what it lets pass, by the worker's environment (default: everything).
    """
    home = directory / "checkout"
    (home / "deployments").mkdir(parents=True)
    shutil.copy(ROOT / "deployments/fleet.yaml", home / "deployments/fleet.yaml")
    shutil.copytree(ROOT / "services", home / "services")
    stack = Stack(directory / "state", workers=False, fleet_file=home / "deployments/fleet.yaml")
    with contextlib.ExitStack() as behind, stack, _reached(stack):
        from deployments.console import deploy

        siege = Siege(stack, SignedApprovals(directory / "approvals", stack.fleet), home)
        _give_application_its_role(siege)
        deploy.install(stack.fleet)
        for name in (*stack.fleet.environments, PROMOTION):
            siege.walls[name] = behind.enter_context(Wall(stack.prefect.port, (routes or {}).get(name)))
            stack.launch_workers(name, settings=siege.people.variables(name) | {"PREFECT_API_URL": siege.walls[name].api_url})
        stack.wait_for_workers()
        siege.promote(PROD)
        text = "-- +goose Up\nCREATE TABLE notes (id bigint PRIMARY KEY, owner text);\n-- +goose Down\nDROP TABLE notes;\n"
        (home / f"services/{SERVICE}/migrations/{NEXT}").write_text(text, encoding="utf-8")
        siege.promote("release")
        yield siege


@contextlib.contextmanager
def _reached(stack: Stack) -> Iterator[None]:
    """This process talks to the demo's Prefect server, and has its fleet."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with pytest.MonkeyPatch.context() as patch, temporary_settings({PREFECT_API_URL: stack.prefect.api_url}):
        for name, value in {
            "PREFECT_API_URL": stack.prefect.api_url,
            "GREYLAG_HOME": str(ROOT),
            "GREYLAG_FLEET": str(stack.fleet.path),
        }.items():
            patch.setenv(name, value)
        yield


def _give_application_its_role(siege: Siege) -> None:
    owner = identifier(f"{SERVICE}-{PROD}")
    database = identifier(siege.stack.fleet.target(SERVICE, PROD).database)
    role = identifier(APPLICATION)
    siege.sql(
        f"CREATE ROLE {role} LOGIN PASSWORD {literal(APPLICATION)};\n"
        f"GRANT CONNECT ON DATABASE {database} TO {role}; GRANT USAGE ON SCHEMA public TO {role};\n"
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT ALL ON TABLES TO {role};\n"
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT ALL ON SEQUENCES TO {role};"
    )


def until(over: Callable[[], bool], look: Callable[[], Iterable[Any]], act: Callable[[Any], None], seconds: float = 180) -> None:
    """Acts on everything that `look` finds, until it is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not over():
        for item in look():
            act(item)
        time.sleep(0.05)
