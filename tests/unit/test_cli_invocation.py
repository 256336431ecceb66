"""From words and environment to what is done (goose.md §5.1), without a server."""

from __future__ import annotations

import pytest

from migrator import errors
from migrator.cli import extensions, flags, go_flags, invocation

URL = "postgres://u:s3cr3t@h/d"


def _resolve(*words: str, **environ: str) -> invocation.Invocation:
    (found,) = invocation.resolve(go_flags.parse(list(words), flags.ALL), environ)
    return found


def _refusal(*words: str, **environ: str) -> errors.UsageError:
    with pytest.raises(errors.UsageError) as refusal:
        _resolve(*words, **environ)
    assert "s3cr3t" not in refusal.value.describe()
    return refusal.value


def test_driver_address_command_words() -> None:
    found = _resolve("-dir", "m", "postgres", URL, "up-to", "5", "-table", "s.t")
    assert (found.driver, found.dbstring, found.verb.name, found.arguments) == ("postgres", URL, "up-to", ("5",))
    assert (found.directory, found.table) == ("m", "s.t")


def test_driver_and_address_come_from_the_environment_as_in_goose() -> None:
    found = _resolve("status", GOOSE_DRIVER="postgres", GOOSE_DBSTRING=URL, GOOSE_TABLE="t", GOOSE_MIGRATION_DIR="m")
    assert (found.driver, found.dbstring, found.table, found.directory) == ("postgres", URL, "t", "m")
    assert _resolve(URL, "status", GOOSE_DRIVER="pgx").dbstring == URL
    assert _resolve("pgx", "status", GOOSE_DBSTRING=URL).driver == "pgx"


def test_a_driver_given_twice_is_refused_in_gooses_words() -> None:
    both = _refusal("postgres", URL, "status", GOOSE_DRIVER="postgres", GOOSE_DBSTRING=URL)
    assert both.message == '"postgres": no such command'
    one = _refusal("postgres", URL, "status", GOOSE_DRIVER="postgres")
    assert one.message == '"postgres://u:***@h/d": no such command'
    assert one.hint == both.hint == "GOOSE_DRIVER is set, so leave the driver out of the command line"


def test_greylags_variables_come_before_gooses() -> None:
    found = _resolve("status", GOOSE_DRIVER="pgx", GREYLAG_DRIVER="postgres", GOOSE_DBSTRING="x", GREYLAG_DBSTRING=URL)
    assert (found.driver, found.dbstring) == ("postgres", URL)


def test_an_explicit_current_directory_is_overridden_as_in_goose() -> None:
    assert _resolve("-dir", ".", "postgres", URL, "up", GOOSE_MIGRATION_DIR="m").directory == "m"
    assert _resolve("-dir", "./", "postgres", URL, "up", GOOSE_MIGRATION_DIR="m").directory == "./"


def test_credentials_in_parts_make_an_address_with_every_part_encoded() -> None:
    found = _resolve("up", GREYLAG_DRIVER="postgres", GREYLAG_HOST="h", GREYLAG_USERNAME="u", GREYLAG_PASSWORD="p@/:", GREYLAG_DATABASE="d")
    assert found.dbstring == "postgres://u:p%40%2F%3A@h:5432/d"


def test_the_command_may_come_first() -> None:
    found = _resolve("plan", "postgres", URL, "down")
    assert (found.verb.name, found.driver, found.arguments) == ("plan", "postgres", ("down",))


@pytest.mark.parametrize("driver", ["mysql", "sqlite3", "redshift", "nope"])
def test_other_drivers_are_refused_with_gooses_words_and_the_reason(driver: str) -> None:
    refusal = _refusal(driver, URL, "up")
    assert refusal.message == f'-dbstring="postgres://u:***@h/d": "{driver}": unknown dialect'
    assert refusal.hint


def test_unknown_commands_are_refused_in_gooses_words() -> None:
    assert _refusal("postgres", URL, "nope").message == '"nope": no such command'
    assert _refusal("postgres", URL, "validate").message == '"validate": no such command'
    assert _refusal("postgres", URL, "validat").hint.startswith("did you mean validate?")


def test_a_mistyped_command_is_told_what_it_may_mean() -> None:
    assert "did you mean status?" in _refusal("postgres", URL, "stauts").hint
    assert "did you mean" not in _refusal("postgres", URL, "nope").hint


def test_files_commands_need_no_database_and_take_one() -> None:
    assert _resolve("create", "x", "sql").driver == ""
    assert _resolve("postgres", URL, "create", "x", "sql").arguments == ("x", "sql")


