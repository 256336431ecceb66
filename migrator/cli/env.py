"""`env`: the settings in effect, on standard output as goose prints them. An address is shown without its password."""

from __future__ import annotations

import os

from migrator.address import redaction
from migrator.cli import output
from migrator.cli.go_flags import TRUE
from migrator.cli.invocation import configured
from migrator.cli.session import Session
from migrator.goose import goquote


def run(session: Session) -> int:
    """Prints the variables."""
    color = os.environ.get("NO_COLOR", "false") in TRUE
    shown = {
        "GOOSE_DRIVER": configured(os.environ, "DRIVER"),
        "GOOSE_DBSTRING": redaction.redact(configured(os.environ, "DBSTRING")),
        "GOOSE_MIGRATION_DIR": configured(os.environ, "MIGRATION_DIR") or ".",
        "GOOSE_TABLE": configured(os.environ, "TABLE"),
        "NO_COLOR": "true" if color else "false",
    }
    session.document["environment"] = shown
    if not session.json:
        for name, value in shown.items():
            output.out(f"{name}={goquote.quote(value)}\n")
    return 0
