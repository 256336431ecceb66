"""The last guard of every verb: what nobody expected is told as greylag's own fault, without the address that it holds."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any
from urllib.parse import quote

import pytest

from migrator import cli
from migrator.address import redaction
from migrator.cli import command, extensions, faults, verbs

SECRET = "c0rrect horse' b\\tt\"ery/@:é"
ENCODED = quote(SECRET, safe="")
ADDRESS = f"postgres://ada:{ENCODED}@db.example:5432/app"
RAW = f"postgres://ada:{SECRET}@db.example:5432/app"


def chained(kind: str) -> Exception:
    try:
        try:
            raise ValueError(f"could not connect to {RAW}")
        except ValueError as error:
            if kind == "cause":
                raise RuntimeError("connecting failed") from error
            raise LookupError("connecting failed")  # noqa: B904 - a context is what is meant
    except (RuntimeError, LookupError) as outer:
        return outer


def noted() -> Exception:
    error = RuntimeError("connecting failed")
    error.add_note(f"address: {RAW}")
    return error


FAULTS: dict[str, Callable[[], BaseException]] = {
    "in a URL": lambda: RuntimeError(f"could not connect to {ADDRESS}"),
    "as it is": lambda: RuntimeError(f"could not connect to {RAW}: {SECRET} was refused"),
    "percent-encoded alone": lambda: RuntimeError(f"refused: {ENCODED}"),
    "in an encoded URL": lambda: RuntimeError(f"redirected to /?next={quote(ADDRESS, safe='')}"),
    "in a repr": lambda: RuntimeError(repr({"dsn": RAW, "password": SECRET})),
    "in bytes": lambda: RuntimeError(repr(SECRET.encode())),
    "in JSON": lambda: RuntimeError(json.dumps({"password": SECRET})),
    "as a key": lambda: KeyError(RAW),
    "as a lone key": lambda: KeyError(SECRET),
    "in a connection string": lambda: RuntimeError(f'host=db user=ada password="{SECRET}"'),
    "in a cause": lambda: chained("cause"),
    "in a context": lambda: chained("context"),
    "in a note": noted,
    "in a group": lambda: ExceptionGroup("several", [RuntimeError(RAW), KeyError(SECRET)]),
    "at the process's end": lambda: SystemExit(f"can't go on with {RAW}"),
}

LEAKS = (
    SECRET,
    ENCODED,
    quote(ENCODED, safe=""),
    repr(SECRET)[1:-1],
    json.dumps(SECRET)[1:-1],
    repr(SECRET.encode())[2:-1],
    "c0rrect",
    "ery",
)


WORDS = {
    "approve": ["prod"],
    "chart": ["values", "@/shop"],
    "codegen": ["@/shop"],
    "doctor": ["@dev/shop"],
    "privileges": ["vault", "@dev"],
    "worker": ["dev"],
}
"""What a verb needs to be called at all."""


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The password as a run knows it: it stands in the environment."""
    monkeypatch.setattr(redaction, "_registered", set())
    monkeypatch.setenv("GOOSE_DBSTRING", ADDRESS)
    before = threading.excepthook
    yield
    threading.excepthook = before


def clean(text: str) -> bool:
    return not [leak for leak in LEAKS if leak in text]


def fail_with(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


def arrange(monkeypatch: pytest.MonkeyPatch, verb: str, error: BaseException) -> list[str]:
    """Makes a verb of either table fail; the words that call it."""
    if verb in extensions.names():
        module, _, attribute = extensions.find(extensions.VERBS)[verb].partition(":")
        monkeypatch.setattr(getattr(import_module(module), attribute), "function", fail_with(error))
        return [verb, *WORDS.get(verb, [])]
    module, _, function = verbs.ALL[verb].function.partition(":")
    monkeypatch.setattr(import_module(f"migrator.cli.{module}"), function, fail_with(error))
    monkeypatch.setenv("GOOSE_DRIVER", "postgres")
    return [verb]


@pytest.mark.parametrize("verb", [*extensions.names(), *verbs.ALL])
@pytest.mark.parametrize("json_wanted", [False, True], ids=["text", "json"])
def test_bad_flow_a_fault_of_a_verb_is_told_as_one_and_redacted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str, json_wanted: bool
) -> None:
    words = arrange(monkeypatch, verb, KeyError(RAW))
    assert cli.main([*words, "-json"] if json_wanted else words) == 1
    told = capsys.readouterr()
    assert clean(told.out) and clean(told.err)
    assert "this is a fault of greylag itself" in told.err and "KeyError" in told.err
    if json_wanted:
        document = json.loads(told.out.splitlines()[-1] if verb in verbs.ALL and verbs.ALL[verb].streams else told.out)
        assert (document["error"]["code"], document["exit_code"]) == ("internal", 1)


@pytest.mark.parametrize("how", list(FAULTS))
@pytest.mark.parametrize("verb", ["deploy", "status"])
def test_bad_flow_no_spelling_of_a_secret_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str, verb: str
) -> None:
    assert cli.main([*arrange(monkeypatch, verb, FAULTS[how]()), "-json"]) == 1
    told = capsys.readouterr()
    assert clean(told.out) and clean(told.err), told
    assert "a fault of greylag itself" in told.err


@pytest.mark.parametrize("how", ["in a URL", "as it is", "as a key", "in a cause", "in a context"])
def test_bad_flow_an_address_that_nobody_knows_is_recognised_by_its_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    monkeypatch.delenv("GOOSE_DBSTRING")
    plain = FAULTS[how]()
    text = RuntimeError(f"no route to {ADDRESS}") if how == "as it is" else plain
    assert cli.main(arrange(monkeypatch, "fleet", text)) == 1
    told = capsys.readouterr()
    assert ENCODED not in told.err and "c0rrect" not in told.err


def test_bad_flow_a_secret_that_was_read_during_the_run_is_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GOOSE_DBSTRING")
    redaction.register(SECRET)
    assert cli.main(arrange(monkeypatch, "targets", KeyError(SECRET))) == 1
    assert clean(capsys.readouterr().err)


@pytest.mark.parametrize("json_wanted", [False, True], ids=["text", "json"])
def test_bad_flow_a_fault_before_any_verb_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], json_wanted: bool, tmp_path: Any
) -> None:
    monkeypatch.setattr(command, "_resolved", fail_with(RuntimeError(RAW)))
    monkeypatch.setenv("GREYLAG_TERMINATION_LOG", str(tmp_path / "log"))
    assert cli.main(["-json", "status"] if json_wanted else ["status"]) == 1
    told = capsys.readouterr()
    assert clean(told.out + told.err + (tmp_path / "log").read_text()) and "a fault of greylag itself" in told.err
    assert not json_wanted or json.loads(told.out)["error"]["code"] == "internal"


def test_bad_flow_a_thread_that_ends_with_an_address_says_so_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    def action() -> int:
        thread = threading.Thread(target=fail_with(RuntimeError(RAW)))
        thread.start()
        thread.join()
        return 0

    assert faults.guarded(action, {}, lambda _: 2) == 0
    told = capsys.readouterr().err
    assert "RuntimeError" in told and clean(told)


def test_bad_flow_an_exception_whose_text_cant_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError(RAW)

    assert faults.guarded(fail_with(Broken(SECRET)), {}, lambda _: 2) == 1
    told = capsys.readouterr().err
    assert "Broken" in told and clean(told)


def test_the_end_of_the_process_passes() -> None:
    with pytest.raises(SystemExit):
        faults.guarded(fail_with(SystemExit(3)), {}, lambda _: 2)
    assert faults.guarded(fail_with(KeyboardInterrupt()), {}, lambda _: 2) == 23
