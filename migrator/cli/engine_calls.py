"""What a verb of the engine has beside what every verb has: files, database, policy, listener, goose's words, the pod's last words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator import errors
from migrator.address import redaction
from migrator.cli import output, process, text
from migrator.cli.calls import Call
from migrator.cli.invocation import Invocation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from migrator import databases, house_rules
    from migrator.planning import events, files, plans


class EngineCall(Call):
    """One call of one verb of the engine, on one database or none. Raises UsageError for an -accept-hazard that says nothing."""

    def __init__(self, invocation: Invocation) -> None:
        super().__init__(invocation.verb.name, invocation.values, invocation.arguments, json=invocation.values.boolean("json"))
        self.invocation = invocation
        if invocation.label:
            self.document["target"] = invocation.label
        self.error_prefix = ""
        """goose's words before an error at the present stage ("failed to collect migrations: ")."""
        self.running: tuple[int, int] | None = None
        """Version and index (from 1) of the statement that was last known to run; for the message of a time-out."""
        self.run_id = ""
        """How the newest connection calls its run."""
        self.finished: list[events.MigrationFinished] = []
        """What was recorded so far, also when the run fails afterwards."""
        self.plan: plans.Plan | None = None
        """The plan as it was made last."""
        self._accepted = tuple(_acceptance(item) for item in self.values.strings("accept-hazard"))
        self._print = text.listener(self.values.boolean("v"))

    @property
    def policy(self) -> plans.Policy:
        """Returns what the flags accept."""
        from migrator.planning import plans

        return plans.Policy(
            accept_hazards=self.values.boolean("accept-hazards"),
            protected=self.values.boolean("protected") or self.invocation.protected,
            accepted=(*self._accepted, *(plans.Acceptance(*item) for item in self.invocation.accepted)),
        )

    @property
    def rules(self) -> house_rules.Settings:
        """Returns the house rules that are on: fleet.yaml's, all with `-rules`."""
        return self.invocation.rules.with_all_on() if self.values.boolean("rules") else self.invocation.rules

    def load(self) -> files.MigrationSet:
        """Loads the migrations of the directory.

        Raises FileError, also when there are none (goose.md §3.2); PlanRefused (`bundle-changed`) where others are asked for.
        """
        from migrator.planning import files

        found = files.load(self.invocation.directory)
        if not found.migrations:
            raise errors.FileError(
                "no migration files found",
                code="no-migration-files",
                hint=f"files in {self.invocation.directory} are named VERSION_name.sql; `greylag -dir DIR create NAME sql` writes one",
            )
        wanted = self.values.string("bundle")
        if wanted and (actual := found.digest()) != wanted:
            raise errors.PlanRefused(
                f"the files in {self.invocation.directory} are bundle {actual[:12]}, asked for is bundle {wanted[:12]}",
                code="bundle-changed",
                hint="run the image or the commit that has this bundle, or start the release again for the files that are here now",
            )
        return found

    def open(self, connect_timeout: float = 0.0) -> databases.Database:
        """Connects. Raises as `databases.open_database`; NotFound (`wrong-database`) where another database is asked for.

        Args:
            connect_timeout: seconds; 0 takes the usual ones.
        """
        from dataclasses import replace

        from migrator import databases

        if process.is_alone():
            databases.prepare_alone(self.invocation.driver)
        seconds = self.values.seconds
        locks = databases.LockPolicy(
            migration_wait=seconds("lock-wait"),
            statement_lock_timeout=seconds("lock-timeout"),
            budget=seconds("lock-budget"),
            statement_timeout=seconds("statement-timeout"),
        )
        options = databases.Options(
            table=self.invocation.table,
            service=self.invocation.service,
            locks=locks,
            owner_role=self.values.string("role") or self.invocation.owner_role,
        )
        if connect_timeout:
            options = replace(options, connect_timeout=connect_timeout)
        self.run_id = options.run_id
        try:
            database = databases.open_database(self.invocation.driver, self.invocation.dbstring, options)
        except errors.LoginFailed as error:
            error.hint = self.invocation.login_hint or error.hint
            raise
        expected = self.values.string("expected-database")
        if expected and database.name != expected:
            reached = database.name
            database.close()
            raise errors.NotFound(
                f'the credentials lead to the database "{reached}", this environment\'s database is "{expected}"',
                code="wrong-database",
                hint=f'put "{expected}" into the secret, or correct what is expected (-expected-database)',
            )
        return database

    def listen(self, event: events.Event) -> None:
        """Takes the engine's events: prints them, and writes them as JSON lines where the verb streams."""
        from migrator.planning import events

        if isinstance(event, events.MigrationStarted):
            self.running = (event.version, 1)
        elif isinstance(event, events.StatementFinished):
            self.running = (event.version, event.index + 1)
        elif isinstance(event, events.MigrationFinished):
            self.running = None
            self.finished.append(event)
        self._print(event)
        if self.json and self.invocation.verb.streams:
            label = {"target": self.invocation.label} if self.invocation.label else {}
            output.write_line({**event.document(), **label})

    def log(self, message: str) -> None:
        """Prints one of goose's lines."""
        text.log(message)

    def secrets(self) -> Iterable[str]:
        """Returns what must not be printed: what the address holds."""
        return self.invocation.secrets if self.invocation.dbstring else ()

    def fail(self, error: errors.GreylagError) -> int:
        """Prints an error: goose's line, then greylag's with place, code, excerpt and hint. Returns the exit code."""
        error.detail = error.detail or _excerpt(error.where)
        error.hint = error.hint.replace("greylag DRIVER DBSTRING", f"greylag {self.invocation.call}")
        secrets = tuple(self.secrets())
        message, location, hint, detail = (
            redaction.redact(item, secrets)
            for item in (self._goose_text(error), str(error.where) if error.where else "", error.hint, error.detail)
        )
        for line in detail.splitlines():
            if line.startswith("goose: "):
                text.log(line)
        text.log(message)
        text.own(f"{location}: [{error.code}]" if location else f"[{error.code}]")
        text.own("\n".join(line for line in detail.splitlines() if not line.startswith("goose: ")))
        text.own(f"hint: {hint}" if hint else "")
        self.document["error"] = {
            **error.document(),
            "message": redaction.redact(error.message, secrets),
            "hint": hint,
            "detail": detail or None,
        }
        return int(error.exit_code)

    def _goose_text(self, error: errors.GreylagError) -> str:
        """Returns the line that goose would end with."""
        if error.code == "unknown-driver" and error.message.startswith("-dbstring="):
            return error.message
        if self.invocation.verb.name == "validate":
            return f"goose validate: {error.message}"
        message = error.message
        if isinstance(error, errors.ParseError) and error.where and not message.startswith("ERROR "):
            message = f"ERROR {error.where.path.rpartition('/')[2]}: failed to parse SQL migration file: {message}"
        return f"goose run: {self.error_prefix}{message}"

    def finish(self, exit_code: int, documents: list[dict[str, object]] | None = None) -> None:
        """Writes the document; one of several targets is put into `documents`, which are written together."""
        self._leave_last_words(exit_code)
        if self.json and documents is None and self.invocation.verb.streams:
            output.write_line({"event": "result", **self.document, "exit_code": exit_code})
        else:
            super().finish(exit_code, documents)

    def _leave_last_words(self, exit_code: int) -> None:
        """Leaves the outcome where the pod's status takes it from, if this is a pod that asks for it."""
        import os

        place = os.environ.get("GREYLAG_TERMINATION_LOG")
        if not place:
            return
        from migrator.cli import termination

        applied = [(item.version, item.statements, item.seconds) for item in self.finished]
        known = {"bundle": self.plan.bundle, "plan": self.plan.digest} if self.plan else {}
        problem = termination.write(termination.outcome(self.document, exit_code, applied, **known), place)
        if problem:
            text.own(f"warning: the termination message can't be written: {problem} [no-termination-message]")


def _acceptance(text: str) -> plans.Acceptance:
    from migrator.planning import plans

    file, _, rest = text.partition(":")
    hazard, _, reason = rest.partition(":")
    if not (file and hazard and reason.strip()):
        raise errors.UsageError(
            f'-accept-hazard takes FILE:CODE:REASON, not "{text}"',
            hint="the refusal names file and code; the reason is recorded: -accept-hazard '00007_seed.sql:several-commands:both are meant to run'",
        )
    return plans.Acceptance(file, hazard, reason.strip())


def _excerpt(where: errors.Location | None) -> str:
    """Returns the line of the file that an error is about, with those before it; nothing where no line is known, or the file can't be read."""
    if where is None or where.line is None:
        return ""
    from itertools import islice
    from pathlib import Path

    from migrator.goose import excerpts

    first = max(where.line - excerpts.CONTEXT_LINES, 1)
    try:
        with Path(where.path).open(encoding="utf-8", errors="surrogateescape", newline="\n") as stream:
            lines = list(islice(stream, first - 1, where.line))
    except OSError:
        return ""
    return excerpts.of_lines(lines[:-1], lines[-1], where.line) if len(lines) == where.line - first + 1 else ""
