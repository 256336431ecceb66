"""The hazards' reading of SQL with a ClickHouse server as judge. PostgreSQL's judge is its own parser, in the unit tests."""

from __future__ import annotations

import random
import re

import pytest

from migrator.goose import annotations as migration_text
from migrator.goose import lexer
from migrator.goose.hazards import HazardKind
from migrator.targets import Engine
from sandbox.databases.clickhouse import ClickHouseServer

TERMS = [
    "'a'", "'it''s'", "'a\\'b'", "'a\\\\'", "`b\\``", "`b``c`", '"x\\""', "$$a;'b$$", "$t$ ; $t$", "$t$a$$b$t$", "1", "\u2018a;'b\u2019",
    "\u201cc'\u201d", "a$b", "/* ; ' */ 1", "3 -- ;'\n", "4 # ;'\n", "5 #!'\n", "'open", "`open", '"open', "'a\\'",
    "$$open", "\u2018open", "6 /**/", "'--'", "'/*'", "$a", "y'", "(1;",
    "(')')", "\\", "7 #x", "#",
]  # fmt: skip


def judged(server: ClickHouseServer, text: str) -> str:
    """What the server's parser says against the text; "" where it takes it."""
    literal = text.replace("\\", "\\\\").replace("'", "\\'")
    try:
        server.execute(f"SELECT formatQuerySingleLine('{literal}') FORMAT Null")
    except Exception as error:  # noqa: BLE001  whatever the sandbox raises, its text is what is judged
        return str(error)
    return ""


def test_quotes_and_comments_are_where_clickhouse_sees_them(clickhouse_server: ClickHouseServer) -> None:
    chance = random.Random(26)
    taken = unclosed = 0
    for _ in range(400):
        text = "SELECT " + ", ".join(chance.choice(TERMS) for _ in range(chance.randint(1, 4)))
        read = lexer.scan(text, Engine.CLICKHOUSE)
        verdict = judged(clickhouse_server, text)
        if not verdict:
            assert (len(read.commands), read.open, read.stray_dollar) == (1, None, None), text
            taken += 1
        elif "omment is not closed" in verdict and text.count("/*") > 1:
            continue  # older servers do not nest comments and take some of these, so they are not called unclosed
        elif re.search(r"(quoted string|comment) is not closed", verdict):
            assert read.open is not None, text
            unclosed += 1
    assert taken > 50
    assert unclosed > 50


@pytest.mark.parametrize(
    "body",
    [
        "SELECT 'a;\nb';\n",
        "SELECT $$a;\nb$$;\n",
        "SELECT 1 /* a;\nb */;\n",
        "SELECT (1;\n);\n",
        "SELECT 1; SELECT 2;\n",
        "SELECT ' -- b';\nSELECT 2;\n",
        "SELECT 1;--c\nSELECT 2;\n",
        ";\n",
        "-- +goose ENVSUB ON\nSELECT $$ a $$;\n",
        "-- +goose StatementBegin\nSELECT 1;\nSELECT 2;\n-- +goose StatementEnd\n",
    ],
)
def test_bad_flow_what_is_called_lossy_is_rejected_by_the_server(clickhouse_server: ClickHouseServer, body: str) -> None:
    parsed = migration_text.parse(f"-- +goose Up\n{body}", env={})
    assert [hazard.kind for hazard in parsed.hazards_for(Engine.CLICKHOUSE)] == [HazardKind.LOSSY]
    rejected = 0
    for statement in parsed.statements:
        try:
            clickhouse_server.execute(statement.text)
        except Exception as error:  # noqa: BLE001
            rejected += "SYNTAX_ERROR" in str(error) or "Code: 62" in str(error)
    assert rejected


@pytest.mark.parametrize(
    "body",
    [
        "SELECT 'it\\'s', `a\\`;`, $$;$$ FROM (SELECT 1 AS `a\\`;`); -- c\n",
        "SELECT 1 # it's\n;\n",
        "/* a /* b; */ */ SELECT 1;\n",
        "SELECT 1; -- it's\n",
        "-- +goose StatementBegin\nSELECT 1; /* c */ -- d\n-- +goose StatementEnd\n",
    ],
)
def test_good_flow_what_the_server_takes_is_not_called_lossy(clickhouse_server: ClickHouseServer, body: str) -> None:
    parsed = migration_text.parse(f"-- +goose Up\n{body}", env={})
    assert parsed.hazards_for(Engine.CLICKHOUSE) == ()
    for statement in parsed.statements:
        clickhouse_server.execute(statement.text)
