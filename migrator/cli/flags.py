"""The flags of `greylag`: goose's first, with goose's words, then its own. One table for parsing, help and the environment."""

from __future__ import annotations

from migrator.cli.go_flags import Flag

UPWARDS = ("up", "up-by-one", "up-to")
CHANGING = (*UPWARDS, "down", "down-to", "redo", "reset")
PLANNING = (*CHANGING, "plan")
WITH_FILES = (*PLANNING, "status", "verify", "wait")

GOOSE: tuple[Flag, ...] = (
    Flag("allow-missing", "bool", False, "applies missing (out-of-order) migrations", variable="GREYLAG_ALLOW_MISSING", goose=True),
    Flag("certfile", "string", "", "accepted and ignored (goose reads it for mysql only)", goose=True),
    Flag("dir", "string", ".", "directory with migration files, (GOOSE_MIGRATION_DIR env variable supported)", goose=True),
    Flag("env", "string", "", "load environment variables from file (default .env)", goose=True),
    Flag("h", "bool", False, "print help", goose=True),
    Flag("no-color", "bool", False, "disable color output (NO_COLOR env variable supported); greylag prints no colors anyway", goose=True),
    Flag(
        "no-versioning", "bool", False, "apply migration commands with no versioning, in file order, from directory pointed to", goose=True
    ),
    Flag("s", "bool", False, "use sequential numbering for new migrations", goose=True),
    Flag("ssl-cert", "string", "", "accepted and ignored (goose reads it for mysql only)", goose=True),
    Flag("ssl-key", "string", "", "accepted and ignored (goose reads it for mysql only)", goose=True),
    Flag("table", "string", "", 'migrations table name (default "goose_db_version")', goose=True),
    Flag(
        "timeout",
        "duration",
        0.0,
        "maximum allowed duration for the whole command; e.g., 1h13m (wait: 5m unless given)",
        variable="GREYLAG_TIMEOUT",
        goose=True,
    ),
    Flag("v", "bool", False, "enable verbose mode", goose=True),
    Flag("version", "bool", False, "print version", goose=True),
)

OWN: tuple[Flag, ...] = (
    Flag("accept-hazard", "strings", (), "run a file with this lossy hazard as goose would: FILE:CODE:REASON", verbs=PLANNING),
    Flag("accept-hazards", "bool", False, "run files with lossy hazards exactly as goose would", verbs=PLANNING),
    Flag("against", "string", "", "also compare with what the databases of @environment/service have applied", verbs=("validate",)),
    Flag(
        "approval",
        "string",
        "",
        "use up this approval in the database: nothing runs under it twice; a signed one where -approvers is given",
        variable="GREYLAG_APPROVAL",
        verbs=UPWARDS,
    ),
    Flag(
        "approved-digest",
        "string",
        "",
        "run only the plan with this digest, or what is left of it",
        variable="GREYLAG_APPROVED_DIGEST",
        verbs=CHANGING,
    ),
    Flag(
        "approvers",
        "string",
        "",
        "apply only what an -approval allows that people of this directory's allowed_signers have signed",
        variable="GREYLAG_APPROVERS",
        verbs=UPWARDS,
    ),
    Flag("approvers-minimum", "integer", 1, "how many persons must have signed", variable="GREYLAG_APPROVERS_MINIMUM", verbs=UPWARDS),
    Flag("bundle", "string", "", "the digest that the directory's files must have", variable="GREYLAG_BUNDLE", verbs=WITH_FILES),
    Flag("checksum", "strings", (), "record the present content of VERSION as what was applied", verbs=("repair",)),
    Flag("drift", "bool", False, "look at what was applied alone: files that wait are no failure", verbs=("verify",)),
    Flag("done", "strings", (), "answer that statement VERSION:INDEX was executed", verbs=("repair",)),
    Flag("exit-code", "bool", False, "end with 3 when migrations are pending", verbs=("status",)),
    Flag("expand", "bool", False, "show statements with ENVSUB's values filled in, on a terminal only", verbs=("plan",)),
    Flag("expected-database", "string", "", "the database that must be reached, and no other", variable="GREYLAG_EXPECTED_DATABASE"),
    Flag("image", "string", "", "the image that this runs in, as a signed -approval names it", variable="GREYLAG_IMAGE", verbs=UPWARDS),
    Flag("json", "bool", False, "write one JSON document (up, down, …: one event per line) to standard output", variable="GREYLAG_JSON"),
    Flag("lock-budget", "duration", 60.0, "how long a statement is retried that can't get its lock", variable="GREYLAG_LOCK_BUDGET"),
    Flag(
        "lock-timeout",
        "duration",
        0.2,
        "longest that a transaction waits for locks that block readers or writers",
        variable="GREYLAG_LOCK_TIMEOUT",
    ),
    Flag("lock-wait", "duration", 300.0, "how long to wait for another run on the same database", variable="GREYLAG_LOCK_WAIT"),
    Flag("min-version", "integer", 0, "wait for this version instead of the directory's newest", verbs=("wait",)),
    Flag("not-done", "strings", (), "answer that statement VERSION:INDEX was not executed", verbs=("repair",)),
    Flag("protected", "bool", False, "refuse to roll back", variable="GREYLAG_PROTECTED", verbs=PLANNING),
    Flag("renamed", "strings", (), "record the applied version OLD as NEW: its file was renamed (OLD:NEW)", verbs=("repair",)),
    Flag("role", "string", "", "role to take after login (PostgreSQL: SET ROLE)", variable="GREYLAG_ROLE"),
    Flag("rules", "bool", False, "warn of what stands against the house rules", variable="GREYLAG_RULES", verbs=(*PLANNING, "validate")),
    Flag("service", "string", "greylag", "name shown to the server in application_name", variable="GREYLAG_SERVICE"),
    Flag("statement-timeout", "duration", 0.0, "longest run of one statement, 0 for no limit", variable="GREYLAG_STATEMENT_TIMEOUT"),
    Flag("strict", "bool", False, "objects that no version made are a failure too", variable="GREYLAG_STRICT", verbs=("verify",)),
    Flag("to", "integer", 0, "mark versions up to VERSION as applied without running them", verbs=("baseline",)),
)

ALL: tuple[Flag, ...] = GOOSE + OWN

DOCUMENT = Flag("json", "bool", False, "write one JSON document to standard output, errors included")
"""What verbs of other packages take beside their own flags."""