def test_too_few_words_never_show_the_address() -> None:
    assert "too few words" in _refusal("postgres", URL).message


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("up", "driver and address are missing"),
        ("postgres", "address and command are missing"),
        ("postgres up", "the address is missing"),
        (f"{URL} up", "the driver is missing"),
        (f"postgres {URL}", "the address or the command is missing"),
        ("stauts", "neither a driver nor a command"),
    ],
)
def test_too_few_words_say_which_is_missing(words: str, said: str) -> None:
    assert said in _refusal(*words.split()).message


def test_a_mistyped_first_word_is_told_what_it_may_mean() -> None:
    assert "did you mean status?" in _refusal("stauts").hint
    assert "did you mean postgres?" in _refusal("Postgresql", URL, "up").hint


def test_a_flag_of_another_command_is_refused() -> None:
    assert _refusal("postgres", URL, "up", "-exit-code").code == "wrong-flag"


def test_flags_come_from_their_variables_unless_given() -> None:
    found = _resolve("postgres", URL, "up", "-lock-wait", "1s", GREYLAG_LOCK_WAIT="9s", GREYLAG_TIMEOUT="2m", GREYLAG_JSON="true")
    assert found.values.seconds("lock-wait") == 1.0
    assert found.values.seconds("timeout") == 120.0
    assert found.values.boolean("json")
    assert _refusal("postgres", URL, "up", GREYLAG_TIMEOUT="5").code == "bad-variable"


def test_a_target_without_a_checkout_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extensions, "find", lambda group: {"targets": "deployments.console.absent"})
    assert _refusal("status", "@release/auth-service").code == "no-fleet"
    assert _refusal("@prod/*").code == "usage"


def test_a_target_stands_before_or_after_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(expression: str) -> list[tuple[str, str, str, str, str]]:
        return [
            (expression, "postgres", URL, "services/auth", "auth"),
            (expression, "clickhouse", "clickhouse://h", "services/audit", "audit"),
        ]

    monkeypatch.setattr(invocation, "_resolver", lambda: resolve)
    for words in (["up-to", "@dev/*", "5"], ["@dev/*", "up-to", "5"]):
        found = invocation.resolve(go_flags.parse(words, flags.ALL), {"GOOSE_DRIVER": "postgres"})
        assert [(item.label, item.driver, item.directory, item.service, item.arguments) for item in found] == [
            ("@dev/*", "postgres", "services/auth", "auth", ("5",)),
            ("@dev/*", "clickhouse", "services/audit", "audit", ("5",)),
        ]


@pytest.mark.parametrize(
    ("words", "environ", "expected"),
    [
        (["-dir", "my files", "postgres", "URL", "up"], {}, "-dir 'my files' postgres DBSTRING"),
        (["-table", "s.t", "clickhouse", "URL", "up"], {}, "-dir . -table s.t clickhouse DBSTRING"),
        (["-dir", "m", "up"], {"GOOSE_DRIVER": "postgres", "GOOSE_DBSTRING": "URL"}, "-dir m"),
        (["-dir", "m", "URL", "up"], {"GOOSE_DRIVER": "postgres"}, "-dir m DBSTRING"),
    ],
)
def test_a_hint_names_the_database_as_the_command_line_did(words: list[str], environ: dict[str, str], expected: str) -> None:
    (found,) = invocation.resolve(go_flags.parse(words, flags.ALL), environ)
    assert found.call == expected


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["-dir", "m", "postgres", URL, "validate"], "validate takes no driver and no address: greylag -dir m validate"),
        (["postgres", URL, "init"], "init takes no driver and no address: greylag init"),
        (["postgres", URL, "env"], "env takes no driver and no address: greylag env"),
        (["postgres", "validate"], "validate takes no driver and no address: greylag validate"),
        (["postgres", URL, "deploy"], "deploy takes no driver and no address: `greylag help deploy` shows how it is called"),
        (["clickhouse", URL, "targets"], "targets takes no driver and no address: `greylag help targets` shows how it is called"),
        (
            ["-dir", "m", "postgres", URL, "test"],
            "test takes no address, its server is its own: greylag -dir m test postgres (or clickhouse)",
        ),
        (["@dev/auth-service", "deploy"], "write the command first: greylag deploy @dev/auth-service"),
    ],
)
def test_a_command_that_is_called_otherwise_says_how(words: list[str], hint: str) -> None:
    error = _refusal(*words)
    assert (error.code, error.exit_code) == ("unknown-command", 2)
    assert error.hint.startswith(hint)
