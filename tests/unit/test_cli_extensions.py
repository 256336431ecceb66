"""Verbs of other packages: entry points, read as they are installed, with the argument table, the help, the document and the guard of every verb."""

from __future__ import annotations

import ast
import json
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import migrator
from migrator import cli
from migrator.cli import extensions, verbs

ROOT = Path(__file__).parents[2]

PREFECTS = "prefect.collections"
"""Prefect's own group: it finds the worker's type there."""

DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]

TOY = '''
from migrator import errors
from migrator.cli import calls
from migrator.cli.go_flags import Flag
from migrator.cli.verbs import VerbEntry


def run(call):
    """Says what it was told."""
    if call.arguments[0] == "refuse":
        raise errors.UsageError("no", hint="say something else")
    if call.arguments[0] == "break":
        raise KeyError("postgres://ada:s3cretWord@db/app")
    calls.note(said=list(call.arguments), times=call.values.integer("times"), colour=call.values.string("colour"))
    call.own("said")
    return 3


COLOURS = Flag("colour", "string", "", "how it looks", choices=("", "red", "blue"))
VERB = VerbEntry("toy", run, "says what it is told", arguments="WORD …", flags=(Flag("times", "integer", 1, "how often"), COLOURS))
'''


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of the search path that holds another distribution, with one verb; nothing of greylag itself is touched."""
    information = tmp_path / "toys-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n", encoding="utf-8")
    (information / "entry_points.txt").write_text(
        "[console_scripts]\ntoys = toys:main\n\n[greylag.verbs]\ntoy = greylag_toy:VERB\n"
        "up = greylag_toy:VERB\nabsent = greylag_absent.module:VERB\nbare = greylag_bare:VERB\n",
        encoding="utf-8",
    )
    (tmp_path / "greylag_toy.py").write_text(TOY, encoding="utf-8")
    (tmp_path / "greylag_bare.py").write_text("import greylag_no_such_package\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("greylag_toy", None)


def test_a_new_verb_is_one_file_and_one_line(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["toy", "hello", "-times", "2", "again", "--colour=red", "-json"]) == 3
    told = capsys.readouterr()
    assert json.loads(told.out) == {"verb": "toy", "said": ["hello", "again"], "times": 2, "colour": "red", "exit_code": 3}
    assert told.err == "greylag: said\n"
    assert cli.main(["-json", "toy", "hello"]) == 3, "flags may come first"
    assert json.loads(capsys.readouterr().out)["said"] == ["hello"]


def test_the_help_lists_it_and_the_help_of_it_comes_from_its_table(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-h"]) == 0
    listed = capsys.readouterr().out.partition("Commands of the checkout")[2].splitlines()[1]
    assert "toy" in listed.strip().split(", ") and "up" not in listed.strip().split(", ")
    assert "absent" not in listed, "its package is not there"
    for words in (["help", "toy"], ["toy", "-h"], ["toy", "--help"]):
        assert cli.main(words) == 0
        text = capsys.readouterr().out
        assert text.startswith("Usage: greylag toy WORD … [OPTIONS]\n\nSays what it is told.\n")
        assert "  -times int\n    \thow often\n" in text and "how it looks (red, blue)" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "toy needs WORD"),
        (["x", "-tims", "2"], "flag provided but not defined: -tims"),
        (["x", "-times", "two"], 'invalid value "two" for flag -times: parse error'),
        (["x", "-colour", "green"], 'invalid value "green" for flag -colour: one of red, blue'),
        (["x", "-times"], "flag needs an argument: -times"),
    ],
)
def test_bad_flow_a_command_line_that_is_not_understood(
    site: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["toy", "-json", *words]) == 2
    told = capsys.readouterr()
    assert message in told.err and "hint: greylag toy -h shows how it is called" in told.err
    assert json.loads(told.out)["error"]["message"] == message


@pytest.mark.parametrize(("word", "code", "exit_code"), [("refuse", "usage", 2), ("break", "internal", 1)])
def test_bad_flow_its_errors_end_where_every_verbs_do(
    site: Path, word: str, code: str, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["toy", word, "-json"]) == exit_code
    told = capsys.readouterr()
    assert (json.loads(told.out)["error"]["code"], json.loads(told.out)["exit_code"]) == (code, exit_code)
    assert "s3cretWord" not in told.out + told.err


def test_an_entry_point_replaces_no_verb_of_the_engine(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", "up"]) == 0
    assert verbs.ALL["up"].summary in capsys.readouterr().out
    assert "greylag_toy" not in sys.modules


@pytest.mark.parametrize(
    ("verb", "code", "hint"), [("absent", "needs-checkout", "run greylag from the checkout"), ("bare", "missing-extra", "pip install")]
)
def test_bad_flow_a_verb_whose_module_or_package_is_missing_says_so(
    site: Path, verb: str, code: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([verb, "-json"], ["help", verb]):
        assert cli.main(words) == 2
        told = capsys.readouterr()
        assert f"[{code}]" in told.err and f"hint: {hint}" in told.err and "Traceback" not in told.err
        assert words[0] == "help" or json.loads(told.out)["error"]["code"] == code


@pytest.mark.parametrize("words", [["targets"], ["-json", "fleet"], ["help", "deploy"], ["status", "@dev/auth-service"]])
def test_bad_flow_a_checkout_that_is_newer_than_its_installation_says_what_to_run(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extensions, "find", lambda group: {})
    assert cli.main(words) == 2
    told = capsys.readouterr().err
    assert "[not-installed]" in told and "hint: run `make install` in the checkout" in told


def test_bad_flow_a_word_that_nobody_knows_imports_nothing(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["frobnicate"]) == 2
    assert "neither a driver nor a command" in capsys.readouterr().err
    assert "greylag_toy" not in sys.modules


@pytest.mark.parametrize("group", ["greylag.verbs", "greylag.fleet", "console_scripts", "pytest11"])
def test_entry_points_are_found_as_python_itself_finds_them(site: Path, group: str) -> None:
    expected: dict[str, str] = {}
    for item in metadata.entry_points(group=group):
        expected.setdefault(item.name, item.value.partition("[")[0].strip())
    assert extensions.find(group) == expected


@pytest.mark.parametrize("group", list(DECLARED))
def test_what_pyproject_declares_is_installed_and_there(group: str) -> None:
    found = extensions.find(group)
    for name, value in DECLARED[group].items():
        assert found[name] == value
        module = ROOT / (value.partition(":")[0].replace(".", "/") + ".py")
        room = "worker" if group == PREFECTS else "console"
        assert module.is_file() and module.is_relative_to(ROOT / "deployments" / room)
    assert set(DECLARED) == {extensions.VERBS, extensions.FLEET, PREFECTS}


def test_the_engine_names_nothing_above_it() -> None:
    """An import by name is an arrow, too, and import-linter sees none of these."""
    above = ("deployments", "flows", "tasks", "sandbox")
    for path in Path(migrator.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.startswith(tuple(f"{name}." for name in above)), f"{path}:{node.lineno}: {node.value}"
