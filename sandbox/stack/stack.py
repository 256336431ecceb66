"""The surroundings of a whole fleet on one machine: PostgreSQL, ClickHouse, a secrets server, Prefect, and one worker for each work pool.

`Stack(directory)` starts all of them in parallel, makes every service's database and login in every environment of fleet.yaml, and writes
the credentials to the places that fleet.yaml names. Each environment's worker can read its own secrets and no others; the promotion
worker can read none. A second start on the same directory finds the same data, passwords, ports and runs.
"""

from __future__ import annotations

import argparse
import contextlib
import enum
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from migrator import errors
from sandbox import ports, processes
from sandbox.databases import clickhouse, postgres
from sandbox.stack import prefect_server
from sandbox.stack import state as stack_state
from sandbox.vault import administration, secrets_server
from tasks import fleet
from tasks.fleet.models import Engine, Fleet, Target

PROMOTION = "promotion"
"""The work pool beside the environments' own: its worker holds no credentials (architecture.md §3.2)."""


class State(enum.StrEnum):
    """The state of a component."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


Progress = Callable[[str, State, float], None]
"""Receives a component's name, its state, and the seconds since its start began; one call at a time."""


class Component(Protocol):
    """A thing that is started and stopped with a stack."""

    def start(self) -> object: ...

    def stop(self) -> object: ...


