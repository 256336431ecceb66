"""What goose does to a file without a word: found where it is, and nowhere else."""

from __future__ import annotations

import random
import re

import postgast
import pytest

from migrator import errors
from migrator.goose import annotations as migration_text
from migrator.goose.hazards import Hazard, HazardKind
from migrator.targets import Engine
from tests.interop import parser_cases

UP = "-- +goose Up\n"
BEGIN = "-- +goose StatementBegin\n"
END = "-- +goose StatementEnd\n"
LOSSY, MERGED = HazardKind.LOSSY, HazardKind.MERGED


def found(body: str, engine: Engine = Engine.POSTGRES, direction: str = "up", **env: str) -> list[Hazard]:
    return list(migration_text.parse(UP + body, direction, env).hazards_for(engine))


def brief(body: str, engine: Engine, **env: str) -> list[tuple[str, str, int]]:
    return [(hazard.kind.value, hazard.code, hazard.line) for hazard in found(body, engine, **env)]


CASES = [
    # body, on PostgreSQL, on ClickHouse
    (BEGIN + END + "SELECT 1;\nSELECT 2;\n", [("lossy", "swallowed-line", 4)], [("lossy", "swallowed-line", 4)]),
    (BEGIN + "-- c\n\n" + END + "\n-- c\nCREATE TABLE t (\n  a int\n);\n", [("lossy", "swallowed-line", 8)], [("lossy", "swallowed-line", 8)]),
    (BEGIN + END + "  \nSELECT 2;\n", [], [("lossy", "empty-statement", 4)]),
    (BEGIN + END + "/* only a comment */\nSELECT 2;\n", [], [("lossy", "empty-statement", 4)]),
    (BEGIN + END, [], []),
    ("CREATE FUNCTION f() AS $$\nBEGIN\n  x := 1;\n  y := 2;\nEND $$;\n", [("lossy", "cut-statement", 2)], [("lossy", "cut-statement", 2)]),
    ("SELECT 'a;\nb';\nSELECT 2;\n", [("lossy", "cut-statement", 2)], [("lossy", "cut-statement", 2)]),
    ("SELECT 1;\n/* a;\nb; */\nSELECT 2;\n", [("lossy", "cut-statement", 3)], [("lossy", "cut-statement", 3)]),
    ("SELECT 'never closed;\nSELECT 2;\n", [("lossy", "unclosed", 2)], [("lossy", "unclosed", 2)]),
    ("CREATE RULE r AS ON INSERT TO t DO (\n  SELECT 1;\n  SELECT 2;\n);\n", [("lossy", "cut-statement", 2)], [("lossy", "cut-statement", 2)]),
    ("SELECT 'it\\'s';\n", [("lossy", "unclosed", 2)], []),
    ("SET standard_conforming_strings = off;\nSELECT 'it\\'s';\n", [], []),
    ("SELECT set_config('standard_conforming_strings', 'off', false);\nSELECT 'it\\'s';\n", [], []),
    ("SELECT 1;\nCOMMIT;\nSELECT 2;\n", [("lossy", "own-transaction", 3)], [("lossy", "own-transaction", 3)]),
    ("BEGIN;\nSELECT 1;\nROLLBACK WORK;\n", [("lossy", "own-transaction", 4)], [("lossy", "own-transaction", 4)]),
    (BEGIN + "BEGIN;\nSELECT 1;\nEND;\n" + END, [("merged", "own-transaction", 5)], [("lossy", "several-commands", 3), ("lossy", "own-transaction", 5)]),
    ("SELECT 1;\nCOMMIT;\n", [("merged", "own-transaction", 3)], [("lossy", "own-transaction", 3)]),
    ("BEGIN;\nSELECT 1;\nCOMMIT;\n-- c\n/* d */;\n;\n", [("merged", "own-transaction", 4)],
     [("lossy", "own-transaction", 4), ("lossy", "empty-statement", 6), ("lossy", "empty-statement", 7)]),
    (BEGIN + "BEGIN;\nSELECT 1;\nEND;\n-- c\n" + END + BEGIN + "COMMIT WORK; -- again\n" + END, [("merged", "own-transaction", 5)],
     [("lossy", "several-commands", 3), ("lossy", "own-transaction", 5), ("lossy", "own-transaction", 9)]),
    ("SELECT 1;\nCOMMIT AND CHAIN;\n", [("merged", "own-transaction", 3)], [("lossy", "own-transaction", 3)]),
    ("SELECT 1;\nCOMMIT TRANSACTION AND NO CHAIN;\nCOMMIT;\nROLLBACK;\n", [("merged", "own-transaction", 3)],
     [("lossy", "own-transaction", 3), ("lossy", "own-transaction", 4), ("lossy", "own-transaction", 5)]),
    ("SELECT 1;\nCOMMIT;\nSELECT 2;\nCOMMIT;\n", [("lossy", "own-transaction", 3), ("merged", "own-transaction", 5)],
     [("lossy", "own-transaction", 3), ("lossy", "own-transaction", 5)]),
    ("SELECT 1;\nCOMMIT;\nCOMMIT AND CHAIN;\n", [("lossy", "own-transaction", 3), ("merged", "own-transaction", 4)],
     [("lossy", "own-transaction", 3), ("lossy", "own-transaction", 4)]),
    ("SELECT 1;\nCOMMIT;\nBEGIN;\n", [("lossy", "own-transaction", 3)], [("lossy", "own-transaction", 3)]),
    ("SELECT 1;\nABORT;\n", [("lossy", "own-transaction", 3)], [("lossy", "own-transaction", 3)]),
    ("SELECT 1;\nROLLBACK;\nCOMMIT;\n", [("lossy", "own-transaction", 3)], [("lossy", "own-transaction", 3), ("lossy", "own-transaction", 4)]),
    ("SELECT 1;\nPREPARE TRANSACTION 'x';\n", [("lossy", "own-transaction", 3)], [("lossy", "own-transaction", 3)]),
    ("COMMIT PREPARED 'x';\n", [("lossy", "own-transaction", 2)], [("lossy", "own-transaction", 2)]),
    ("SAVEPOINT a;\nROLLBACK TO a;\nROLLBACK WORK TO SAVEPOINT a;\n", [], []),
    ("-- +goose NO TRANSACTION\nBEGIN;\nSELECT 1;\nCOMMIT;\n", [], []),
    (BEGIN + "DO $$\nBEGIN\n  COMMIT;\nEND\n$$;\n" + END, [], []),
    (BEGIN + "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END;\n" + END, [],
     [("lossy", "several-commands", 3), ("lossy", "own-transaction", 3)]),
    ("VALUES ('a -- b');\nSELECT 2;\n", [("merged", "hidden-semicolon", 2)], [("lossy", "hidden-semicolon", 2)]),
    ("SELECT 1;--c\nSELECT 2;\n", [("merged", "glued-comment", 2)], [("lossy", "glued-comment", 2)]),
    ("SELECT 1; /* c */\nSELECT 2;\n", [("merged", "comment-after-semicolon", 2)], [("lossy", "comment-after-semicolon", 2)]),
    ("SELECT 1; SELECT 2;\n", [("merged", "several-commands", 2)], [("lossy", "several-commands", 2)]),
    (BEGIN + "SELECT 1;\nSELECT 2;\n" + END, [], [("lossy", "several-commands", 3)]),
    ("SELECT 1\n" + BEGIN + ";SELECT 2\n" + END, [("merged", "glued-block", 3)], [("lossy", "glued-block", 3)]),
    ("CREATE FUNCTION f() AS\n" + BEGIN + "$$ SELECT 1; $$;\n" + END, [("merged", "glued-block", 3)], [("merged", "glued-block", 3)]),
    (" \n" + BEGIN + "SELECT 1;\n" + END, [], []),
    ("-- +goose NO TRANSACTION\nCREATE INDEX CONCURRENTLY a ON t (a); CREATE INDEX CONCURRENTLY b ON t (b);\n",
     [("lossy", "not-alone", 3)], [("lossy", "several-commands", 3)]),
    ("-- +goose NO TRANSACTION\n" + BEGIN + "SELECT 1;\nVACUUM t;\n" + END, [("lossy", "not-alone", 5)], [("lossy", "several-commands", 4)]),
    (";\n", [], [("lossy", "empty-statement", 2)]),
    ("/* c */ ;\n", [], [("lossy", "empty-statement", 2)]),
    ("-- c\rSELECT 1;\nSELECT 2;\n", [("lossy", "dropped-after-carriage-return", 2)], []),
    ("-- c\r\n-- d\r\r\nSELECT 2;\r\n", [], []),
    ("INSERT INTO t FORMAT CSV\nit's\n;\n", [("lossy", "unclosed", 3)], []),
    ("SELECT 1; -- c\nSELECT 2 ; -- it's\n-- it's\n/* it's */ SELECT 3;\n", [], []),
    ("SELECT 'a;', $$;$$, \"x;\"; -- c\n", [], []),
]  # fmt: skip


