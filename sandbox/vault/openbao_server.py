"""A real OpenBao core as a child process: what `sandbox.builds` makes of `openbao/`. It speaks Vault's API (vault.md §1).

Unlike the servers of `secrets_server` it keeps its data in its directory, is sealed and unsealed with its own key, may serve TLS with its
own authority, and has everything that greylag asks of a Vault: every login (`logins.py`), short-lived database logins (`database.py`), wrapping,
namespaces, quotas, tokens with a life.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from migrator import errors
from sandbox import builds, certificates, ports, processes
from sandbox.vault import administration

_READY_SECONDS = 30.0  # 0.15 s in practice
_KEYS_FILE = "keys.json"  # the unseal key and the root token, mode 0600
_TOKEN_FILE = "root-token"  # the token alone, for a shell to read; mode 0600


class OpenBaoServer(administration.Administration):
    """One server; a context manager. What was written survives `stop`, and a new object on the same directory finds it.

    Args:
        directory: holds `data/`, `server.log`, `keys.json` and the certificates.
        port: None takes a free one.
        root_token: the root token's value; None makes one, or keeps that of the directory.
        tls: serve https with a certificate of an authority of its own, `ca_file`.
        hosts: the names and addresses in that certificate.
        binary: the program; None takes the cached one.

    Raises:
        NotFound: the program is not built.
    """

    name = "OpenBao"
    unseal_key: str = ""

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        root_token: str | None = None,
        tls: bool = False,
        hosts: Sequence[str] = (ports.LOOPBACK, "localhost"),
        binary: Path | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self.port = port or ports.free_port()
        self.url = f"{'https' if tls else 'http'}://{ports.LOOPBACK}:{self.port}"
        self._keys = self.directory / _KEYS_FILE
        self.token_file = self.directory / _TOKEN_FILE
        self._wanted_token = root_token
        self.root_token = root_token or ""  # known once the server has been initialised
        command: list[str | Path] = [binary or builds.require(builds.OPENBAO), "-listen", f"{ports.LOOPBACK}:{self.port}"]
        command += ["-storage", self.directory / "data"]
        if tls:
            authority = certificates.Authority(self.directory, "OpenBao sandbox authority")
            pair = authority.issue("server", "openbao", hosts=hosts)
            command += ["-tls-certificate", pair.certificate, "-tls-key", pair.key]
            self.ca_file = authority.certificate
        self._process = processes.ServerProcess(
            self.name, command, log=self.directory / "server.log", environment={"PATH": os.environ.get("PATH", os.defpath)}
        )

    def __enter__(self) -> OpenBaoServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Tells whether the server's process is alive; it may be sealed."""
        return self._process.running

    def start(self, *, sealed: bool = False) -> OpenBaoServer:
        """Starts the server and returns once it is healthy; the first start initialises it and mounts KV v2 at `secret/`.

        Args:
            sealed: return as soon as it answers, without initialising or unsealing it.

        Raises:
            Unavailable: it did not start; the detail shows the log's last lines.
        """
        (self.directory / "data").mkdir(parents=True, exist_ok=True)
        self._process.start()
        self._process.wait_until(self._answers, _READY_SECONDS)
        if not sealed:
            if not self._keys.exists():
                self._initialise()
            self._recall()
            self.unseal()
            self.wait_until_healthy()
            self._mount()
        return self

    def wait_until_healthy(self) -> None:
        """Returns once the server is unsealed and active: it takes over its mounts a moment after its key.

        Raises:
            Unavailable: it does not become healthy.
        """
        self._process.wait_until(self.healthy, _READY_SECONDS)

    def stop(self) -> None:
        """Stops the server; its data stay."""
        self._process.stop()

    def restart(self, *, sealed: bool = False) -> None:
        """Stops and starts on the same port, unsealed unless told otherwise. Tokens and leases go on living."""
        self.stop()
        self.start(sealed=sealed)

    def seal(self) -> None:
        """Seals the server: every request answers 503 until `unseal`."""
        self.request("PUT", "sys/seal", {})

    def unseal(self) -> None:
        """Takes `seal` back; `wait_until_healthy` returns once it has taken effect."""
        self.request("PUT", "sys/unseal", {"key": self.unseal_key})

    def crash(self) -> None:
        """Kills the server at once."""
        self._process.kill()

    def _answers(self) -> bool:
        try:
            self.request("GET", "sys/seal-status")
        except errors.Unavailable:
            return False
        return True

    def _initialise(self) -> None:
        made = self.request("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        keys = {"unseal_key": made["keys_base64"][0], "root_token": made["root_token"]}
        self._remember(keys)

    def _recall(self) -> None:
        keys: dict[str, str] = json.loads(self._keys.read_text(encoding="utf-8"))
        self.unseal_key, self.root_token = keys["unseal_key"], keys["root_token"]

    def _mount(self) -> None:
        """Does the first start's work; repeated, where it was interrupted."""
        if "secret/" not in self.request("GET", "sys/mounts")["data"]:
            self.request("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
        wanted = self._wanted_token
        if wanted is not None and wanted != self.root_token:
            body: dict[str, Any] = {"id": wanted, "policies": ["root"], "no_parent": True}
            self.root_token = str(self.request("POST", "auth/token/create", body)["auth"]["client_token"])
            self._remember({"unseal_key": self.unseal_key, "root_token": self.root_token})

    def _remember(self, keys: dict[str, str]) -> None:
        _write_secret(self.token_file, keys["root_token"])
        _write_secret(self._keys, json.dumps(keys))


def _write_secret(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    unfinished.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """Builds it if need be, starts it to be used by hand, prints how, and runs until Ctrl-C: `make vault`."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.vault.openbao_server", description=main.__doc__)
    parser.add_argument("--state", type=Path, default=Path(".sandbox") / "vault", help="where it keeps everything (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8200, help="default: %(default)s, another one while that is taken")
    parser.add_argument("--tls", action="store_true", help="serve https with an authority of its own")
    options = parser.parse_args(arguments)
    processes.exit_on_signals()
    try:
        builds.build(builds.OPENBAO, lambda said: print(f"[vault] {said}", file=sys.stderr, flush=True))
        with OpenBaoServer(options.state, port=ports.preferred_port(options.port), tls=options.tls) as server:
            print(f"OpenBao (Vault's API) is ready at {server.url}, with KV v2 at secret/. In another terminal:\n")
            print(f'  export VAULT_ADDR={server.url} VAULT_TOKEN="$(cat {shlex.quote(str(server.token_file))})"')
            if server.ca_file is not None:
                print(f"  export VAULT_CACERT={shlex.quote(str(server.ca_file))}")
            print('  curl -sS ${VAULT_CACERT:+--cacert "$VAULT_CACERT"} -H "X-Vault-Token: $VAULT_TOKEN" $VAULT_ADDR/v1/sys/mounts\n')
            print("Ctrl-C stops it; its data are there again at the next start.", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        print(file=sys.stderr)
    except errors.GreylagError as error:
        print(error.describe(), file=sys.stderr)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
