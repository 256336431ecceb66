"""Compares the schemas of two environments: as facts, or as digests of them where neither may read the other's database (facts.md §5).

Digests, because a definition may hold what ENVSUB put into it, and because whoever reaches Prefect's API reads what is published. An object that a
file with ENVSUB made, or names, has no digest: it differs between environments on purpose. So has none what no version made.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from migrator.planning import schema_comparison
from migrator.planning.schema_comparison import QUERY_KINDS, Comparison, Difference, Schema, same, unqualified
from migrator.planning.schema_facts import COLUMN_ORDER, FOREIGN, PARTS, SchemaFact

WITHHELD = "*"
"""Stands where an object's definition has no digest: its being there is all that is compared."""

DIGITS = 32
"""Hex digits of an object's digest: 128 bits, where nobody gains by finding two definitions of one digest."""

_CHOSEN_NAME = re.compile(r"_(?:pkey|key|idx|check|excl|fkey|seq|not_null)\d*\"?$")
"""How names end that PostgreSQL chooses (ChooseIndexName, ChooseConstraintName)."""

_SUBSTITUTES = re.compile(rb"--\s*\+goose\s+ENVSUB\s+ON", re.IGNORECASE)
_WORD = re.compile(r"\w+")
_OF_TABLES = PARTS | {"index"}
"""Kinds that no statement changes without naming their table."""

Alike = Callable[[SchemaFact, SchemaFact], bool]
Row = dict[str, str | int]


def chosen_by_server(fact: SchemaFact) -> bool:
    """Tells whether a name looks like one that PostgreSQL chose: it depends on which names were taken, and so on a database's past."""
    return fact.kind in ("index", "constraint", "sequence") and bool(_CHOSEN_NAME.search(fact.identity))


def compare(ours: Sequence[SchemaFact], theirs: Sequence[SchemaFact], alike: Alike = same) -> Comparison:
    """Compares two databases: the same versions should have made the same objects.

    Who owns what and who was granted what are each environment's own. An index or a constraint whose name the server chose is the same object under
    another name where table and definition are the same: a note.
    """
    left = {item.key: item for item in ours if item.kind != "privileges"}
    right = {item.key: item for item in theirs if item.kind != "privileges"}
    differences: list[Difference] = []
    notes: list[str] = []
    spare = [right[key] for key in sorted(right.keys() - left.keys())]
    lone = []
    for item in (left[key] for key in sorted(left.keys() - right.keys())):
        twin = next((other for other in spare if _is_twin(item, other, alike)), None)
        if twin is None:
            lone.append(item)
        else:
            spare.remove(twin)
            notes.append(f"{item} is called {twin.identity} there; the server chose both names")
    listed = {item.parent for item in (*lone, *spare) if item.kind == "column"}
    for key in sorted(left.keys() & right.keys()):
        item = left[key]
        consequent = item.kind == COLUMN_ORDER and item.parent in listed
        if not consequent and not alike(item, right[key]):
            differences.append(Difference(str(item), "changed", item.text, right[key].text, item.version, item.direction))
    alone, theirs_alone = _outermost(lone), _outermost(spare)
    differences += [Difference(str(item), "missing", item.text, "", item.version, item.direction) for item in alone]
    differences += [Difference(str(item), "unrecorded", "", item.text, item.version, item.direction) for item in theirs_alone]
    return Comparison(tuple(differences), (), tuple(notes), len(left))


def _outermost(lone: Sequence[SchemaFact]) -> list[SchemaFact]:
    """Leaves out what belongs to an object that is told itself."""
    told = {item.identity for item in lone if item.kind not in ("schema", "database")}
    return [item for item in lone if item.parent not in told]


def _is_twin(one: SchemaFact, other: SchemaFact, alike: Alike) -> bool:
    if (one.kind, one.parent) != (other.kind, other.parent) or WITHHELD in (one.definition, other.definition):
        return False
    return chosen_by_server(one) and chosen_by_server(other) and alike(one, other)


# --- digests --------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Substitutions:
    """The files that take values from the environment (ENVSUB), as far as their text tells: their versions, and the words in them."""

    versions: frozenset[int] = frozenset()
    words: frozenset[str] = frozenset()

    @classmethod
    def of(cls, contents: Mapping[int, bytes]) -> Substitutions:
        """Reads the files' contents, by version."""
        found = {version: content for version, content in contents.items() if _SUBSTITUTES.search(content)}
        words = (_WORD.findall(content.decode("utf-8", "replace").casefold()) for content in found.values())
        return cls(frozenset(found), frozenset(word for line in words for word in line))

    def concern(self, fact: SchemaFact) -> bool:
        """Tells whether a value may be in an object's definition: such a file made it, or has its name in it, or that of the table which it is a part of."""
        name = fact.parent if fact.kind in _OF_TABLES else fact.identity
        own = _WORD.findall(name.partition("(")[0].rpartition(".")[2].casefold())
        return fact.version in self.versions or any(word in self.words for word in own)