@pytest.mark.parametrize(("body", "on_postgres", "on_clickhouse"), CASES)
def test_hazards_are_found_with_their_line_and_their_kind(
    body: str, on_postgres: list[tuple[str, str, int]], on_clickhouse: list[tuple[str, str, int]]
) -> None:
    assert brief(body, Engine.POSTGRES) == on_postgres
    assert brief(body, Engine.CLICKHOUSE) == on_clickhouse


def test_every_hazard_says_why_and_what_to_type() -> None:
    for body, _, _ in CASES:
        for engine in Engine:
            for hazard in found(body, engine):
                assert hazard.message
                assert hazard.hint
                assert re.fullmatch(r"[a-z]+(-[a-z]+)*", hazard.code)
    cut = found("SELECT 1;\nDO $$\nBEGIN\n  x;\n  y;\nEND\n$$;\n")[0]
    assert cut.message == (
        "goose ends the statement of line 3 in line 5, inside the dollar-quoted text that begins in line 3: PostgreSQL would reject it"
    )
    assert cut.hint == "put `-- +goose StatementBegin` on a line before line 3 and `-- +goose StatementEnd` on a line after line 8"


def test_substitution_that_breaks_dollar_quotes_is_lossy() -> None:
    body = "-- +goose ENVSUB ON\nSELECT '$NAME';\n" + BEGIN + "DO $$\nBEGIN\nEND\n$$;\n" + END
    assert brief(body, Engine.POSTGRES, NAME="x") == [("lossy", "stray-dollar", 5)]
    switched = body.replace(BEGIN, "-- +goose ENVSUB OFF\n" + BEGIN)
    assert brief(switched, Engine.POSTGRES, NAME="x") == []
    assert brief("-- +goose ENVSUB ON\nSELECT 'costs 5$$';\n", Engine.POSTGRES) == []


