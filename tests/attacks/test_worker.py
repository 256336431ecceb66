"""What can be done to prod's worker of a running demo with the API's address alone: the very attacks of tests/flows/test_worker_attacks.py, there on a
worker of dev.
"""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.siege import PROD, SERVICE, Gatehouse, Siege
from tests.flows import prefect_api
from tests.flows import test_worker_attacks as attacks

pytestmark = [pytest.mark.attack, pytest.mark.slow]

for _name in [name for name in dir(attacks) if name.startswith("test_bad_flow_") and "infrastructure_pid" not in name]:
    globals()[_name] = getattr(attacks, _name)

marker = attacks.marker


@pytest.fixture(scope="module")
def desk(demo: Siege) -> Gatehouse:
    return Gatehouse(demo.stack.prefect, None, demo.stack.workers[PROD], demo.home, PROD, demo)


@pytest.fixture(autouse=True)
def noted(demo: Siege, unchanged: None) -> Iterator[None]:
    """What was refused by the server itself, or came to nothing, is in the table, too."""
    yield
    if demo.test not in demo.told:
        demo.note(_quiet(demo.test))


def _quiet(test: str) -> str:
    if "the_server_itself_refuses" in test:
        return "the server answers 422"
    if "stored_result" in test:
        return "never read; the run ends as somebody has set it, and has done nothing"
    return "not used; other runs go on"


def test_bad_flow_no_login_leaves_for_another_address(demo: Siege, desk: Gatehouse) -> None:
    """A run that names another Vault is refused, and nobody ever calls there."""
    callers: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        over = threading.Event()

        def listen() -> None:
            while not over.is_set():
                try:
                    callers.append(listener.accept())
                except TimeoutError:
                    continue

        thread = threading.Thread(target=listen)
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            for given in ({"env": {"GREYLAG_VAULT_ADDRESS": address}}, {"env": {"PREFECT_API_URL": address, "VAULT_ADDR": address}}):
                desk.refused(desk.post(attacks.FLOW, job_variables=given))
            attacks.works(desk)
        finally:
            over.set()
            thread.join()
    assert callers == []


def test_bad_flow_a_false_infrastructure_pid_kills_nobody(demo: Siege, desk: Gatehouse) -> None:
    """The run hangs on a lock that is held here; its number is changed, and it is cancelled."""
    innocent = subprocess.Popen(["sleep", "300"], start_new_session=True)
    database = demo.stage_lock = demo.stack.fleet.target(SERVICE, PROD).database  # type: ignore[attr-defined]
    import psycopg

    held = psycopg.connect(demo.stack.postgres.superuser_url(database))
    try:
        held.execute("LOCK TABLE goose_db_version IN ACCESS EXCLUSIVE MODE")
        run = desk.create(attacks.FLOW, {"parameters": {"environment": PROD, "services": [SERVICE]}})
        prefect_api.eventually(lambda: desk.run(run), lambda found: found["state_type"] == "RUNNING" and found["infrastructure_pid"], 60)
        own = int(desk.run(run)["infrastructure_pid"])
        demo.api("PATCH", f"/flow_runs/{run}", {"infrastructure_pid": str(innocent.pid)})
        demo.api("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        assert desk.ended(run)["state_type"] == "CANCELLED"
        assert prefect_api.eventually(lambda: not Path(f"/proc/{own}").exists(), bool, 30), "its own process has ended"
        assert innocent.poll() is None
    finally:
        held.close()
        innocent.kill()
        innocent.wait()
    demo.note("the run's own process ends, the other lives; the run is Cancelled")


def test_bad_flow_prods_deployment_moved_to_devs_pool_is_refused_there(demo: Siege) -> None:
    dev = Gatehouse(demo.stack.prefect, None, demo.stack.workers["dev"], demo.home, PROD, demo)
    with dev.changed("deploy-environment", work_pool_name="greylag-dev"):
        reason = dev.refused(dev.create("deploy-environment", environment=PROD))
    assert "it is for prod, and this worker is dev's" in reason
