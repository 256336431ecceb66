"""Starts the sandbox's cluster for use by hand, prints how to use it, and runs until Ctrl-C: `make cluster`."""

from __future__ import annotations

import argparse
import shlex
import sys
import threading
import time
from pathlib import Path

from migrator import errors
from sandbox import builds, processes
from sandbox.cluster import cluster, images

_ROOT_DIRECTORY = Path(__file__).resolve().parents[2]
_HERE = "python -m sandbox.cluster"


def _image(text: str) -> images.Image:
    """Reads `NAME` or `NAME=DIRECTORY`: returns the checkout under this name, with the directory at /migrations."""
    name, _, directory = text.partition("=")
    mounts = {"/migrations": str(Path(directory).resolve(strict=True))} if directory else {}
    return images.checkout(name, _ROOT_DIRECTORY, Path(sys.executable), mounts)


def _usage(running: cluster.Cluster, names: list[str], seconds: float) -> str:
    exports = f"export KUBECONFIG={shlex.quote(str(running.kubeconfig))} PATH={shlex.quote(str(running.programs))}:$PATH"
    return f"""Kubernetes {builds.kubernetes_release()} with one node is ready after {seconds:.1f} s. In another terminal:

  {exports}
  kubectl run hello --image=machine --restart=Never --command -- echo hello
  kubectl logs -f hello

Images that the node knows: {", ".join(names)}. Another, with its migrations: make cluster IMAGES=auth-service=services/auth-service
Logs of the components: {running.directory / "logs"}
Ctrl-C stops everything; the objects are there again at the next start."""


def main(arguments: list[str] | None = None) -> int:
    """Serves until a signal; exit codes as the command's (promises.md §1)."""
    parser = argparse.ArgumentParser(prog=_HERE, description=__doc__)
    parser.add_argument("--state", type=Path, default=Path(".sandbox") / "cluster", help="where it keeps everything (default: %(default)s)")
    parser.add_argument("--image", type=_image, action="append", default=[], metavar="NAME[=DIRECTORY]", help="may be given again")
    parser.add_argument("--job-backoff", type=float, metavar="SECONDS", help="the Job controller's first delay (default: the released 10)")
    options = parser.parse_args(arguments)
    processes.exit_on_signals()
    try:
        builds.build(builds.CONTROLPLANE, lambda said: print(f"[cluster] {said}", file=sys.stderr, flush=True))
        reason = cluster.unavailable()
        if reason is not None:
            raise errors.NotFound(reason, code="sandbox-missing")
        began = time.monotonic()
        with cluster.Cluster(options.state, job_backoff_seconds=options.job_backoff) as running:
            known = [images.machine("machine"), images.checkout("greylag", _ROOT_DIRECTORY, Path(sys.executable)), *options.image]
            running.register(*known)
            print(_usage(running, [image.name for image in known], time.monotonic() - began), flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        print(file=sys.stderr)
    except errors.GreylagError as error:
        print(error.describe(), file=sys.stderr)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
