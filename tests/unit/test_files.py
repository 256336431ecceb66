"""Directories of migrations: goose's names, order, messages, and the digest of a bundle (goose.md §3)."""

from __future__ import annotations

import datetime
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator import errors
from migrator.goose import file_names
from migrator.goose.annotations import parse
from migrator.planning import files
from migrator.targets import Direction

NOW = datetime.datetime(2026, 11, 23, 16, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=9)))


def write(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).write_text(f"-- +goose Up\nSELECT '{name}';\n")


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("1_x.sql", 1),
        ("00001_x.sql", 1),
        ("+5_x.sql", 5),
        ("1__x.sql", 1),
        ("1_.sql", 1),
        ("1_000_x.sql", 1),
        ("9223372036854775807_x.go", 2**63 - 1),
    ],
)
def test_a_version_is_the_number_before_the_first_underscore(name: str, version: int) -> None:
    assert file_names.version_of(name) == version


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x.sql", "no filename separator '_' found"),
        ("0_x.sql", "migration version must be greater than zero"),
        ("-1_x.sql", "migration version must be greater than zero"),
        ("foo_x.sql", 'failed to parse version from migration file: foo_x.sql: strconv.ParseInt: parsing "foo": invalid syntax'),
        ("0x1_x.sql", 'failed to parse version from migration file: 0x1_x.sql: strconv.ParseInt: parsing "0x1": invalid syntax'),
        (
            "20000000000000000000_x.sql",
            'failed to parse version from migration file: 20000000000000000000_x.sql: strconv.ParseInt: parsing "20000000000000000000": '
            "value out of range",
        ),
        ("1_x.SQL", "migration file does not have .sql or .go file extension"),
    ],
)
def test_bad_flow_a_name_without_a_version_is_refused_in_gooses_words(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        file_names.version_of(name)
    assert str(caught.value) == reason
    if not name.endswith(".sql"):
        return
    write(tmp_path, "1_good.sql", name)
    with pytest.raises(errors.FileError) as refused:
        files.load(tmp_path)
    assert str(refused.value) == f'could not parse SQL migration file "{tmp_path}/{name}": {reason}'
    assert refused.value.code == "bad-file-name"
    assert refused.value.where == errors.Location(f"{tmp_path}/{name}")


def test_good_flow_a_directory_is_read_in_the_order_of_versions(tmp_path: Path) -> None:
    write(tmp_path, "10_j.sql", "9_i.sql", "00002_b.sql", "3_c.go", "helper.go", "4_d_test.go", "notes.txt", "5_e.sql.bak")
    (tmp_path / "nested").mkdir()
    write(tmp_path / "nested", "1_a.sql")
    found = files.load(tmp_path)
    assert [(item.version, item.name, item.kind) for item in found.migrations] == [
        (2, "00002_b.sql", "sql"), (3, "3_c.go", "go"), (9, "9_i.sql", "sql"), (10, "10_j.sql", "sql"),
    ]  # fmt: skip
    assert found.newest == 10
    assert found.by_version(9) == found.migrations[2]
    assert found.by_version(4) is None
    first = found.migrations[0]
    assert first.path == f"{tmp_path}/00002_b.sql"
    assert first.size == len(first.read())


@pytest.mark.parametrize(
    ("given_as", "path"), [(".", "1_x.sql"), ("./db", "db/1_x.sql"), ("db/", "db/1_x.sql"), ("db/../db", "db/1_x.sql")]
)
def test_paths_are_joined_as_goose_joins_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given_as: str, path: str) -> None:
    (tmp_path / "db").mkdir()
    write(tmp_path, "1_x.sql")
    write(tmp_path / "db", "1_x.sql")
    monkeypatch.chdir(tmp_path)
    assert files.load(given_as).migrations[0].path == path


def test_bad_flow_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.FileError) as caught:
        files.load(f"{tmp_path}/none")
    assert str(caught.value) == f"{tmp_path}/none directory does not exist"
    assert caught.value.code == "missing-directory"


def test_an_empty_directory_is_an_empty_set(tmp_path: Path) -> None:
    found = files.load(tmp_path)
    assert (found.migrations, found.newest, found.digest()) == ((), 0, hashlib.sha256(b"").hexdigest())
    write(tmp_path, "1_x.sql")
    assert files.load(tmp_path / "1_x.sql").migrations == ()


