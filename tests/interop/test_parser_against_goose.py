"""goose itself as the judge of the parser: statements, transaction flag and error texts must be the same, byte for byte.

The judge is a small Go program over goose's public API (`gooseparse/`), built once into a cache directory outside of the repository.
`GREYLAG_FUZZ_CASES=100000` compares more files than the usual 2,000, `GREYLAG_FUZZ_SEED` others.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from migrator import errors
from migrator.goose import annotations as migration_text
from migrator.goose import file_names, goquote, gounicode
from sandbox import cache
from tests.interop import parser_cases

PROGRAM = Path(__file__).parent / "gooseparse"
CASES = int(os.environ.get("GREYLAG_FUZZ_CASES", "2000"))
SEED = int(os.environ.get("GREYLAG_FUZZ_SEED", "3273"))
BATCH = 2000
LIMIT = 4 * 1024 * 1024


@pytest.fixture(scope="module")
def judge() -> Path:
    """The Go program, built for its source; skips where Go or its modules are missing."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed: the parser is not compared with goose itself")
    digest = hashlib.sha256(b"".join((PROGRAM / name).read_bytes() for name in ("main.go", "go.mod", "go.sum"))).hexdigest()[:12]
    binary = cache.directory() / "bin" / f"gooseparse-{digest}"
    if not binary.exists():
        binary.parent.mkdir(parents=True, exist_ok=True)
        built = binary.with_suffix(f".{os.getpid()}")
        run = subprocess.run([go, "build", "-o", str(built), "."], cwd=PROGRAM, capture_output=True, text=True, timeout=300, check=False)
        if run.returncode != 0:
            pytest.skip(f"gooseparse can't be built: {run.stderr.strip().splitlines()[-1:]}")
        built.rename(binary)
    return binary


