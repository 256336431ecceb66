"""Addresses: what is built can be parsed again, what goose accepts is understood, and no message shows a password."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg import conninfo

from migrator import errors
from migrator.address import addresses

PRINTABLE = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=24)
AWKWARD = "p%/:@#?&+ '\"\\$=;{}é漢"


def _postgres(password: str, **more: str) -> str:
    return addresses.build(
        "postgres", host="db.internal", port=5432, username="app", password=password, database="app_dev", parameters=more
    )


@given(PRINTABLE, PRINTABLE, PRINTABLE)
@example(AWKWARD, AWKWARD, AWKWARD)
def test_postgres_address_is_read_back_by_libpq(user: str, password: str, database: str) -> None:
    url = addresses.build("postgres", host="db", port="5433", username=user, password=password, database=database)
    parsed = addresses.parse_postgres(url, {})
    found = conninfo.conninfo_to_dict(parsed.conninfo)
    assert (found["user"], found["password"], found["host"], found["port"]) == (user, password, "db", "5433")
    assert found.get("dbname", "") == database.lstrip("/")  # goose strips leading slashes of the path
    assert (parsed.hosts, parsed.password) == ("db:5433", password)


@given(PRINTABLE)
@example(AWKWARD)
def test_libpq_reads_the_built_url_itself_as_greylag_does(password: str) -> None:
    assert conninfo.conninfo_to_dict(_postgres(password))["password"] == password


@given(PRINTABLE, PRINTABLE, PRINTABLE, st.sampled_from([8123, 8443, 9000, 9440]))
@example(AWKWARD, AWKWARD, AWKWARD, 9000)
def test_clickhouse_address_is_read_back(user: str, password: str, database: str, port: int) -> None:
    url = addresses.build("clickhouse", host="ch", port=port, username=user, password=password, database=database)
    parsed = addresses.parse_clickhouse(url, {})
    assert (parsed.username, parsed.password, parsed.hosts) == (user, password, (("ch", port),))
    assert parsed.database == database
    assert parsed.secure == (port in (8443, 9440))
    assert parsed.http_ports == (("ch", {9000: 8123, 9440: 8443}.get(port, port), port in (9000, 9440)),)


@given(PRINTABLE)
def test_runtime_parameters_reach_the_server_whatever_they_hold(value: str) -> None:
    parsed = addresses.parse_postgres(_postgres("secret", search_path=value), {})
    options = conninfo.conninfo_to_dict(parsed.conninfo)["options"]
    assert _split_options(str(options)) == ["-c", f"search_path={value}"]


def _split_options(text: str) -> list[str]:
    """pg_split_opts of the server: white space splits, a backslash takes the next character as it is."""
    found: list[str] = []
    word: str | None = None
    characters = iter(text)
    for character in characters:
        if character in " \t\n\v\f\r":
            if word is not None:
                found.append(word)
            word = None
        else:
            word = (word or "") + (next(characters, "") if character == "\\" else character)
    return found + ([word] if word is not None else [])


@given(PRINTABLE.filter(lambda text: len(text) >= 4 and text not in "postgres://app:***@db.internal:5432/app_dev?search_path=x"))
@example(AWKWARD)
def test_redact_never_leaves_a_registered_password(password: str) -> None:
    url = _postgres(password, search_path="x")
    for text in (url, f"failed: {url!r}", f'-dbstring="{url}": refused', f"password={password}", f"said {password}."):
        shown = addresses.redact(text, [password])
        assert password not in shown
        assert url.split("@")[0].rpartition(":")[2] not in shown


@pytest.mark.parametrize("encode", [lambda text: quote(text, safe=""), quote_plus, quote, lambda text: quote(text, safe="").lower()])
def test_redact_masks_a_registered_password_that_stands_alone_percent_encoded(encode: Callable[[str], str]) -> None:
    secret = "p/ss: wörd@1"
    assert addresses.redact(f"the server said {encode(secret)}, and closed", [secret]) == "the server said ***, and closed"


@given(PRINTABLE.filter(lambda text: len(text) >= 4 and text not in "postgres://app:***@db.internal:5432/app_dev"))
@example(AWKWARD)
def test_redact_finds_an_encoded_password_without_knowing_it(password: str) -> None:
    encoded = _postgres(password).split("@")[0].rpartition(":")[2]
    assert encoded not in addresses.redact(_postgres(password)).replace("***", "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://u:p@h/db", "postgres://u:***@h/db"),
        ("postgres://u:a/b@c#d@h/db", "postgres://u:***@h/db"),
        ("postgres://u:my pass@h/db", "postgres://u:***@h/db"),
        ("at postgres://h:5432/db by root@node", "at postgres://h:5432/db by root@node"),
        ("host=h password='a b\\'c' user=u", "host=h password=*** user=u"),
        ("clickhouse://h:9000/db?username=u&password=s%40x&secure=true", "clickhouse://h:9000/db?username=u&password=***&secure=true"),
        ("tcp://a:s@h1 and http://b:t@h2", "tcp://a:***@h1 and http://b:***@h2"),
        ("postgres://ada@h/db", "postgres://ada@h/db"),
        ("postgres://ada%40corp@h:5432/db?sslmode=disable", "postgres://ada%40corp@h:5432/db?sslmode=disable"),
        ("http://default@h:8123/db and postgres://ada@h", "http://default@h:8123/db and postgres://ada@h"),
        ("postgres://ada:@h/db", "postgres://ada:***@h/db"),
        ("postgres://ada%3Apw@h/db", "postgres://***@h/db"),
        ("postgres://p@ss@h/db", "postgres://***@h/db"),
        ("postgres://p/w?d@h/db", "postgres://***@h/db"),
        ("https://ghp_0123456789abcdef0123456789abcdef0123@h/x", "https://***@h/x"),
        ("next=postgres%3A%2F%2Fada%3Ap%2540w%40h%2Fdb", "next=postgres%3A%2F%2Fada%3A***%40h%2Fdb"),
    ],
)
def test_redact_masks_passwords_where_they_stand(text: str, shown: str) -> None:
    assert addresses.redact(text) == shown


@pytest.mark.parametrize(
    "dbstring",
    [
        "postgres://app:s3cr3t/x@db:5432/app",
        "postgres://app:12/s3cr3t@db:5432/app",
        "postgres://app:12?s3cr3t@db:5432/app",
        "postgres://app:s3cr3t#1@db:5432/app",
        "postgres://app:s3cr3t%zz@db:5432/app",
        "postgres://app:s3cr3t%ff@db:5432/app",
        "postgres://app:s3cr3t@db:54x/app",
        "host=db password='s3cr3t",
        "s3cr3t",
    ],
)
def test_an_unreadable_address_is_refused_without_showing_it(dbstring: str) -> None:
    with pytest.raises(errors.UsageError) as refusal:
        addresses.parse_postgres(dbstring, {})
    assert "s3cr3t" not in refusal.value.describe()
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("host", "port", "code"),
    [
        ("", "5432", "empty-host"),
        ("  ", "5432", "empty-host"),
        ("a,,b", "5432", "empty-host"),
        ("db", "", "bad-port"),
        ("db", "0", "bad-port"),
        ("db", "65536", "bad-port"),
        ("db", "5432/tcp", "bad-port"),
        ("http://db", "5432", "bad-host"),
        ("db:5432", "5432", "bad-host"),
        ("db\n", "5432", "bad-host"),
    ],
)
def test_credentials_that_make_no_address_are_refused(host: str, port: str, code: str) -> None:
    with pytest.raises(errors.UsageError) as refusal:
        addresses.build("postgres", host=host, port=port, username="u", password="p", database="d")
    assert refusal.value.code == code


def test_an_unknown_driver_is_refused() -> None:
    with pytest.raises(errors.UsageError) as refusal:
        addresses.build("mysql", host="h", port=1, username="u", password="p", database="d")
    assert refusal.value.code == "unknown-driver"


def test_a_socket_directory_and_ipv6_survive_the_round_trip() -> None:
    socket = addresses.build("postgres", host="/tmp/my sock", port=5433, username="u", password="p", database="d")
    assert conninfo.conninfo_to_dict(addresses.parse_postgres(socket, {}).conninfo)["host"] == "/tmp/my sock"
    six = addresses.build("postgres", host="::1", port=5433, username="u", password="p", database="d")
    assert addresses.parse_postgres(six, {}).hosts == "[::1]:5433"


def test_several_hosts_keep_their_ports() -> None:
    parsed = addresses.parse_postgres("postgres://u:p@a:1,b:2,c/d?target_session_attrs=read-write", {})
    found = conninfo.conninfo_to_dict(parsed.conninfo)
    assert (found["host"], found["port"], found["target_session_attrs"]) == ("a,b,c", "1,2,", "read-write")


def test_keys_of_the_go_driver_are_dropped_and_libpq_keys_kept() -> None:
    parsed = addresses.parse_postgres(
        "postgres://u@h/d?sslmode=disable&default_query_exec_mode=exec&statement_cache_capacity=0&connect_timeout=3", {}
    )
    found = conninfo.conninfo_to_dict(parsed.conninfo)
    assert found == {"user": "u", "host": "h", "dbname": "d", "sslmode": "disable", "connect_timeout": "3"}


def test_settings_of_a_pool_that_goose_does_not_have_go_to_the_server_as_gooses_do() -> None:
    """Which then refuses them: unrecognized configuration parameter (seen with goose 3.27)."""
    parsed = addresses.parse_postgres("postgres://u@h/d?pool_max_conns=4", {})
    assert conninfo.conninfo_to_dict(parsed.conninfo)["options"] == "-c pool_max_conns=4"


def test_pgoptions_keep_their_effect_beside_runtime_parameters() -> None:
    parsed = addresses.parse_postgres("host=h search_path=app", {"PGOPTIONS": "-c work_mem=64MB"})
    assert conninfo.conninfo_to_dict(parsed.conninfo)["options"] == "-c work_mem=64MB -c search_path=app"


def test_key_value_strings_know_quotes_and_escapes() -> None:
    parsed = addresses.parse_postgres(r"user=a password='x y\'z\\' dbname = app host=h\ 1 lock_timeout=''", {})
    found = conninfo.conninfo_to_dict(parsed.conninfo)
    assert (found["user"], found["password"], found["dbname"], found["host"]) == ("a", r"x y'z\ ".strip(), "app", "h 1")
    assert found["options"] == "-c lock_timeout="


@given(st.dictionaries(st.sampled_from(["user", "password", "dbname", "host"]), PRINTABLE, min_size=1))
def test_key_value_strings_made_by_psycopg_are_read_back(values: dict[str, str]) -> None:
    parsed = addresses.parse_postgres(conninfo.make_conninfo(**values), {})
    assert conninfo.conninfo_to_dict(parsed.conninfo) == values


def test_clickhouse_parameters_are_settings_unless_the_driver_knows_them() -> None:
    parsed = addresses.parse_clickhouse(
        "tcp://h1:9000,h2/db?username=u&password=p%2B&dial_timeout=5s&read_timeout=10m&compress=lz4&allow_experimental_x=TRUE"
        "&insert_quorum=2&mode=Fast&max_open_conns=1&greylag_cluster=main",
        {},
    )
    assert parsed.settings == {"allow_experimental_x": 1, "insert_quorum": 2, "mode": "fast"}
    assert (parsed.username, parsed.password, parsed.dial_timeout, parsed.read_timeout) == ("u", "p+", 5.0, 600.0)
    assert parsed.http_ports == (("h1", 8123, True), ("h2", 8123, True))
    assert parsed.own == {"cluster": "main"}


@pytest.mark.parametrize(
    ("dsn", "environ", "expected"),
    [
        ("clickhouse://h:9000/d", {}, (8123, True)),
        ("clickhouse://h:9440/d?secure=true", {}, (8443, True)),
        ("clickhouse://h/d", {}, (8123, True)),
        ("clickhouse://h:8123/d", {}, (8123, False)),
        ("http://h/d", {}, (8123, False)),
        ("https://h:444/d?secure=true", {}, (444, False)),
        ("clickhouse://h:19000/d?http_port=18123", {}, (18123, False)),
        ("clickhouse://h:19000/d", {"CLICKHOUSE_HTTP_PORT": "18123"}, (18123, False)),
        ("http://h:81/d", {"CLICKHOUSE_HTTP_PORT": "18123"}, (81, False)),
    ],
)
def test_the_http_port_is_found_and_a_guess_is_called_one(dsn: str, environ: dict[str, str], expected: tuple[int, bool]) -> None:
    assert addresses.parse_clickhouse(dsn, environ).http_ports == (("h", *expected),)


@pytest.mark.parametrize(
    ("dsn", "code"),
    [
        ("clickhouse://h:19000/d", "native-port"),
        ("clickhouse:///d", "empty-host"),
        ("http://h/d?secure=true", "bad-address"),
        ("clickhouse://h/d?secure=maybe", "bad-address"),
        ("clickhouse://h/d?dial_timeout=5", "bad-duration"),
        ("clickhouse://h/d?tls_server_name=x", "bad-address"),
        ("h:9000", "bad-address"),
    ],
)
def test_clickhouse_addresses_that_mean_nothing_are_refused(dsn: str, code: str) -> None:
    with pytest.raises(errors.UsageError) as refusal:
        addresses.parse_clickhouse(dsn, {})
    assert refusal.value.code == code
