"""What code cites (`goose.md`, a section sign and a number) is a section of a page in docs/, and what docs/reference holds is cited or linked."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"

SIGN = "\u00a7"  # not written as itself, so that this file holds no citation
NOT_READ = ("docs/images/", "CHANGELOG.md")  # pictures, and what was true of earlier releases

NUMBER = rf"{SIGN}\d+(?:\.\d+)*"
# A page and its sections, on one line or wrapped with the comment's signs between.
CITATION = re.compile(
    rf"(?P<page>[\w./-]*\b[\w-]+\.md)\s+(?:(?:#|--|//|\*)\s*)?(?P<sections>{NUMBER}(?:(?:,|,? and|,? or| to| ·)\s+{NUMBER})*)"
)
PLAIN = re.compile(r"(?<![\w./<>{}*-])(?P<page>[a-z][\w./-]*\.md)\b(?!\w)")
OF_OTHERS = re.compile(r"RFC \d+ $")
HEADING = re.compile(r"^#+ +(?P<title>.*\S)", re.MULTILINE)
NUMBERED = re.compile(r"(?P<number>\d+(?:\.\d+)*)\.? ")
LINK = re.compile(r"\]\((?P<target>[^()\s:]+\.md)?(?P<anchor>#[^()\s]+)?\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Citation:
    """A section that a file names, or a page alone; a section sign without a page has no page."""

    file: str
    line: int
    page: str
    section: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.page or 'no page'} {SIGN}{self.section}".rstrip(f" {SIGN}")


def citations(text: str, file: str) -> Iterator[Citation]:
    """The sections that a text cites. In a page of docs/ a sign alone means the page itself."""
    own = Path(file).name if file.startswith("docs/") else ""
    read: list[tuple[int, int]] = []
    for found in CITATION.finditer(text):
        read.append(found.span())
        for number in re.finditer(NUMBER, found["sections"]):
            yield Citation(file, _line(text, found.start("sections") + number.start()), found["page"], number[0][1:])
    for found in re.finditer(rf"{SIGN}(\d+(?:\.\d+)*)?", text):
        inside = any(start <= found.start() < end for start, end in read)
        if not inside and not OF_OTHERS.search(text[: found.start()]):
            yield Citation(file, _line(text, found.start()), own, found[1] or "")


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def wrong(citation: Citation) -> bool:
    """Whether a citation leads nowhere."""
    page = page_of(citation.page)
    return page is None or citation.section not in sections(page)


def page_of(name: str) -> Path | None:
    """The page that a citation names: of docs/reference, or else of docs/, by its name or its path from the root."""
    for path in (REFERENCE / name, DOCS / name, ROOT / name):
        if name.endswith(".md") and path.is_file() and path.is_relative_to(DOCS):
            return path
    return None


@cache
def titles(page: Path) -> tuple[str, ...]:
    return tuple(found["title"] for found in HEADING.finditer(FENCE.sub("", page.read_text(encoding="utf-8"))))


@cache
def sections(page: Path) -> tuple[str, ...]:
    """The numbers of a page's sections, in its order."""
    return tuple(found["number"] for title in titles(page) if (found := NUMBERED.match(title)))