def test_hazards_belong_to_one_direction() -> None:
    body = "SELECT 1;\n-- +goose Down\nSELECT 'a;\nb';\n"
    assert found(body) == []
    assert [hazard.code for hazard in found(body, direction="down")] == ["cut-statement"]


def test_without_an_engine_only_what_both_reject_is_lossy() -> None:
    both = migration_text.parse(UP + "SELECT 'a;\nb';\nSELECT 1; SELECT 2;\n").hazards
    assert [(hazard.kind, hazard.code) for hazard in both] == [(LOSSY, "cut-statement"), (MERGED, "several-commands")]
    assert migration_text.parse(UP + "SELECT 'it\\'s';\n").hazards[0].kind is MERGED


COMMANDS = [
    "SELECT 1", "SELECT 'a;b'", "SELECT 'a\n;\nb'", "SELECT 'a -- b'", "SELECT 'a --' , 2", "INSERT INTO t VALUES ('it''s'), ('x -- y')",
    "CREATE TABLE t (\n  a int, -- it's\n  b text DEFAULT ';'\n)",
    "CREATE FUNCTION f() RETURNS void AS $$\nBEGIN\n  a := 1;\n  -- c\n\nEND\n$$ LANGUAGE plpgsql",
    "DO $x$ BEGIN PERFORM 1; END $x$", 'SELECT "a;b"', "SELECT /* ; */ 1", "SELECT E'a\\';b'", "CREATE RULE r AS ON INSERT TO t DO (SELECT 1;\nSELECT 2)",
    "CREATE FUNCTION g() RETURNS int BEGIN ATOMIC\n  SELECT 1;\n  SELECT 2;\nEND", "SELECT 1 --c\n + 1", "SELECT 1 /* a /* b; */ */", "SELECT\n\n1",
    "/* lead; */ SELECT 1",
    "SELECT 1; SELECT 2", "SELECT 'a;b'; SELECT 2",
]  # fmt: skip


def _section(chance: random.Random) -> str:
    """Valid SQL in any layout, with or without annotations around it."""
    parts = []
    for _ in range(chance.randint(1, 4)):
        command = chance.choice(COMMANDS) + chance.choice([";", " ;", "\n;", ";"])
        if chance.random() < 0.3:
            command += chance.choice(["--c", " -- c", " /* c */", " -- it's; $$"])
        if chance.random() < 0.3:
            command = chance.choice(["-- c;", "-- it's", "", "  "]) + "\n" + command
        if chance.random() < 0.25:
            command = f"{BEGIN}{command}\n{END}".rstrip("\n")
        if chance.random() < 0.1:
            command = f"{BEGIN}{chance.choice(['', '-- c'])}\n{END}{command}"
        parts.append(command)
    return chance.choice(["\n", "\n\n"]).join(parts) + "\n"