class Stack:
    """All components, as one context manager.

    Args:
        directory: holds all data, logs and passwords.
        progress: receives what starts and what is ready.
        fleet_file: another fleet than fleet.yaml (or GREYLAG_FLEET's).
        workers: False leaves the workers out; `launch_workers` can start them later, one by one.
        worker_settings: variables for every worker in addition to its credentials, e.g. `GREYLAG_BACKOFF_BASE_SECONDS`.
        postgres_version: major version.
        beside: further components by name, started with the servers and stopped after the workers.
    """

    def __init__(
        self,
        directory: Path = stack_state.DEFAULT_DIRECTORY,
        *,
        progress: Progress = lambda *_: None,
        fleet_file: Path | None = None,
        workers: bool = True,
        worker_settings: Mapping[str, str] | None = None,
        postgres_version: int = postgres.DEFAULT_VERSION,
        beside: Mapping[str, Component] | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self.fleet: Fleet = fleet.load(fleet_file)
        self.workers: dict[str, prefect_server.PrefectWorker] = {}
        self._with_workers = workers
        self._worker_settings = dict(worker_settings or {})
        self._postgres_version = postgres_version
        self._beside = dict(beside or {})
        self._report = _Reporter(progress)
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Stack:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Stack:
        """Starts everything and returns once every worker is online. If anything fails, all of it is stopped again.

        Raises:
            Unavailable: a component did not start (with its log's last lines), or a stack runs in this directory already.
        """
        try:
            self._closing.enter_context(stack_state.held(self.directory))
            self._build()
            self._in_parallel(
                {
                    "PostgreSQL": self._start_postgres,
                    "ClickHouse": self._start_clickhouse,
                    self.vault.name: self._start_vault,
                    "Prefect server": self._start_prefect,
                }
                | {name: functools.partial(self._start_beside, component) for name, component in self._beside.items()}
            )
            self._write_credentials()
            stack_state.remember(self.directory, self.addresses())
            if self._with_workers:
                self.launch_workers(*self.work_pools())
                self.wait_for_workers()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stops everything, workers first; data are kept. Safe to repeat."""
        self._closing.close()

    def launch_workers(self, *names: str, settings: Mapping[str, str] | None = None) -> None:
        """Starts the workers of these environments (`PROMOTION` for the promotion's) without waiting for them; `settings` are for these alone."""
        if not self.workers:
            self._stop_later(self._stop_workers)
        for name in names:
            pool = self.work_pools()[name]
            own = dict(self._worker_settings) if name == PROMOTION else self.environment(name)
            own |= {"GREYLAG_HOME": str(prefect_server.PROJECT_ROOT), "GREYLAG_FLEET": str(self.fleet.path)} | dict(settings or {})
            self.workers[name] = prefect_server.PrefectWorker(self.prefect, pool, environment=own, serving=name)
            self.workers[name].launch()

    def wait_for_workers(self) -> None:
        """Returns once every launched worker is online.

        Raises:
            Unavailable: one did not come up; the detail shows its log's last lines.
        """
        self._in_parallel({f"worker {worker.pool}": worker.wait_until_online for worker in self.workers.values()})

    def addresses(self) -> stack_state.Addresses:
        """Returns the addresses of all servers."""
        return stack_state.Addresses(
            pid=os.getpid(),
            fleet=str(self.fleet.path),
            postgres_port=self.postgres.port,
            clickhouse_http_port=self.clickhouse.http_port,
            clickhouse_tcp_port=self.clickhouse.tcp_port,
            vault_url=self.vault.url,
            vault_port=self.vault.port,
            prefect_url=self.prefect.url,
            prefect_api_url=self.prefect.api_url,
            prefect_port=self.prefect.port,
            work_pools=self.work_pools(),
        )

    def work_pools(self) -> dict[str, str]:
        """Returns the work pool of each environment, in the order of promotion, and that of the promotion itself."""
        first = next(iter(self.fleet.services))
        pools = {name: self.fleet.target(first, name).work_pool for name in self.fleet.environments}
        return pools | {PROMOTION: self.fleet.work_pool.replace("{environment}", PROMOTION)}

    def environment(self, environment: str) -> dict[str, str]:
        """Returns the variables of an environment's worker: its Vault login, Prefect's address, and the settings that every worker gets."""
        return client_environment(self.directory, self.addresses(), environment) | self._worker_settings

    def url(self, target: Target) -> str:
        """Returns the DBSTRING of a service's own login, password included; for looking at a database from outside the flows."""
        word = self._passwords.password(_login(target))
        server = self.postgres if target.engine == Engine.POSTGRES else self.clickhouse
        return server.url(_login(target), word, target.database)

    def _build(self) -> None:
        before = stack_state.recall(self.directory)
        self._passwords = stack_state.Passwords(self.directory)
        words = {_login(target): self._passwords.password(_login(target)) for target in self.fleet.targets()}
        root_token = self._passwords.token("vault root")
        self._passwords.save()
        clickhouse_users = [
            clickhouse.User(_login(target), words[_login(target)], clickhouse.owner_grants(target.database))
            for target in self._targets(Engine.CLICKHOUSE)
        ]
        self.postgres = postgres.PostgresServer(
            self.directory / "postgres",
            port=ports.preferred_port(before.postgres_port if before else None),
            version=self._postgres_version,
        )
        self.clickhouse = clickhouse.ClickHouseServer(
            self.directory / "clickhouse",
            http_port=ports.preferred_port(before.clickhouse_http_port if before else None),
            tcp_port=ports.preferred_port(before.clickhouse_tcp_port if before else None),
            users=clickhouse_users,
        )
        self.vault = secrets_server.open_server(
            self.directory / "vault",
            port=ports.preferred_port(before.vault_port if before else None),
            root_token=root_token,
        )
        self.prefect = prefect_server.PrefectServer(
            self.directory / "prefect",
            ports.preferred_port(before.prefect_port if before else None),
            progress=lambda what: self._report.say(f"Prefect server: {what}", State.STARTING),
        )

    def _in_parallel(self, starts: Mapping[str, Callable[[], object]]) -> None:
        """Runs every start in parallel and waits for all; the first failure is raised once all have ended."""
        with ThreadPoolExecutor(len(starts)) as pool:
            under_way = [pool.submit(self._report.timed, name, start) for name, start in starts.items()]
        for each in under_way:
            each.result()

    def _start_postgres(self) -> None:
        self._stop_later(self.postgres.stop)
        self.postgres.start()
        for target in self._targets(Engine.POSTGRES):
            self.postgres.create_database(target.database, _login(target), self._passwords.password(_login(target)))

    def _start_clickhouse(self) -> None:
        self._stop_later(self.clickhouse.stop)
        self.clickhouse.start()
        for target in self._targets(Engine.CLICKHOUSE):
            self.clickhouse.create_database(target.database)

    def _start_vault(self) -> None:
        self._stop_later(self.vault.stop)
        self.vault.start()

    def _start_prefect(self) -> None:
        self._stop_later(self.prefect.stop)
        self.prefect.start()
        self.prefect.end_leftovers()

    def _start_beside(self, component: Component) -> None:
        self._stop_later(component.stop)
        component.start()

    def _stop_later(self, stop: Callable[[], object]) -> None:
        self._closing.callback(stop)

    def _write_credentials(self) -> None:
        """Writes every service's secret, and for each environment a policy, a role and the files with which its worker logs in."""
        for target in self.fleet.targets():
            secret = self.secret(target)
            if self.vault.read_secret(target.vault_path, target.vault_mount) != secret:
                self.vault.write_secret(target.vault_path, secret, target.vault_mount)
        for environment in self.fleet.environments:
            paths = [f"{each.vault_mount}/data/{each.vault_path}" for each in self.fleet.targets() if each.environment == environment]
            name = f"greylag-{environment}"
            self.vault.create_policy(name, {path: ["read"] for path in paths})
            role = self.vault.create_role(name, name, token_ttl="20m", token_max_ttl="1h")
            _write_login(self.directory, environment, role)

    def secret(self, target: Target) -> dict[str, Any]:
        """Returns a service's credentials, as the secrets server has them."""
        keys = target.secret_keys
        secret: dict[str, Any] = {
            keys.host[0]: ports.LOOPBACK,
            keys.port[0]: self.postgres.port if target.engine == Engine.POSTGRES else self.clickhouse.tcp_port,
            keys.username[0]: _login(target),
            keys.password[0]: self._passwords.password(_login(target)),
            keys.database[0]: target.database,
        }
        if target.engine == Engine.CLICKHOUSE:
            secret[keys.http_port[0]] = self.clickhouse.http_port
        return secret

    def _stop_workers(self) -> None:
        with ThreadPoolExecutor(len(self.workers)) as pool:
            list(pool.map(lambda worker: worker.stop(), self.workers.values()))

    def _targets(self, engine: Engine) -> list[Target]:
        return [target for target in self.fleet.targets() if target.engine == engine]


class _Reporter:
    """Times components and passes their states on, one at a time, from any thread."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._guard = threading.Lock()

    def say(self, name: str, state: State, seconds: float = 0.0) -> None:
        with self._guard:
            self._progress(name, state, seconds)

    def timed(self, name: str, start: Callable[[], object]) -> None:
        began = time.monotonic()
        self.say(name, State.STARTING)
        try:
            start()
        except BaseException:
            self.say(name, State.FAILED, time.monotonic() - began)
            raise
        self.say(name, State.READY, time.monotonic() - began)


def client_environment(directory: Path, addresses: stack_state.Addresses, environment: str) -> dict[str, str]:
    """Returns the variables with which any process acts as an environment's worker; secrets stay in files that they name.

    Args:
        directory: the stack's.
        addresses: `stack_state.running(directory)`.
        environment: one of the fleet's.
    """
    login = directory.absolute() / "credentials" / environment
    role_id = login / "role-id"
    if not role_id.exists():
        raise errors.UsageError(f"the sandbox has no environment {environment!r}", hint=f"choose from {', '.join(addresses.work_pools)}")
    return {
        "GREYLAG_FLEET": addresses.fleet,
        "GREYLAG_VAULT_ADDRESS": addresses.vault_url,
        "GREYLAG_VAULT_ROLE_ID": role_id.read_text(encoding="utf-8").strip(),
        "GREYLAG_VAULT_SECRET_ID_FILE": str(login / "secret-id"),
        "PREFECT_API_URL": addresses.prefect_api_url,
    }


def _write_login(directory: Path, environment: str, role: administration.RoleCredentials) -> None:
    login = directory / "credentials" / environment
    stack_state.write_private(login / "role-id", role.role_id + "\n")
    stack_state.write_private(login / "secret-id", role.secret_id + "\n")


def _login(target: Target) -> str:
    """Returns the database user of a service in an environment."""
    return f"{target.service}-{target.environment}"


def main(arguments: list[str] | None = None) -> int:
    """Starts a stack, prints its addresses, and serves until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.stack.stack", description="Starts the sandbox in the foreground.")
    parser.add_argument("--directory", type=Path, default=stack_state.DEFAULT_DIRECTORY, help="default: %(default)s")
    options = parser.parse_args(arguments)
    processes.exit_on_signals()
    try:
        with Stack(options.directory, progress=_print_progress) as stack:
            print(stack.addresses().as_json(), end="", flush=True)
            print("Ctrl-C stops everything; data are kept.", file=sys.stderr)
            signal.pause()
    except KeyboardInterrupt:
        return 0
    except errors.GreylagError as problem:
        print(problem.describe(), file=sys.stderr)
        return int(problem.exit_code)
    return 0


def _print_progress(name: str, state: State, seconds: float) -> None:
    print(f"{name}: {state}" + (f" after {seconds:.1f} s" if seconds else ""), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