def ask(judge: Path, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The judge's answers, in order."""
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    run = subprocess.run([judge], input=lines.encode(), capture_output=True, timeout=600, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def request(case: parser_cases.Case) -> dict[str, Any]:
    return {"file": b64(case.file), "direction": case.direction, "env": {name: b64(value) for name, value in case.env.items()}}


def verdict(answer: dict[str, Any]) -> tuple[object, ...]:
    if answer["error"]:
        return ("error", base64.b64decode(answer["error"]))
    return ("statements", [base64.b64decode(item) for item in answer["statements"] or []], answer["use_transaction"])


def ours(case: parser_cases.Case) -> tuple[object, ...]:
    env = {name: gounicode.decode(value) for name, value in case.env.items()}
    try:
        parsed = migration_text.parse(case.file, case.direction, env, reveal=True)
    except errors.ParseError as error:
        return ("error", gounicode.encode(str(error)))
    return ("statements", [gounicode.encode(item.text) for item in parsed.statements], parsed.use_transaction)


def batches(cases: list[parser_cases.Case]) -> Iterator[list[parser_cases.Case]]:
    for start in range(0, len(cases), BATCH):
        yield cases[start : start + BATCH]


def compare(judge: Path, cases: list[parser_cases.Case]) -> dict[str, int]:
    """Asserts that goose and greylag agree on every case; counts what kinds of answers there were."""
    seen = {"statements": 0, "error": 0, "panic": 0}
    for batch in batches(cases):
        answers = ask(judge, [request(case) for case in batch])
        assert len(answers) == len(batch)
        for case, answer in zip(batch, answers, strict=True):
            mine = ours(case)
            if answer["panic"]:  # goose crashed: there is nothing to agree with
                seen["panic"] += 1
                continue
            assert mine == verdict(answer), case
            seen[str(mine[0])] += 1
    return seen


def test_random_files_are_split_as_goose_splits_them(judge: Path) -> None:
    seen = {"statements": 0, "error": 0, "panic": 0}
    for index in range(0, CASES, BATCH):
        for kind, count in compare(judge, parser_cases.cases(min(BATCH, CASES - index), SEED + index)).items():
            seen[kind] += count
    print(seen)
    assert seen["statements"] > CASES / 4, "the generator should make files that parse"
    assert seen["error"] > CASES / 4, "the generator should make files that do not parse"
    assert seen["panic"] < CASES / 100


HAND_PICKED = [
    "", "\n", "\r", "-- c", "+goose Up", "-- +goose Up", "-- +goose Up\n-- +goose Down", "-- +goose Up\n \n", "-- +goose Up\n \n-- c\n",
    "-- +goose Up\n \n-- +goose Down\ntext\n-- +goose ENVSUB ON\n-- $1\n;\n",  # white space left over from Up goes with the first line of Down
    "-- +goose Up\n \n-- +goose Down\n-- +goose ENVSUB ON\n-- $1\n;\n",
    "-- +goose Up\n \n-- +goose Down\n-- +goose StatementBegin\n-- +goose StatementEnd\n-- +goose ENVSUB ON\n-- $1\n;\n",
    "-- +goose Up\n-- +goose StatementBegin\n-- +goose StatementEnd\n-- +goose ENVSUB ON\n$1\n;\n",  # a swallowed line is not expanded
    "-- +goose Up\n-- +goose StatementBegin\n-- +goose StatementEnd\n-- +goose StatementBegin\na\n-- +goose StatementEnd\nb;",
    "-- +goose Up\n-- +goose StatementBegin\n-- +goose StatementEnd\n-- +goose Down\nDROP;\n",
    "-- +goose Up\n-- +goose StatementBegin\n \n-- +goose StatementEnd\nSELECT 1;\n",
    "-- +goose Up\na\n-- +goose StatementBegin\n-- +goose StatementEnd\nb;\n", "-- +goose Up\na\n-- +goose StatementBegin\nb\n-- +goose Down\n",
    "-- +goose Up\n-- +goose ENVSUB ON\na $A\n-- +goose ENVSUB OFF\n$A\n-- +goose ENVSUB ON\n$SEMI\nb;\n", "-- +goose ENVSUB ON\n$A\n",
    "-- +goose ENVSUB ON\n\n-- $1\n-- +goose Up\n-- $1\nSELECT\n-- $A\n-- $1\n;\n", "-- +goose Up\n-- +goose ENVSUB ON\n$LINES\nSELECT 1;",
    "-- +goose Up\n-- +goose ENVSUB ON\n$DASH ;\n;\n", "-- +goose Up\n-- +goose ENVSUB ON\n$SPACE\n-- c\n-- +goose Down\n",
    "-- +goose Up\nSELECT 1;\n-- +goose Down\n-- +goose ENVSUB ON\n$1;\n", "-- +goose Up\r\nSELECT\r\n\r\n1;\r\n-- +goose Down\r\nx;\r",
]  # fmt: skip


def test_hand_picked_files_are_split_as_goose_splits_them(judge: Path) -> None:
    cases = [parser_cases.Case(text.encode(), way, parser_cases.VALUES) for text in HAND_PICKED for way in ("up", "down")]
    seen = compare(judge, cases)
    assert seen["statements"] > 10
    assert seen["error"] > 10


def test_lines_at_the_limit_of_goose_are_judged_alike(judge: Path) -> None:
    up = b"-- +goose Up\n"
    cases = []
    for size in (LIMIT - 3, LIMIT - 2, LIMIT - 1, LIMIT, LIMIT + 1):
        line = b"SELECT '" + b"x" * (size - 10) + b"';"
        for data in (
            up + line,
            up + line + b"\n",
            up + line[:-3] + b"';\r\n",
            up + b"SELECT 1;\n-- +goose Down\n" + line + b"\nSELECT 2;\n",
            up + b"-- +goose StatementBegin\nSELECT\n" + line + b"\n-- +goose StatementEnd\n",
            up + b"SELECT\n" + line + b"\n;\n",
            up + b"--" + b"c" * (size - 2) + b"\nSELECT 1;\n",
            b" " * size + b"\n" + up + b"SELECT 1;",
            up + b"-- +goose Upp\n" + line,
        ):
            cases += [parser_cases.Case(data, direction, {}) for direction in ("up", "down")]
    for case in cases:  # one by one: a batch of such files would fill the memory
        compare(judge, [case])


def test_a_line_that_grows_beyond_the_limit_by_substitution_is_judged_alike(judge: Path) -> None:
    up = b"-- +goose Up\n-- +goose ENVSUB ON\n"
    env = {"BIG": b"y" * 100_000}
    for line in (
        b"$BIG" * 41 + b" ;",
        b"$BIG" * 42 + b";",
        b"$BIG" * 42 + b" ;",
        b"a; " + b"$BIG" * 42,
        b"a; " + b"$BIG" * 42 + b" b",
        b"a; -- " + b"$BIG" * 42,
    ):
        compare(judge, [parser_cases.Case(up + line + b"\nSELECT 1;\n", "up", env)])


def test_random_bytes_are_quoted_as_go_quotes_them(judge: Path) -> None:
    texts = [*parser_cases.texts(CASES, SEED), *(bytes([byte]) for byte in range(256)), b"".join(bytes([byte]) for byte in range(256))]
    answers = ask(judge, [{"ask": "quote", "file": b64(text)} for text in texts])
    for text, answer in zip(texts, answers, strict=True):
        assert goquote.quote(text).encode() == base64.b64decode(answer["text"]), text


def test_every_character_is_classified_as_go_classifies_it(judge: Path) -> None:
    table = ask(judge, [{"ask": "table"}])[0]["table"]
    assert len(table) == 0x110000
    for point, expected in enumerate(table):
        if 0xD800 <= point <= 0xDFFF:
            continue  # lone surrogates stand for bytes here, and never reach Go
        character = chr(point)
        if gounicode.is_letter(character):
            found = "L"
        elif gounicode.is_number(character):
            found = "N"
        elif character in gounicode.SPACE_CHARACTERS:
            found = "p" if gounicode.is_printable(character) else "s"
        else:
            found = "P" if gounicode.is_printable(character) else "."
        assert found == expected, hex(point)
        assert gounicode.is_printable(character) == (expected in "LNPp"), hex(point)


def test_numbers_and_file_names_are_read_as_go_reads_them(judge: Path) -> None:
    chance = random.Random(SEED)
    texts = [
        "".join(chance.choice("0123456789999_+-x .") for _ in range(chance.choice([0, 1, 2, 5, 18, 19, 20, 21, 25]))) for _ in range(CASES)
    ]
    texts += [
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616x",
        "1x",
        "+",
        "-",
        "\u0663",
    ]
    numbers = ask(judge, [{"ask": "number", "file": b64(text.encode())} for text in texts])
    for text, answer in zip(texts, numbers, strict=True):
        assert _outcome(goquote.parse_int, text) == _expected(answer), text
    names = [f"{text}{tail}" for text in texts for tail in ("_x.sql", "x.go", "_y.txt")]
    versions = ask(judge, [{"ask": "version", "file": b64(name.encode())} for name in names])
    for name, answer in zip(names, versions, strict=True):
        assert _outcome(file_names.version_of, name) == _expected(answer), name


def _outcome(read: Any, text: str) -> tuple[int, str]:
    try:
        return read(text), ""
    except ValueError as error:
        return 0, str(error)


def _expected(answer: dict[str, Any]) -> tuple[int, str]:
    text = base64.b64decode(answer["error"] or "").decode()
    return (0 if text else answer["number"]), text