def _commands(text: str) -> list[str] | None:
    """What PostgreSQL's parser takes the text for; None where it rejects it."""
    try:
        return [postgast.deparse(postgast.parse(command)) for command in postgast.split(text)] if text.strip() else []
    except postgast.PgQueryError:
        return None


def test_goose_is_faithful_exactly_where_no_lossy_hazard_is_found() -> None:
    """PostgreSQL's parser is the judge: the file's own commands against the commands of the statements that goose sends."""
    chance = random.Random(4)
    faithful = lost = 0
    for _ in range(1500):
        section = _section(chance)
        lines = [line for line in section.split("\n") if not re.match(r"-- \+goose ", line)]
        meant = _commands("\n".join(lines))
        assert meant is not None
        try:
            parsed = migration_text.parse(UP + section)
        except errors.ParseError:
            continue
        sent: list[str] | None = []
        for statement in parsed.statements:
            commands = _commands(statement.text)
            sent = None if sent is None or commands is None else sent + commands
        lossy = [hazard for hazard in parsed.hazards_for(Engine.POSTGRES) if hazard.kind is LOSSY]
        assert bool(lossy) == (sent != meant), (section, lossy, sent, meant)
        faithful += sent == meant
        lost += sent != meant
    assert faithful > 200
    assert lost > 200


def _visible(text: str) -> str:
    """The text without comments, white space and semicolons: a reader of its own, one character at a time."""
    kept: list[str] = []
    position = 0
    while position < len(text):
        rest = text[position:]
        if rest.startswith("--"):
            position += len(re.split(r"[\n\r]", rest, maxsplit=1)[0])
            continue
        if rest.startswith("/*"):
            depth, end = 1, 2
            while depth and end < len(rest):
                step = {"/*": 1, "*/": -1}.get(rest[end : end + 2], 0)
                depth += step
                end += 2 if step else 1
            position += end
            continue
        quoted = re.match(r"""(?<![\w$])[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)|'[^']*(?:'|\Z)|"[^"]*(?:"|\Z)""", rest, re.DOTALL)
        dollar = re.match(r"\$(?:[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)?\$", rest)
        word = re.match(r"[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*", rest)
        if quoted:
            piece = quoted.group()
        elif dollar:
            end = rest.find(dollar.group(), dollar.end())
            piece = rest if end < 0 else rest[: end + dollar.end()]
        elif word:
            piece = word.group()
        else:
            piece = rest[0].replace(";", "")
        kept.append(piece)
        position += len(piece) or 1
    return "".join(kept).translate(dict.fromkeys(map(ord, "\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000 \t\n\v\f\r"), None))


def test_text_is_missing_from_the_statements_exactly_where_a_hazard_says_so() -> None:
    """Over the random files of the comparison with goose: nothing is lost silently, and nothing is called dropped that was sent."""
    told = 0
    for case in parser_cases.cases(8000, 11):
        if b"ENVSUB" in case.file.upper() or b"\xc5\xbf" in case.file or b"standard_conf" in case.file:
            continue
        try:
            parsed = migration_text.parse(case.file, case.direction, {})
        except errors.ParseError:
            continue
        meant = _visible(_section_of(case.file, case.direction))
        sent = _visible("\n".join(item.text for item in parsed.statements))
        hazards = parsed.hazards_for(Engine.POSTGRES)
        dropped = [hazard for hazard in hazards if hazard.code in ("swallowed-line", "dropped-after-carriage-return")]
        if meant != sent:
            assert any(hazard.kind is LOSSY for hazard in hazards), case
        if dropped and not any(hazard.code in ("cut-statement", "unclosed") for hazard in hazards):
            assert meant != sent, case
        told += bool(dropped)
    assert told > 20


def _section_of(data: bytes, direction: str) -> str:
    """The lines between the annotations of one direction, without annotations."""
    section, lines = "", []
    for raw in data.decode("utf-8", "surrogateescape").split("\n"):
        line = raw.removesuffix("\r")
        if "+goose" in line and line.strip("\t\n\v\f\r \x85\xa0\u1680\u2003\u2028\u202f\u205f\u3000").startswith("--"):
            keyword = line.replace("--", "").replace("+goose", "").strip("\t\n\v\f\r \x85\xa0\u1680\u2003\u2028\u202f\u205f\u3000").lower()
            section = keyword if keyword in ("up", "down") else section
        elif section == direction:
            lines.append(line)
    return "\n".join(lines)