def test_bad_flow_two_files_of_one_version_are_an_error_that_names_both(tmp_path: Path) -> None:
    write(tmp_path, "1_a.sql", "00001_b.sql")
    with pytest.raises(errors.FileError) as caught:
        files.load(tmp_path)
    assert caught.value.code == "duplicate-version"
    assert str(caught.value).startswith("goose: duplicate version 1 detected:\n")
    assert "1_a.sql" in str(caught.value)
    assert "00001_b.sql" in str(caught.value)


def test_bad_flow_a_file_that_vanishes_is_an_error_with_its_path(tmp_path: Path) -> None:
    write(tmp_path, "1_a.sql")
    item = files.load(tmp_path).migrations[0]
    (tmp_path / "1_a.sql").unlink()
    with pytest.raises(
        errors.FileError, match=r"ERROR 1_a.sql: failed to open SQL migration file: open .*1_a.sql: no such file or directory"
    ):
        item.read()


def test_the_digest_of_a_bundle_follows_names_and_contents_and_nothing_else(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    write(one, "1_a.sql", "2_b.sql")
    write(two, "2_b.sql", "1_a.sql", "README.md")
    os.utime(two / "1_a.sql", (0, 0))
    lines = "".join(sorted(f"{name} {hashlib.sha256((one / name).read_bytes()).hexdigest()}\n" for name in ("1_a.sql", "2_b.sql")))
    assert files.load(one).digest() == files.load(two).digest() == hashlib.sha256(lines.encode()).hexdigest()
    (two / "2_b.sql").write_text("-- +goose Up\n")
    assert files.load(one).digest() != files.load(two).digest()


def test_a_checksum_is_of_the_text_with_lf_and_read_once(tmp_path: Path) -> None:
    (tmp_path / "1_a.sql").write_bytes(b"-- +goose Up\r\n\xff")
    item = files.load(tmp_path).migrations[0]
    expected = hashlib.sha256(b"-- +goose Up\n\xff").hexdigest()
    assert item.checksum() == expected
    (tmp_path / "1_a.sql").unlink()
    assert item.checksum() == expected


LINES = (b"-- +goose Up", b"-- greylag: lock-budget 2s", b"SELECT 'a", b"b', '\rc';", b"-- +goose Down", b"SELECT 2;", b"")


def _forms(tmp_path: Path) -> tuple[files.MigrationSet, files.MigrationSet]:
    for name, end in (("lf", b"\n"), ("crlf", b"\r\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1_a.sql").write_bytes(end.join(LINES))
    return files.load(tmp_path / "lf"), files.load(tmp_path / "crlf")


def test_line_ends_change_neither_checksum_nor_bundle_nor_statement(tmp_path: Path) -> None:
    lf, crlf = _forms(tmp_path)
    assert lf.digest() == crlf.digest()
    assert lf.migrations[0].checksum() == crlf.migrations[0].checksum() == hashlib.sha256(b"\n".join(LINES)).hexdigest()
    texts = [parse(item.migrations[0].read(), Direction.UP).statements for item in (lf, crlf)]
    assert texts[0] == texts[1]
    assert crlf.migrations[0].checksum() == lf.migrations[0].checksum(), "the same after `read`"


def test_records_of_raw_bytes_stay_valid_for_every_form_of_the_line_ends(tmp_path: Path) -> None:
    for item in (found.migrations[0] for found in _forms(tmp_path)):
        for end in (b"\n", b"\r\n"):
            assert item.has(hashlib.sha256(end.join(LINES)).hexdigest())
        assert not item.has(hashlib.sha256(b"\r".join(LINES)).hexdigest())
        assert not item.has("")
    (tmp_path / "lf" / "1_a.sql").write_bytes(b"a\nb\r\n")
    mixed = files.load(tmp_path / "lf").migrations[0]
    assert mixed.has(hashlib.sha256(b"a\nb\r\n").hexdigest())


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"x"])), st.integers(1, 4))
def test_a_chunk_may_end_inside_a_line_end(parts: list[bytes], size: int) -> None:
    text = b"".join(parts)
    chunks = (text[at : at + size] for at in range(0, len(text), size))
    assert b"".join(files._with_lf(chunks)) == text.replace(b"\r\n", b"\n")


