"""Main of a ClickHouse child process: `python -P clickhouse_node.py DIRECTORY`, where DIRECTORY holds `config.xml`.

The chdb-core wheel's library contains ClickHouse's own HTTP and native listeners. The clickhouse-local application inside it reads
`config.xml` of the working directory and opens them on request. The call never returns: the process is the server (servers.md
§2). `_chdb.query` is a private entry, hence the pinned version; `connect` and `Session` refuse START LISTEN.
"""

from __future__ import annotations

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


def main(directory: Path) -> int:
    """Serves until SIGTERM. Returns 1, because every other end is an error, which ClickHouse has written to stderr."""
    library: Any = importlib.import_module("chdb._chdb")
    os.chdir(directory)
    library.query(_SERVE, "TSV", path=str(directory / "data"))
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute()))
