"""The small lexer behind the hazards, with PostgreSQL's own scanner (libpg_query) as judge; ClickHouse's rules as measured on 26.9."""

from __future__ import annotations

import random
import re

import postgast
import pytest

from migrator.goose import gounicode, lexer, lexical_rules
from migrator.goose.lexical_rules import Construct
from migrator.targets import Engine

FRAGMENTS = [
    "'", "''", "'a'", "e'", "E'\\''", "e'\\", "\\", '"', '"a;"', "$$", "$a$", "$b$", "$1", "a$b", "a$", "--", "-- c\n", "--c\r", "/*", "*/", "/* c */",
    "/", "*", "-", ";", ";\n", "(", ")", "SELECT", "1", "1.5", "x", "e", "E", "U&'", "b'1'", "\n", " ", "\t", "\u00e9", "N'", "\u017f", "::", "@-",
    "some", "'\n'", "' --\n'", ":", "_", "\f", "\v", "\r",
]  # fmt: skip
JUNK = re.compile(r"\$\d+[\w$]|\d[\w$]*'|[\w$]\d\w*\$")
"""Numbers glued to names or quotes: the server rejects them all, in different words."""


def commands(text: str, engine: Engine = Engine.POSTGRES) -> list[str]:
    return [text[command.start : command.end] for command in lexer.scan(text, engine).commands]


def test_quotes_comments_and_commands_are_where_postgresql_sees_them() -> None:
    chance = random.Random(18)
    compared = unterminated = 0
    while compared < 4000:
        text = "".join(chance.choice(FRAGMENTS) for _ in range(chance.randint(1, 14)))
        read = lexer.scan(text, Engine.POSTGRES)
        if JUNK.search(text) or read.stray_dollar is not None:
            continue
        open_quote = read.open is not None and read.open.construct not in (Construct.PARENTHESIS, Construct.ATOMIC_BODY)
        try:
            tokens = postgast.scan(text).tokens
        except postgast.PgQueryError as error:
            if str(error).startswith("unterminated"):
                assert open_quote, text
                unterminated += 1
            continue
        compared += 1
        assert not open_quote, text
        starts, depth = _commands_of(text, tokens)
        assert [command.start for command in read.commands] == starts, text
        assert (read.open is not None) == (depth > 0), text
    assert unterminated > 500


def _commands_of(text: str, tokens: list[postgast.pg_query_pb2.ScanToken]) -> tuple[list[int], int]:
    """Where PostgreSQL's tokens say that commands begin, and how many parentheses stay open."""
    data = text.encode()
    starts: list[int] = []
    depth, first = 0, True
    for token in tokens:
        name = postgast.pg_query_pb2.Token.Name(token.token)
        if name in ("SQL_COMMENT", "C_COMMENT"):
            continue
        if name == "ASCII_59" and depth == 0:
            first = True
            continue
        if first:
            starts.append(len(data[: token.start].decode()))
            first = False
        depth = depth + 1 if name == "ASCII_40" else max(depth - (name == "ASCII_41"), 0)
    return starts, depth


def test_bodies_of_unquoted_sql_are_one_command() -> None:
    body = "CREATE FUNCTION f(begin int) RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; SELECT 3"
    assert len(commands(body)) == len(postgast.split(body)) == 2
    rule = "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3"
    assert len(commands(rule)) == len(postgast.split(rule)) == 2
    assert commands("BEGIN; SELECT 1; END; SELECT 2") == ["BEGIN", "SELECT 1", "END", "SELECT 2"]


def test_first_words_are_read_past_comments() -> None:
    read = lexer.scan("/* a; /* b */ */ -- c\n rollback /* d */ work to savepoint x; 1", Engine.POSTGRES)
    assert [command.words for command in read.commands] == [("ROLLBACK", "WORK", "TO", "SAVEPOINT", "X"), ()]


