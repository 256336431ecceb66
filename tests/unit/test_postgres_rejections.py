"""Where in the file an error was, in goose's words, without a substituted value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors, targets
from migrator.goose import annotations, excerpts
from migrator.planning import plans
from migrator.postgres import failures, rejections


def step(text: str, env: dict[str, str] | None = None) -> plans.Step:
    parsed = annotations.parse(text, "up", env or {})
    return plans.Step(1, "00001_a.sql", "dir/00001_a.sql", targets.Direction.UP, targets.Mode.TRANSACTION, parsed.statements, "", 0)


def failure(position: int | None = None, context: str = "", message: str = "it failed", sqlstate: str = "42601") -> failures.ServerFailure:
    return failures.ServerFailure(sqlstate, "ERROR", message, position=position, context=context)


def test_the_servers_position_is_a_line_of_the_file_and_a_column() -> None:
    found = step("-- +goose Up\n\nSELECT 1;\nCREATE TABLE t (\n  id int,\n  bad  nonsense\n);\n")
    statement = found.statements[1]
    error = rejections.of_statement(found, statement, failure(statement.text.index("nonsense") + 1))
    assert str(error.where) == "dir/00001_a.sql:6"
    assert error.detail == "4 | CREATE TABLE t (\n5 |   id int,\n6 |   bad  nonsense\n  |        ^^^^^^^^\n7 | );"


def test_positions_count_characters_and_only_without_utf8_bytes() -> None:
    statement = step("-- +goose Up\nSELECT 'é漢',\n nonsense;\n").statements[0]
    characters = statement.text.index("nonsense") + 1
    in_bytes = statement.text.encode().index(b"nonsense") + 1
    assert rejections.position(statement, failure(characters)) == excerpts.Position(3, 1, 2)
    assert rejections.position(statement, failure(in_bytes), characters=False) == excerpts.Position(3, 1, 2)


def test_the_line_of_a_do_block_counts_from_its_quote() -> None:
    text = "-- +goose Up\n-- +goose StatementBegin\n/* why */ DO\nLANGUAGE plpgsql $x$\nBEGIN\n  PERFORM 1/0;\nEND $x$;\n-- +goose StatementEnd\n"
    statement = step(text).statements[0]
    context = 'SQL statement "SELECT 1/0"\nPL/pgSQL function inline_code_block line 3 at PERFORM'
    assert rejections.position(statement, failure(context=context)) == excerpts.Position(6, 3)


@pytest.mark.parametrize(
    ("text", "context"),
    [
        ("SELECT f();", "PL/pgSQL function f() line 3 at RAISE"),
        ("DO $$ BEGIN END $$; DO $$ BEGIN END $$;", "PL/pgSQL function inline_code_block line 3 at RAISE"),
        ("DO $$ BEGIN END $$;", "PL/pgSQL function inline_code_block line 300 at RAISE"),
        ("SELECT 1;", ""),
    ],
)
def test_a_line_is_never_guessed(text: str, context: str) -> None:
    found = step(f"-- +goose Up\n\n{text}\n")
    assert rejections.position(found.statements[0], failure(context=context)) is None
    assert str(rejections.of_statement(found, found.statements[0], failure(context=context)).where) == "dir/00001_a.sql:3"


def test_lines_stay_right_behind_a_value_of_several_lines() -> None:
    found = step("-- +goose Up\n-- +goose ENVSUB ON\nSELECT 1,\n $LIST,\n nonsense;\n", {"LIST": "2,\n3,\n4"})
    statement = found.statements[0]
    error = rejections.of_statement(found, statement, failure(statement.text.index("nonsense") + 1))
    assert str(error.where) == "dir/00001_a.sql:5"
    assert "2,\n3" not in error.describe() and "$LIST" in error.detail


def test_values_are_masked_in_everything_the_server_repeats() -> None:
    found = step("-- +goose Up\n-- +goose ENVSUB ON\nCREATE ROLE r PASSWORD '${PASSWORD}';\n", {"PASSWORD": "hunter2secret"})
    refused = failures.ServerFailure(
        "42601", "ERROR", 'near "hunter2secret"', detail="DETAIL hunter2secret", hint="hunter2secret?", context="in hunter2secret"
    )
    error = rejections.of_statement(found, found.statements[0], refused)
    told = error.describe() + str(error.document())
    assert "hunter2secret" not in told and "${PASSWORD}" in told
    around = rejections.of_step(found, refused, "failed to commit transaction")
    assert "hunter2secret" not in around.describe() + str(around.document())


def test_the_query_is_quoted_as_goose_quotes_it() -> None:
    found = step("-- +goose Up\nSELECT 1 -- one\n-- a comment\n\n+ 'a\"b';\n")
    message = rejections.of_statement(found, found.statements[0], failure()).message
    assert message == (
        "ERROR 00001_a.sql: failed to run SQL migration: failed to execute SQL query "
        '"SELECT 1 -- one\\n+ \'a\\"b\';": ERROR: it failed (SQLSTATE 42601)'
    )


@pytest.mark.parametrize(
    ("sqlstate", "message", "kind", "code"),
    [
        ("42601", "", errors.StatementRejected, "sql-rejected"),
        ("42501", "", errors.LoginFailed, "permission-denied"),
        ("55P03", "", errors.LockUnavailable, "lock-timeout"),
        ("40P01", "", errors.LockUnavailable, "lock-timeout"),
        ("57014", "canceling statement due to statement timeout", errors.TimedOut, "statement-timeout"),
        ("57014", "canceling statement due to user request", errors.Interrupted, "cancelled"),
        ("57014", "COPY from stdin failed: no data", errors.StatementRejected, "copy-from-stdin"),
        ("57P01", "", errors.Unavailable, "unavailable"),
        ("08006", "", errors.Unavailable, "unavailable"),
        ("08P01", "", errors.StatementRejected, "sql-rejected"),
        ("53100", "", errors.Unavailable, "server-exhausted"),
        ("25006", "", errors.Unavailable, "read-only"),
        ("23505", "", errors.StatementRejected, "sql-rejected"),
    ],
)
def test_each_sqlstate_is_one_of_greylags_errors(sqlstate: str, message: str, kind: type[errors.GreylagError], code: str) -> None:
    found = step("-- +goose Up\nSELECT 1;\n")
    error = rejections.of_statement(found, found.statements[0], failure(message=message, sqlstate=sqlstate))
    assert type(error) is kind and error.code == code
    assert error.hint


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('connection failed: FATAL:  password authentication failed for user "u"', errors.LoginFailed),
        ('connection failed: FATAL:  role "u" does not exist', errors.LoginFailed),
        ('FATAL:  no pg_hba.conf entry for host "h", user "u", database "d", no encryption', errors.LoginFailed),
        ('FATAL:  database "d" does not exist', errors.NotFound),
        ("connection timeout expired", errors.TimedOut),
        ("FATAL:  the database system is starting up", errors.Unavailable),
        ("FATAL:  sorry, too many clients already", errors.Unavailable),
        ('could not translate host name "h" to address', errors.Unavailable),
        ('invalid sslmode value: "x"', errors.UsageError),
    ],
)
def test_what_libpq_says_of_a_failed_connection_decides_the_error(text: str, kind: type[errors.GreylagError]) -> None:
    error = failures.of_connect(text, "h:5432", "d", ("s3cret-password",))
    assert type(error) is kind and error.hint


def test_a_secret_in_libpqs_words_is_masked() -> None:
    error = failures.of_connect('invalid something "s3cret-password"', "h:5432", "d", ("s3cret-password",))
    assert "s3cret-password" not in error.describe()


@given(st.text(alphabet="ab\n\t'é$;\udcff\x00", max_size=60), st.integers(-5, 100), st.booleans())
def test_any_position_in_any_text_gives_an_error_with_a_line_of_the_statement(text: str, position: int, characters: bool) -> None:
    found = step(f"-- +goose Up\n-- +goose StatementBegin\nSELECT {text}\n-- +goose StatementEnd\n")
    statement = found.statements[0]
    error = rejections.of_statement(found, statement, failure(max(position, 1)), characters=characters)
    assert error.where is not None and error.where.line is not None
    assert statement.first_line <= error.where.line <= statement.last_line + 1


@pytest.mark.parametrize(
    ("sqlstate", "remedy"),
    [
        ("57P01", "pg_terminate_backend"),
        ("57P02", "crashed"),
        ("57P04", "dropped"),
        ("57P05", "idle_session_timeout"),
        ("25P03", "idle_in_transaction_session_timeout"),
        ("25P04", "transaction_timeout"),
        ("XX000", "run the same command again"),
    ],
)
def test_what_the_server_said_before_it_closed_has_its_own_remedy(sqlstate: str, remedy: str) -> None:
    error = failures.connection_lost("server closed the connection", failures.ServerFailure(sqlstate, "FATAL", "terminating connection"))
    assert error.message == f"the connection to PostgreSQL was lost: FATAL: terminating connection (SQLSTATE {sqlstate})"
    assert remedy in error.hint and error.code == "connection-lost"
    assert remedy == "run the same command again" or remedy not in failures.connection_lost("server closed the connection").hint


def test_a_run_that_was_broken_off_names_the_statement_and_no_substituted_value() -> None:
    found = step("-- +goose Up\n-- +goose ENVSUB ON\nSELECT\n '${WORD}';\n", {"WORD": "geheim"})
    error = rejections.broken_off(errors.TimedOut("timeout: geheim", code="deadline", hint="more"), found, 1, "")
    assert (str(error.where), type(error), error.code, error.hint) == ("dir/00001_a.sql:3", errors.TimedOut, "deadline", "more")
    assert "geheim" not in error.describe() and "${WORD}" in error.message
    around = rejections.broken_off(error, found, 0, "failed to commit transaction")
    assert str(around.where) == "dir/00001_a.sql" and "failed to commit transaction" in around.message
