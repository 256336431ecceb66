"""Starts the sandbox's cluster with Argo CD for use by hand, prints how to use it, and runs until Ctrl-C: `make argocd`."""

from __future__ import annotations

import argparse
import shlex
import sys
import threading
import time
from pathlib import Path

from migrator import errors
from sandbox import builds, processes
from sandbox.argocd import installation
from sandbox.argocd.repository import Repository
from sandbox.cluster import cluster, images

_ROOT_DIRECTORY = Path(__file__).resolve().parents[2]
_PORT = 8083


def _usage(argocd: installation.ArgoCD, repository: Repository, password: Path, seconds: float) -> str:
    running = argocd.cluster
    exports = f"export KUBECONFIG={shlex.quote(str(running.kubeconfig))} PATH={shlex.quote(str(running.programs))}:$PATH"
    return f"""Argo CD is ready at {argocd.url} after {seconds:.1f} s: user admin, the password is in {password}

In another terminal:

  {exports}
  kubectl -n {installation.NAMESPACE} get applications

A repository for applications (destination {installation.HERE}): {repository.url}
Images that the node knows: machine, greylag.
Logs: {argocd.directory / "logs"}
Ctrl-C stops everything; applications and accounts are there again at the next start."""


def main(arguments: list[str] | None = None) -> int:
    """Serves until a signal; exit codes as the command's (promises.md §1)."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.argocd", description=__doc__)
    parser.add_argument("--state", type=Path, default=Path(".sandbox") / "argocd", help="where it keeps everything (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=_PORT, help="the API's and the UI's (default: %(default)s, another one while it is taken)"
    )
    parser.add_argument("--wave-delay", type=int, metavar="SECONDS", help="the pause between two waves of a sync (default: the released 2)")
    options = parser.parse_args(arguments)
    processes.exit_on_signals()
    try:
        for name in (builds.CONTROLPLANE, builds.ARGOCD):
            builds.build(name, lambda said: print(f"[argocd] {said}", file=sys.stderr, flush=True))
        reason = installation.unavailable()
        if reason is not None:
            raise errors.NotFound(reason, code="sandbox-missing")
        began = time.monotonic()
        repository = Repository(options.state / "repository")
        with cluster.Cluster(options.state / "cluster") as running:
            running.register(images.machine("machine"), images.checkout("greylag", _ROOT_DIRECTORY, Path(sys.executable)))
            argocd = installation.ArgoCD(running, options.state / "argocd", wave_delay_seconds=options.wave_delay, port=options.port)
            with argocd:
                password = argocd.directory / "password"
                password.touch(mode=0o600)
                password.write_text(argocd.password, encoding="utf-8")
                print(_usage(argocd, repository, password, time.monotonic() - began), flush=True)
                threading.Event().wait()
    except KeyboardInterrupt:
        print(file=sys.stderr)
    except errors.GreylagError as error:
        print(error.describe(), file=sys.stderr)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