@pytest.mark.parametrize(
    ("text", "construct", "offset"),
    [
        ("SELECT 'a; ", Construct.STRING, 7),
        ("SELECT E'a\\';", Construct.ESCAPE_STRING, 8),
        ('SELECT "a;', Construct.IDENTIFIER, 7),
        ("AS $body$ x; $bod", Construct.DOLLAR, 3),
        ("/* a /* b */ ;", Construct.COMMENT, 0),
        ("SELECT (1, (2);", Construct.PARENTHESIS, 7),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1;", Construct.ATOMIC_BODY, 32),
    ],
)
def test_what_stays_open_is_followed_into_the_next_chunk(text: str, construct: Construct, offset: int) -> None:
    first = lexer.scan(text, Engine.POSTGRES)
    assert first.open is not None
    assert (first.open.construct, first.open.offset) == (construct, offset)
    middle = lexer.scan("-- x y z;" if construct is not Construct.IDENTIFIER else "x;", Engine.POSTGRES, first.open)
    assert middle.continued
    closers = {
        Construct.STRING: "';", Construct.ESCAPE_STRING: "\\'';", Construct.IDENTIFIER: '";', Construct.DOLLAR: "$body$;", Construct.COMMENT: "*/;",
        Construct.PARENTHESIS: ");", Construct.ATOMIC_BODY: "END;",
    }  # fmt: skip
    last = lexer.scan(f"b {closers[construct]} SELECT 2", Engine.POSTGRES, middle.open)
    assert last.open is None
    assert not last.continued
    assert [command.words for command in last.commands] == [("SELECT",)]


def test_a_backslash_escapes_where_the_file_says_so() -> None:
    assert lexer.scan("SELECT 'it\\'s';", Engine.POSTGRES).open is not None
    assert lexer.scan("SELECT 'it\\'s';", Engine.POSTGRES, escapes=True).open is None


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'it\\'s; ok', `a\\`;b`, \"c\\\";\"", "SELECT $$a; 'b$$, $t1$ ; $t1$", "SELECT 1 # it's;\n", "SELECT 1 #! it's;\n", "SELECT 1 -- it's\r;'\n",
        "SELECT /* a; /* b */ ' */ 1", "SELECT \u2018a;b\u2019, \u201cc;d\u201d", "SELECT a$b, $c, $d$", "INSERT INTO t FORMAT CSV\n1,it's;\n(",
        "INSERT INTO t (a) FORMAT JSONEachRow {\"a\": \"(;\"}", "INSERT INTO t SETTINGS x = 'FORMAT a' FORMAT TSV it's;",
    ],
)  # fmt: skip
def test_clickhouse_reads_its_own_quotes_and_the_data_of_inserts_as_one_query(text: str) -> None:
    read = lexer.scan(text, Engine.CLICKHOUSE)
    assert (len(read.commands), read.open, read.stray_dollar) == (1, None, None)


@pytest.mark.parametrize(
    ("text", "construct"),
    [("SELECT 'a\\'", Construct.STRING), ("SELECT `a;", Construct.BACKTICK), ("SELECT $$ a;", Construct.DOLLAR), ("SELECT \u2018a", Construct.CURLED),
     ("SELECT /* a", Construct.COMMENT), ("INSERT INTO t VALUES ('a;", Construct.STRING)],
)  # fmt: skip
def test_clickhouse_leaves_open_what_has_no_end(text: str, construct: Construct) -> None:
    read = lexer.scan(text, Engine.CLICKHOUSE)
    assert read.open is not None
    assert read.open.construct is construct


@pytest.mark.parametrize(("text", "engine", "offset"), [("AS $ x $", Engine.POSTGRES, 3), ("SELECT $1, a$b, 'x$'", Engine.POSTGRES, None),
                                                        ("SELECT $", Engine.CLICKHOUSE, 7), ("SELECT $a", Engine.CLICKHOUSE, None)])  # fmt: skip
def test_a_single_dollar_is_no_token(text: str, engine: Engine, offset: int | None) -> None:
    assert lexer.scan(text, engine).stray_dollar == offset


def test_character_sets_hold_what_their_names_say() -> None:
    every = [chr(code) for code in range(0x110000)]
    ascii_letters = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
    letters = {character for character in every if character in ascii_letters or character >= "\x80"}
    sets = {
        lexical_rules._LETTER: letters,
        lexical_rules._NAME_PART: letters | set("0123456789"),
        lexical_rules._NAME_PART_OR_DOLLAR: letters | set("0123456789$"),
        lexical_rules._SPACE: set(gounicode.SPACE_CHARACTERS),
    }
    for pattern, expected in sets.items():
        found = re.compile(pattern).fullmatch
        assert {character for character in every if found(character)} == expected
