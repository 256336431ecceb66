"""Starts greylag's command in children of a process that has everything imported: a kill costs a fork, not a start of Python.

Reads one JSON document a line (`arguments`, `log`, `variables`), writes `{"pid": …}` and, when the child has ended, `{"status": …}`.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys


def main() -> None:
    """Serves until standard input ends."""
    from migrator import applying, cli, databases, verification  # noqa: F401  everything that a run needs
    from migrator.clickhouse import connection as _clickhouse  # noqa: F401
    from migrator.planning import files, planner  # noqa: F401
    from migrator.postgres import connection as _postgres  # noqa: F401

    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            nothing = os.open(os.devnull, os.O_RDWR)
            for source, target in ((nothing, 0), (log, 1), (log, 2)):
                os.dup2(source, target)
            os.environ.update(request["variables"])
            sys.argv = ["greylag", *request["arguments"]]
            sys.exit(cli.main(request["arguments"]))
        print(json.dumps({"pid": child}), flush=True)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
