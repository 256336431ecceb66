"""The table of error codes: every code in the sources is in it, everything in it is used, and all who read an exit code read this one."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator import cli, codes, errors
from tasks import backoff, redaction
from tasks.job import failures, manifest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path for top in ("migrator", "tasks", "flows", "deployments", "sandbox") for path in sorted((ROOT / top).rglob("*.py"))]
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}

CLASSES = {
    name: item
    for name, item in vars(errors).items()
    if inspect.isclass(item) and issubclass(item, errors.GreylagError) and name != "Relayed"
}

NO_ERRORS = frozenset({"Remark", "Note"})
"""What has a `code` and is no error. A finding is one where it says so."""


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def texts(node: ast.AST | None) -> Iterator[str]:
    """The strings that an expression may be: of a choice both."""
    match node:
        case ast.Constant(value=str() as text):
            yield text
        case ast.IfExp():
            yield from texts(node.body)
            yield from texts(node.orelse)
        case ast.JoinedStr():  # a code is spelled out, so that it is found: this one is in no table
            yield ast.unparse(node)


def takers() -> dict[str, int]:
    """Functions and dataclasses that take a code by its place among their arguments."""
    found = {}
    for node in itertools.chain.from_iterable(map(ast.walk, TREES.values())):
        names: list[str] = []
        if isinstance(node, ast.FunctionDef):
            names = [item.arg for item in node.args.args if item.arg not in ("self", "cls")]
        elif isinstance(node, ast.ClassDef):
            names = [ast.unparse(item.target) for item in node.body if isinstance(item, ast.AnnAssign)]
        if "code" in names and not node.name.startswith("__"):
            found[node.name] = names.index("code")
    return found


TAKERS = takers()

Said = tuple[str, ast.AST]
"""A class, empty where the source doesn't name it, and the expression of its code."""


def called(node: ast.AST) -> Iterator[Said]:
    """`errors.LockUnavailable("…", code="lock-budget")`, `_error("…", "duplicate-up", where, hint)`."""
    if not isinstance(node, ast.Call) or name_of(node) in NO_ERRORS:
        return
    name = name_of(node)
    if name == "Finding" and ast.unparse(node.args[0]) != "ERROR":
        return
    kind = name if name in CLASSES else ""
    yield from ((kind, item.value) for item in node.keywords if item.arg == "code")
    if len(node.args) > TAKERS.get(name, len(node.args)):
        yield kind, node.args[TAKERS[name]]


def declared(node: ast.AST) -> Iterator[Said]:
    """`code = "job-failed"` in the body of an error's class."""
    if isinstance(node, ast.ClassDef) and any(re.search(r"errors\.|Error$", ast.unparse(base)) for base in node.bases):
        yield from (
            ("", item.value) for item in node.body if isinstance(item, ast.Assign) and [ast.unparse(to) for to in item.targets] == ["code"]
        )


def classified(node: ast.AST) -> Iterator[Said]:
    """`return errors.LoginFailed, "permission-denied", hint`."""
    if isinstance(node, ast.Tuple) and len(node.elts) > 1:
        kind = ast.unparse(node.elts[0]).removeprefix("errors.")
        if kind in CLASSES:
            yield kind, node.elts[1]


def unpacked(node: ast.AST, tree: ast.AST) -> Iterator[Said]:
    """`code, hint = {"image": ("image-not-pulled", "…")}[state]`, `for kind, code, words in named:`."""
    if isinstance(node, ast.For):
        names, value = getattr(node.target, "elts", ()), node.iter
    elif isinstance(node, ast.Assign):
        names, value = getattr(node.targets[0], "elts", ()), node.value
    else:
        return
    words = [ast.unparse(item) for item in names]
    if "code" not in words:
        return
    tables = [item.value for item in ast.walk(tree) if isinstance(item, ast.AnnAssign) and ast.unparse(item.target) == ast.unparse(value)]
    for item in itertools.chain.from_iterable(map(ast.walk, filter(None, [value, *tables]))):
        if isinstance(item, ast.Tuple) and len(item.elts) == len(words):
            yield "", item.elts[words.index("code")]