def anchor(title: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@cache
def files() -> dict[str, str]:
    """The text of every file of the project."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = {}
    for name in filter(None, listed.stdout.split("\0")):
        if name.startswith(NOT_READ) or not (ROOT / name).is_file():
            continue
        content = (ROOT / name).read_bytes()
        if b"\0" not in content:
            found[name] = content.decode(errors="replace")
    return found


@cache
def cited() -> tuple[Citation, ...]:
    return tuple(found for name, text in files().items() for found in citations(text, name))


def test_every_citation_leads_to_a_section() -> None:
    lost = [str(found) for found in cited() if wrong(found)]
    assert not lost, "\n".join(lost)


def test_every_page_that_code_names_is_there() -> None:
    known = {name for name in files() if name.endswith(".md")}
    names = known | {Path(name).name for name in known}
    missing = [
        f"{file}:{_line(text, found.start())}: {found['page']}"
        for file, text in files().items()
        if file.endswith((".py", ".go", ".sql", ".yaml", ".toml", ".hcl", "Makefile")) and not file.startswith("tests/")
        for found in PLAIN.finditer(text)
        if found["page"] not in names
    ]
    assert not missing, "\n".join(missing)


def test_every_section_of_the_reference_is_cited_or_linked() -> None:
    used = {(page, found.section) for found in cited() if (page := page_of(found.page)) and found.file != str(page.relative_to(ROOT))}
    for file, target, fragment in links():
        page = (file.parent / target).resolve() if target else file
        used |= {(page, found["number"]) for title in titles(page) if anchor(title) == fragment and (found := NUMBERED.match(title))}
    unused = []
    for page in REFERENCE.glob("*.md"):
        for section in sections(page):
            family = {number for known, number in used if known == page}
            if not any(f"{number}.".startswith(f"{section}.") or f"{section}.".startswith(f"{number}.") for number in family):
                unused.append(f"{page.name} {SIGN}{section}")
    assert not unused, "\n".join(unused)


@pytest.mark.parametrize("page", [*sorted(REFERENCE.glob("*.md")), DOCS / "architecture.md"], ids=lambda page: page.name)
def test_sections_are_numbered_one_after_the_other(page: Path) -> None:
    counts = [0]
    for number in sections(page):
        parts = [int(part) for part in number.split(".")]
        counts = [*counts, *[0] * len(parts)][: len(parts)]
        counts[-1] += 1
        assert parts == counts, f"{page.name}: {number} where {'.'.join(map(str, counts))} follows"


def test_the_index_lists_every_page_of_the_reference() -> None:
    index = (REFERENCE / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in sorted(REFERENCE.glob("*.md")) if page.name != "README.md" and f"]({page.name})" not in index] == []


def links() -> Iterator[tuple[Path, str, str]]:
    """The links between pages: page, target, anchor."""
    for name, text in files().items():
        if name.endswith(".md"):
            for found in LINK.finditer(FENCE.sub("", text)):
                yield ROOT / name, found["target"] or "", (found["anchor"] or "#")[1:]


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = []
    for file, target, fragment in links():
        page = (file.parent / target).resolve() if target else file
        if not page.is_file() or (fragment and fragment not in map(anchor, titles(page))):
            broken.append(f"{file.relative_to(ROOT)}: {target}#{fragment}".rstrip("#"))
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("as goose does (goose.md S5.2)", [("goose.md", "5.2")]),
        ("(goose.md S2.1 to S2.5)", [("goose.md", "2.1"), ("goose.md", "2.5")]),
        ("(goose.md S8; architecture.md S2)", [("goose.md", "8"), ("architecture.md", "2")]),
        ("(kubernetes.md S1.3, S1.6).", [("kubernetes.md", "1.3"), ("kubernetes.md", "1.6")]),
        ("# and so on (goose.md\n# S4.4)", [("goose.md", "4.4")]),
        ("-- as docs/reference/vault.md S2 says", [("docs/reference/vault.md", "2")]),
        ("(design S2)", [("", "2")]),
        ("RFC 9112 S3.2.2", []),
    ],
)
def test_what_a_citation_is(text: str, found: list[tuple[str, str]]) -> None:
    assert [(item.page, item.section) for item in citations(text.replace("S", SIGN), "a.py")] == found


@pytest.mark.parametrize(
    "text",
    [
        "(nowhere.md S1)",
        "(goose.md S99)",
        "(goose.md S2.99)",
        "(README.md S1)",
        "(design S2)",
        "see S3",
        "(goose.md S2.1, S99)",
        "(goose.md S)",
    ],
)
def test_bad_flow_a_citation_that_leads_nowhere_is_told_with_file_and_line(text: str) -> None:
    told = [str(found) for found in citations("\n\n" + text.replace("S", SIGN), "a.py") if wrong(found)]
    assert len(told) == 1
    assert told[0].startswith("a.py:3: ")


def test_a_sign_alone_in_a_page_means_the_page_itself() -> None:
    here, nowhere = citations(f"see {SIGN}5.2 and {SIGN}99", "docs/reference/goose.md")
    assert not wrong(here)
    assert wrong(nowhere)
