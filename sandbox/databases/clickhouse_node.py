"""Main of a ClickHouse child process: `python -P clickhouse_node.py DIRECTORY [LIBRARY]`, where DIRECTORY holds `config.xml`.

The chdb-core wheel's library contains ClickHouse's own HTTP and native listeners. The clickhouse-local application inside it reads
`config.xml` of the working directory and opens them on request. The call never returns: the process is the server (servers.md
§2). `_chdb.query` is a private entry, hence the pinned version; `connect` and `Session` refuse START LISTEN.

LIBRARY is another release's, which exports the server's own main (`clickhouse_releases`); that is called instead.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from pathlib import Path
from typing import Any

# The last statement holds the server open. One row at a time and short sleeps, so that SIGTERM is noticed at once.
_SERVE = (
    "SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP; "
    "SELECT count() FROM system.numbers WHERE sleepEachRow(0.1) = 1 SETTINGS max_block_size = 1"
)

_SERVER_MAIN = "_Z25mainEntryClickHouseServeriPPc"  # mainEntryClickHouseServer(int, char **)


def main(directory: Path, library: Path | None = None) -> int:
    """Serves until SIGTERM, with the installed library or another release's."""
    return _local(directory) if library is None else _server(directory, library)


def _server(directory: Path, library: Path) -> int:
    """Serves as clickhouse-server itself does. Returns its exit code."""
    os.chdir(directory)
    os.environ["CLICKHOUSE_WATCHDOG_ENABLE"] = "0"  # else it forks, and a signal would reach the watchdog alone
    arguments = [b"clickhouse-server", b"--config-file=config.xml"]
    vector = (ctypes.c_char_p * (len(arguments) + 1))(*arguments, None)
    return int(getattr(ctypes.CDLL(str(library)), _SERVER_MAIN)(len(arguments), vector))


def _local(directory: Path) -> int:
    """Serves until SIGTERM. Returns 1, because every other end is an error, which ClickHouse has written to stderr."""
    library: Any = importlib.import_module("chdb._chdb")
    os.chdir(directory)
    library.query(_SERVE, "TSV", path=str(directory / "data"))
    return 1


if __name__ == "__main__":
    sys.exit(main(*(Path(argument).absolute() for argument in sys.argv[1:3])))