@dataclass(frozen=True)
class Digested:
    """A schema as its environment's worker tells it: each object's kind and name with a digest of its definition.

    Attributes:
        bundle: digest of the files that made it; also what the digests are keyed with.
        engine, server: `postgres` or `clickhouse`, and the server's version in words.
        unproven: versions of which nothing was recorded, so that their objects are not told.
        objects: facts whose definitions and bases are digests.
    """

    bundle: str
    engine: str
    server: str
    unproven: tuple[int, ...]
    objects: tuple[SchemaFact, ...]

    def rows(self) -> list[Row]:
        """Returns the table that is published: what it is of, then an object a row."""
        head = _row("bundle", self.bundle, self.engine, self.server, ",".join(map(str, self.unproven)), 0)
        return [
            head,
            *(_row(item.kind, item.identity, item.parent, item.definition, item.basis, item.version or 0) for item in self.objects),
        ]

    @property
    def digest(self) -> str:
        """The sha256 of the rows: what a worker signs."""
        return digest(self.rows())


def _row(kind: str, name: str, parent: str, definition: str, basis: str, version: int) -> Row:
    return {"kind": kind, "object": name, "parent": parent, "digest": definition, "basis": basis, "version": version}


def digest(rows: Sequence[Mapping[str, object]]) -> str:
    """Returns the sha256 of a table's rows, in hex."""
    return hashlib.sha256(json.dumps([dict(row) for row in rows], sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read(rows: Sequence[Mapping[str, object]]) -> Digested | None:
    """Reads the rows that `Digested.rows` made; None when they are something else."""
    if not rows or rows[0].get("kind") != "bundle":
        return None
    head, *rest = ({name: str(row.get(name, "")) for name in _row("", "", "", "", "", 0)} for row in rows)
    try:
        unproven = tuple(int(item) for item in head["basis"].split(",") if item)
        server = _major(head["digest"])
        objects = tuple(
            SchemaFact(
                row["kind"], row["object"], row["parent"], row["digest"], row["basis"], server=server, version=int(row["version"]) or None
            )
            for row in rest
        )
    except ValueError:
        return None
    return Digested(head["object"], head["parent"], head["digest"], unproven, objects)


def digested(schema: Schema, bundle: str, engine: str, server: str, substitutions: Substitutions) -> Digested:
    """Returns a schema in digests, keyed with the bundle, so that no table of known definitions fits another release."""
    unproven = schema.unproven if schema.complete else (*schema.unproven, 0)

    def shortened(text: str) -> str:
        return hmac.new(bundle.encode(), text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:DIGITS]

    def told(fact: SchemaFact) -> SchemaFact:
        definition, basis = WITHHELD, ""
        if fact.state != FOREIGN and not substitutions.concern(fact):
            definition = shortened(fact.definition)
            if fact.kind in QUERY_KINDS:
                definition += f" {shortened(unqualified(fact.definition))}"
                basis = shortened(fact.basis) if fact.basis else ""
        return replace(fact, definition=definition, basis=basis, server=_major(server))

    return Digested(bundle, engine, server, tuple(dict.fromkeys(unproven)), tuple(map(told, schema.standing())))


def _major(server: str) -> int:
    number = re.match(r"\d+", server)
    return int(number[0]) * 10000 if number else 0


def _same_digest(one: SchemaFact, other: SchemaFact) -> bool:
    """Tells whether two digested facts say the same, by the rules of `schema_comparison.same`."""
    if WITHHELD in (one.definition, other.definition) or one.definition == other.definition:
        return True
    if one.kind not in QUERY_KINDS or one.major == other.major:
        return False
    plain, other_plain = one.definition.partition(" ")[2], other.definition.partition(" ")[2]
    return plain == other_plain or (bool(one.basis) and one.basis == other.basis)


@dataclass(frozen=True)
class Environments:
    """What two environments have in common and what not. `differences` are lines for people; `incomparable` says why nothing was compared."""

    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    compared: int = 0
    incomparable: str = ""


def compare_digested(ours: Digested, theirs: Digested, here: str, there: str) -> Environments:
    """Compares what two environments' workers have told of one service at the same bundle. `here`, `there`: the environments' names."""
    if ours.bundle != theirs.bundle or ours.engine != theirs.engine:
        return Environments(incomparable=f"{there} has told its schema at bundle {theirs.bundle[:12]} alone")
    for name, side in ((here, ours), (there, theirs)):
        if side.unproven:
            return Environments(
                incomparable=f"of some versions {name} has not recorded what they made; `greylag baseline` there records it"
            )
    found = compare(ours.objects, theirs.objects, _same_digest)
    other_release = ""
    if ours.engine == "clickhouse" and ours.server != theirs.server:
        other_release = f" (ClickHouse {ours.server} and {theirs.server} may print it in other words)"
    words = {"missing": f"in {here} alone", "unrecorded": f"in {there} alone", "changed": f"not the same in {there} and {here}"}
    lines = tuple(
        f"{item.subject}: {words[item.state]}{_author(item)}{other_release if item.state == 'changed' else ''}"
        for item in found.differences
    )
    return Environments(lines, found.notes, found.checked)


def _author(item: schema_comparison.Difference) -> str:
    return " (no version made it)" if item.version is None else f" (made by version {item.version})"
