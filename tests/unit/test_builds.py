"""The sandbox's Go programs: how they are named, built once, and missed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from migrator import errors
from sandbox import builds


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A program `go` on PATH that builds at once, before an empty cache; a test may write another."""
    monkeypatch.setenv("GREYLAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / "go"
    path.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho built >"$2"; chmod 755 "$2"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


def test_a_program_is_named_by_its_modules_content(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module x\n\ngo 1.26.0\n", encoding="utf-8")
    (tmp_path / "main.go").write_text("package main\nfunc main() {}\n", encoding="utf-8")
    program = builds.Program("x", tmp_path, "an example", 1)
    before = program.digest
    (tmp_path / "notes.txt").write_text("no source", encoding="utf-8")
    assert program.digest == before
    (tmp_path / "main.go").write_text("package main\nfunc main() { println() }\n", encoding="utf-8")
    assert program.digest != before


def test_kubernetes_programs_know_their_version() -> None:
    assert builds.kubernetes_release().startswith("v1.")
    assert f"gitVersion={builds.kubernetes_release()}" in builds.PROGRAMS[builds.CONTROLPLANE].linker_options
    assert "gitVersion" not in builds.PROGRAMS[builds.OPENBAO].linker_options


def test_a_program_is_built_once_and_a_long_build_says_that_it_goes_on(go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "_REMINDER_SECONDS", 0.05)
    go.write_text(go.read_text(encoding="utf-8").replace("echo built", "sleep 0.5; echo built"), encoding="utf-8")
    said: list[str] = []
    first = builds.build(builds.OPENBAO, said.append)
    assert first.read_text(encoding="utf-8") == "built\n" and first == builds.binary(builds.OPENBAO)
    assert said[0].startswith("building ") and said[1].startswith("still building") and said[-1].startswith("built ")
    count = len(said)
    assert builds.build(builds.OPENBAO, said.append) == first
    assert len(said) == count


def test_files_that_a_program_needs_are_kept_beside_it_before_it_is_there(go: Path, tmp_path: Path) -> None:
    module = tmp_path / "module"
    for name in builds.PROGRAMS[builds.ARGOCD].companions.files:  # type: ignore[union-attr]
        (module / name).parent.mkdir(parents=True, exist_ok=True)
        (module / name).write_text(f"content of {name}", encoding="utf-8")
        (module / name).chmod(0o444)
    script = f'#!/bin/sh\nif [ "$1" = list ]; then echo {module}; exit; fi\n' + go.read_text(encoding="utf-8").partition("\n")[2]
    go.write_text(script, encoding="utf-8")
    for _ in range(2):  # a second build replaces what an interrupted one left
        builds.build(builds.ARGOCD).unlink()
    kept = builds.companions(builds.ARGOCD) / "hack" / "git-verify-wrapper.sh"
    assert kept.read_text(encoding="utf-8") == "content of hack/git-verify-wrapper.sh"
    assert [path.name for path in kept.parents[2].iterdir()] == [builds.companions(builds.ARGOCD).name]


def test_bad_flow_files_that_can_not_be_found_leave_no_program(go: Path) -> None:
    script = (
        '#!/bin/sh\nif [ "$1" = list ]; then echo "no such module" >&2; exit 1; fi\n' + go.read_text(encoding="utf-8").partition("\n")[2]
    )
    go.write_text(script, encoding="utf-8")
    with pytest.raises(errors.Unavailable) as caught:
        builds.build(builds.ARGOCD)
    assert "no such module" in caught.value.detail
    assert builds.binary(builds.ARGOCD) is None and list(builds.place(builds.ARGOCD).parent.iterdir()) == []


def test_bad_flow_a_build_that_fails_shows_what_go_said_and_leaves_nothing(go: Path) -> None:
    go.write_text("#!/bin/sh\necho 'main.go:1: broken' >&2; exit 1\n", encoding="utf-8")
    with pytest.raises(errors.Unavailable) as caught:
        builds.build(builds.OPENBAO)
    assert "main.go:1: broken" in caught.value.detail
    assert list(builds.place(builds.OPENBAO).parent.iterdir()) == []


def test_bad_flow_without_go_and_without_a_binary_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GREYLAG_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert builds.binary(builds.OPENBAO) is None
    assert "`make vault` builds it" in builds.missing(builds.OPENBAO)
    with pytest.raises(errors.NotFound) as caught:
        builds.build(builds.OPENBAO)
    assert "no Go on PATH" in caught.value.message
    assert str(builds.place(builds.OPENBAO)) in caught.value.hint