@pytest.mark.parametrize(
    ("version", "timestamp"),
    [(20260801120000, True), (1, False), (20241301000000, False), (20240230000000, False), (19700101000000, False), (19700101000001, True),
     (19691231235959, False), (202608011200000, False), (20240229235959, True), (20240101246000, False)],
)  # fmt: skip
def test_a_timestamp_is_a_moment_after_1970(version: int, timestamp: bool) -> None:
    assert file_names.is_timestamp(version) is timestamp


@pytest.mark.parametrize(
    ("name", "snake"),
    [("addX", "addx"), ("Foo-Bar.baz", "foo_bar_baz"), ("foo!!", "foo"), ("foo!", "foo_"), ("add  some   words", "add_some_words"), ("  lead", "lead"),
     ("_x_", "x_"), ("\u00c9t\u00e9 2", "\u00e9t\u00e9_2"), ("", ""), ("!!", ""), ("\u0130x", "ix")],
)  # fmt: skip
def test_names_become_snake_case_as_in_goose(name: str, snake: str) -> None:
    assert file_names.snake_case(name) == snake


@given(st.text(max_size=20))
def test_snake_case_never_doubles_or_leads_with_an_underscore(name: str) -> None:
    snake = file_names.snake_case(name)
    assert "__" not in snake
    assert not snake.startswith("_")


def test_good_flow_files_are_created_by_time_or_by_number(tmp_path: Path) -> None:
    by_time = files.create(tmp_path, "add users", "sql", False, NOW)
    assert by_time == f"{tmp_path}/20261123070405_add_users.sql"
    assert Path(by_time).read_text() == "-- +goose Up\nSELECT 'up SQL query';\n\n-- +goose Down\nSELECT 'down SQL query';\n"
    assert files.create(tmp_path, "first", "sql", True, NOW) == f"{tmp_path}/00001_first.sql"
    write(tmp_path, "20241301000000_not_a_moment.sql")
    assert files.create(tmp_path, "next", "go", True, NOW) == f"{tmp_path}/20241301000001_next.go"
    assert "func upNext(ctx" in (tmp_path / "20241301000001_next.go").read_text()


def test_bad_flow_a_file_is_never_overwritten_and_a_directory_never_made(tmp_path: Path) -> None:
    files.create(tmp_path, "same", "sql", False, NOW)
    with pytest.raises(errors.FileError) as caught:
        files.create(tmp_path, "same", "sql", False, NOW)
    assert str(caught.value) == "failed to create migration file: %!w(<nil>)"
    with pytest.raises(errors.FileError, match=r"failed to create migration file: open .*/none/.*: no such file or directory"):
        files.create(tmp_path / "none", "x", "sql", False, NOW)
    with pytest.raises(errors.FileError, match="directory does not exist"):
        files.create(tmp_path / "none", "x", "sql", True, NOW)


def test_good_flow_fix_numbers_timestamped_files_after_the_last_number(tmp_path: Path) -> None:
    write(tmp_path, "00001_a.sql", "20260801120000_c.sql", "20260101120000_b.sql", "7_x.sql")
    assert files.fix(files.load(tmp_path)) == [("20260101120000_b.sql", "00008_b.sql"), ("20260801120000_c.sql", "00009_c.sql")]
    assert [item.name for item in files.load(tmp_path).migrations] == ["00001_a.sql", "7_x.sql", "00008_b.sql", "00009_c.sql"]
    assert files.fix(files.load(tmp_path)) == []


def test_fix_touches_only_the_name_where_the_directory_holds_the_same_digits(tmp_path: Path) -> None:
    directory = tmp_path / "20260101120000"
    directory.mkdir()
    write(directory, "20260101120000_b.sql")
    assert files.fix(files.load(directory)) == [("20260101120000_b.sql", "00001_b.sql")]


def test_bad_flow_fix_without_files_says_so(tmp_path: Path) -> None:
    with pytest.raises(errors.FileError, match="no migration files found"):
        files.fix(files.load(tmp_path))