def literals() -> Iterator[tuple[str, str, str]]:
    """Place, class and code of every literal that becomes an error's code."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            for kind, expression in (*called(node), *declared(node), *classified(node), *unpacked(node, tree)):
                yield from ((f"{path}:{expression.lineno}", kind, text) for text in texts(expression))  # type: ignore[attr-defined]


FOUND = sorted(set(literals()))


def test_every_code_in_the_sources_is_in_the_table() -> None:
    assert len(FOUND) > 250  # the walk sees what it is meant to see
    unknown = [f"{where}: {text}" for where, _, text in FOUND if text not in errors.CODES]
    assert not unknown


def test_every_code_is_made_by_the_class_of_its_exit_code() -> None:
    made = [(where, kind, code) for where, kind, code in FOUND if kind and code in errors.CODES]
    assert len(made) > 150
    assert not [f"{where}: {kind} with {code}" for where, kind, code in made if errors.CODES[code].exit_code is not CLASSES[kind].exit_code]


def test_every_code_in_the_table_is_used() -> None:
    constants = {
        node.value
        for path, tree in TREES.items()
        if path != "migrator/codes.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not [code for code in errors.CODES if code not in constants]


def test_a_code_stands_in_the_table_once_with_a_meaning_of_one_line() -> None:
    listed = [code for group in codes._MEANINGS.values() for code in group]
    assert len(listed) == len(set(listed)) == len(errors.CODES)
    for code, entry in errors.CODES.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
        assert 0 < len(entry.meaning) < 120 and "\n" not in entry.meaning and "|" not in entry.meaning


def test_every_exit_code_has_one_class_whose_own_code_is_the_general_one() -> None:
    direct = [item for item in CLASSES.values() if errors.GreylagError in item.__bases__]
    assert len({item.exit_code for item in direct}) == len(direct)
    for item in direct:
        assert codes.recognised("of-tomorrow", int(item.exit_code), otherwise=item.code) == item.code
    assert {entry.exit_code for entry in errors.CODES.values()} == {item.exit_code for item in direct}


def test_an_unknown_code_is_refused_where_the_error_is_made() -> None:
    with pytest.raises(LookupError, match='"lock-hold" is no code of an error: add it'):
        errors.LockUnavailable("x", code="lock-hold")
    with pytest.raises(TypeError, match="a code has one exit code"):
        errors.UsageError("x", code="lock-held")
    with pytest.raises(LookupError):
        errors.Relayed("x", code="lock-hold")


@pytest.mark.parametrize("code", list(errors.CODES))
def test_who_tells_of_anothers_error_has_its_exit_code(code: str) -> None:
    error = errors.Relayed("x", code=code)
    assert (error.code, error.exit_code, error.document()["exit_code"]) == (
        code,
        errors.CODES[code].exit_code,
        errors.CODES[code].exit_code,
    )
    copy = redaction.sanitised(failures.JobFailed("x", code=code))
    assert (type(copy), copy.code, copy.exit_code) == (failures.JobFailed, code, errors.CODES[code].exit_code)


@pytest.mark.parametrize("code", list(errors.CODES))
def test_the_job_and_the_flow_agree_on_what_a_retry_can_mend(code: str) -> None:
    """Where they part is 1: whatever ended a pod so, Python itself perhaps, is tried again; a flow has seen what it was."""
    exit_code = errors.CODES[code].exit_code
    kind = next(item for item in CLASSES.values() if item.exit_code is exit_code)
    ends_the_job = [rule["onExitCodes"]["values"] for rule in manifest.failure_rules() if rule["action"] == "FailJob"]
    assert backoff.permanent(kind("x", code=code)) == (exit_code in itertools.chain(*ends_the_job) or exit_code == errors.ExitCode.AS_GOOSE)


@pytest.mark.parametrize(
    ("told", "exit_code", "code"), [("", 14, "sql-rejected"), ("of-tomorrow", 21, "unavailable"), ("lock-budget", 20, "lock-budget")]
)
def test_a_code_that_another_version_told_is_known_by_its_exit_code(told: str, exit_code: int, code: str) -> None:
    assert codes.recognised(told, exit_code, otherwise="job-failed") == code


@pytest.mark.parametrize("exit_code", [-1, 0, 1, 3, 137, 255])
def test_an_exit_code_that_says_nothing_gives_no_code(exit_code: int) -> None:
    assert codes.recognised("of-tomorrow", exit_code, otherwise="job-failed") == "job-failed"


PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([a-z-]+)` \| (\d+) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)


def test_the_page_of_errors_and_the_table_are_one() -> None:
    assert [(code, int(exit_code), meaning) for code, exit_code, meaning, _ in ROWS] == [
        (code, entry.exit_code, entry.meaning) for code, entry in errors.CODES.items()
    ]
    assert all(remedy.strip() for *_, remedy in ROWS)


def test_every_page_that_names_a_code_with_its_exit_code_names_the_tables() -> None:
    found = []
    for path in (ROOT / "docs").rglob("*.md"):
        for named, exit_code in re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \| (\d{1,2}) \|", path.read_text(encoding="utf-8"), re.MULTILINE):
            found += [(path.name, code, int(exit_code)) for code in re.findall(r"`([a-z-]+)`", named)]
    assert not [item for item in found if item[1] not in errors.CODES or errors.CODES[item[1]].exit_code != item[2]]
    assert len(found) >= len(errors.CODES)


@pytest.mark.parametrize("page", ["README.md", "docs/troubleshooting.md", "docs/commands/README.md", "docs/commands/json.md"])
def test_the_page_of_errors_is_found(page: str) -> None:
    assert "errors.md" in (ROOT / page).read_text(encoding="utf-8")


def test_validate_ends_with_10_for_a_file_that_up_refuses_with_11(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "-- +goose Up\n-- +goose StatementBegin\n-- +goose StatementEnd\nSELECT 1;\nSELECT 2;\n-- +goose Down\nSELECT 1;\n"
    (tmp_path / "00001_a.sql").write_text(text, encoding="utf-8")
    assert cli.main(["-dir", str(tmp_path), "-json", "validate"]) == errors.ExitCode.FILE
    document = json.loads(capsys.readouterr().out)
    assert (document["error"]["code"], document["findings"][0]["code"]) == ("lossy-hazard", "swallowed-line")
