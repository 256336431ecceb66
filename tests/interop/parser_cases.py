"""Random migration files for comparing parsers: mostly well-formed, with every oddity that goose's rules, Go's strings and SQL's quotes have.

The same seed gives the same cases on every machine and Python.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

ENDINGS = [b"\n"] * 12 + [b"\r\n"] * 3 + [b"\r", b"\n\r", b"\r\r\n", b"\n\n", b" \n", b"\t\r\n"]
SPACES = [b" "] * 8 + [
    b"\t", b"\v", b"\f", b"\r", b"\x1c", b"\x1f", b"\x00", b"\x85", b"\xa0", b"\xc2\x85", b"\xc2\xa0", b"\xe1\x9a\x80", b"\xe2\x80\x83",
    b"\xe2\x80\xa8", b"\xe2\x80\xaf", b"\xe2\x81\x9f", b"\xe3\x80\x80", b"\xe2\x80\x8b", b"\xef\xbb\xbf", b"\xe2\x80", b"\xc2", b"\xe3\x80",
]  # fmt: skip
ANNOTATIONS = [b"Up", b"Down", b"StatementBegin", b"StatementEnd", b"NO TRANSACTION", b"ENVSUB ON", b"ENVSUB OFF"]
BAD_ANNOTATIONS = [b"", b"Upp", b"NO  TRANSACTION", b"Up;", b"Up -- note", b"Down +goose Down", b"ENVSUB", b"StatementBeg\xc4\xb1n",
    b"\xc5\xbftatementEnd", b"StatementBegin \xc2\xa0", b"ENV\xc5\xbfUB ON", b"NO TRAN\xc5\xbfACTION", b"\xe2\x84\xaa", b"U\xcc\x81p", b"up--",
    b"do--wn", b"\xffUp", b"Up\x00", b"\x1cUp", b"\xc2\x85Up\xe3\x80\x80"]  # fmt: skip
SQL = [
    b"SELECT 1;", b"SELECT 1", b";", b" ;", b"END ;", b"END; -- c", b"SELECT 1;--c", b"SELECT 1; /* c */", b"SELECT 1; # c", b"VALUES ('a -- b');",
    b"SELECT 1; SELECT 2;", b"/* block", b"block */", b"/* whole; */", b"$$", b"$body$", b"AS $$", b"END $$;", b"$$ LANGUAGE plpgsql;",
    b"'open", b"it''s'", b"';", b"'a;", b"CREATE TABLE t (", b"  a int,", b");", b"COMMIT;", b"ROLLBACK;", b"BEGIN;", b"x := 1;", b"-- comment",
    b"--", b"--;", b"  -- indented", b"- -", b"-", b"--+", b"-- goose", b"-- see +goose docs", b"-- +GOOSE Up", b"SELECT 1; -- +goose Down",
    b"+goose", b"'-- +goose Up'", b"\t-- +goose Up", b"\xc2\xa0-- +goose Up", b"\f-- +goose Down", b"-+goose-", b"\xff\xfe", b"\xc3\x28;", b"\x00;",
    b"SELECT '\xe2\x82\xac';", b"\xed\xa0\x80;", b"\xf0\x9f\x98\x80;", b"\xef\xbf\xbd;", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe1\x9a", b";\xc2\xa0",
    b";\xe2\x80\x8b", b";\x85", b";\x1c", b"a;\xe3\x80\x80--", b";\xe2\x80\xa8-- c", b"\\", b"\\\\;", b"\"quoted ; -- \";", b"E'\\';",
]  # fmt: skip
GOOD_EXPANSIONS = [
    b"$A", b"${A}", b"$UNSET", b"${UNSET}", b"${EMPTY}", b"${A:-word}", b"${UNSET:-word}", b"${EMPTY:-word}", b"${EMPTY-word}", b"${UNSET-word}",
    b"${UNSET:-${EMPTY:-$B}}", b"${UNSET:-${UNSET-${A}}}", b"${B:1}", b"${B:1:2}", b"${B: -2}", b"${B: -2:1}", b"${B:0:-1}", b"${B:99}",
    b"${B:1:-99}", b"${B: -99}", b"${B: -99:2}", b"${B:2:99}", b"${U:1}", b"${U: -1}", b"${U:1:2}", b"$$", b"\\$", b"\\\\", b"$(", b"$(date)",
    b"$A_b", b"$A1", b"$\xc3\xa9", b"${\xc3\xa9t\xc3\xa9}", b"$A\xff", b"${UNSET:-\xff}", b"${UNSET:-\xef\xbf\xbd}", b"$A\xe2\x85\xa3", b"$A\xcc\x81",
    b"${A:-}}", b"${UNSET:-{}}", b"$A\xd9\xa3", b"${A: \xc2\xa01 }", b"${A:+1}", b"${A:0:00000000000000000000002}", b"$SEMI", b"${SEMI}", b"$LINES",
    b"$SPACE", b"$DASH", b"${INVALID}", b"${INVALID:1:1}", b"$DOLLAR", b"${A:-x\\}y}", b"${UNSET:-\\}}", b"${UNSET:-a}b}", b"${UNSET:-$$}",
    b"${UNSET:-\\$A}", b"${UNSET:-$(x)}", b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbf\xbd",
]  # fmt: skip
BAD_EXPANSIONS = [
    b"${A?msg}", b"${EMPTY?msg}", b"${UNSET?msg}", b"${UNSET?}", b"${UNSET?no $A here}", b"${A:x}", b"${A:}", b"${A::}", b"${A:1:}", b"${A:1:x}",
    b"${A:?msg}", b"${A:+x}", b"${A=x}", b"$1", b"$.x", b"$'", b"$ ", b"${ A }", b"${A", b"${A:-", b"${A:-x", b"${A:1", b"$", b"${}", b"${1}", b"$_A",
    b"${A\xff}", b"${A:\xff}", b"${A:1\xff}", b"$\xff", b"$\xef\xbf\xbd", b"$\xe2\x85\xa3", b"$\xd9\xa3", b"${A:18446744073709551616}",
    b"${A:9223372036854775808}", b"${A:1:-}", b"${UNSET:-$1}", b"${A:-$1}", b"${UNSET?${UNSET?deep}}", b"${UNSET?a${A}b}", b"$\xf0\x91\xbd\x90",
    b"$\xcd\xb8",
]  # fmt: skip
VALUES = {
    "A": b"alpha", "B": b"beta", "EMPTY": b"", "U": b"\xc3\xa9\xe2\x82\xac", "SEMI": b"x;", "LINES": b"one\ntwo;\nthree", "SPACE": b" \t", "DASH": b"--",
    "INVALID": b"a\xffb\xc3", "DOLLAR": b"$A", "\u00e9t\u00e9": b"summer", "A_b": b"longer", "\u00e9": b"e",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One file in one direction, with the environment of its ENVSUB."""

    file: bytes
    direction: str
    env: dict[str, bytes]


def cases(count: int, seed: int) -> list[Case]:
    """`count` random cases."""
    chance = random.Random(seed)
    return [_case(chance) for _ in range(count)]


def texts(count: int, seed: int) -> list[bytes]:
    """`count` random byte strings, some UTF-8, some broken."""
    chance = random.Random(seed)
    return [_text(chance) for _ in range(count)]


def _case(chance: random.Random) -> Case:
    kind = chance.random()
    if kind < 0.6:
        data = _formed(chance, oddity=chance.choice([0.0, 0.02, 0.1, 0.3]))
    elif kind < 0.8:
        start = [b"-- +goose Up"] if chance.random() < 0.7 else []
        data = _lines(chance, start + [_any_line(chance) for _ in range(chance.randint(0, 8))])
    else:
        data = _mutated(chance, _formed(chance, oddity=0.05))
    if chance.random() < 0.02:
        data = b"\xef\xbb\xbf" + data
    env = {name: value for name, value in VALUES.items() if chance.random() < 0.8}
    if chance.random() < 0.1:
        env["A"] = _text(chance).replace(b"\0", b"")
    return Case(data, chance.choice(["up", "down"]), env)


def _formed(chance: random.Random, oddity: float) -> bytes:
    """A file with Up, statements, blocks, Down; `oddity` is the chance that a line is replaced by any other."""
    lines = [_comment(chance) for _ in range(chance.choice([0, 0, 0, 1, 2]))]
    if chance.random() < 0.2:
        lines.append(b"-- +goose NO TRANSACTION")
    for section in (b"Up", b"Down")[: chance.choice([1, 2, 2])]:
        if section == b"Down" and chance.random() < 0.15:
            lines.append(chance.choice([b" ", b"\t", b"\xc2\xa0"]))  # text to goose, and gone with the section
        lines.append(_annotation(chance, section, oddity))
        substitutes = False
        for _ in range(chance.randint(0, 6)):
            if chance.random() < 0.2:
                substitutes = not substitutes
                lines.append(b"-- +goose ENVSUB " + (b"ON" if substitutes else b"OFF"))
            lines += _block(chance, oddity) if chance.random() < 0.25 else _statement(chance, substitutes)
    lines = [_any_line(chance) if chance.random() < oddity else line for line in lines]
    return _lines(chance, lines)


def _statement(chance: random.Random, substitutes: bool) -> list[bytes]:
    kind = chance.random()
    if kind < 0.15:
        return [_comment(chance)]
    if kind < 0.25:
        return [chance.choice([b"", b"", b" ", b"\t", b"\xc2\xa0"])]
    if kind < 0.3:
        return [
            b"".join(chance.choice([*SPACES, b"--", b" --", b";", b"; ", b"a", b"\xc3\xa9"]) for _ in range(chance.randint(1, 8))),
            b";",
        ]
    lines = [chance.choice([b"SELECT 1", b"CREATE TABLE t (", b"INSERT INTO t VALUES", b"-- within", b"", b"'a", b"b'", b"/* c */"])
             for _ in range(chance.choice([0, 0, 1, 2, 4]))]  # fmt: skip
    if substitutes and chance.random() < 0.7:
        lines.append(b"SELECT " + _expansion(chance) + chance.choice([b"", b" ", b"x", b"'"]) + chance.choice([b"", _expansion(chance)]))
    ending = chance.choice([b"SELECT 1;", b";", b");", b"x ; -- c", b"END $$;", b"'b';", b"SELECT ';';"])
    return [*lines, ending] if chance.random() < 0.9 else [*lines, chance.choice(SQL)]


def _expansion(chance: random.Random) -> bytes:
    return chance.choice(GOOD_EXPANSIONS if chance.random() < 0.95 else BAD_EXPANSIONS)


def _block(chance: random.Random, oddity: float) -> list[bytes]:
    body = [chance.choice(SQL) for _ in range(chance.choice([0, 1, 2, 3, 6]))] if chance.random() < oddity else [
        chance.choice([b"CREATE FUNCTION f() AS $$", b"BEGIN", b"  x := 1;", b"", b"-- within", b"END;", b"$$ LANGUAGE sql;", b"SELECT 1; SELECT 2;"])
        for _ in range(chance.choice([0, 1, 2, 3, 6]))
    ]  # fmt: skip
    return [_annotation(chance, b"StatementBegin", oddity), *body, _annotation(chance, b"StatementEnd", oddity)]


def _annotation(chance: random.Random, keyword: bytes, oddity: float) -> bytes:
    if chance.random() >= max(oddity, 0.1):
        return b"-- +goose " + keyword
    written = chance.choice([keyword, keyword.lower(), keyword.upper(), keyword.swapcase(), keyword.replace(b"S", b"\xc5\xbf", 1)])
    return chance.choice([b"--+goose ", b"-- +goose", b"--  +goose\t", b"------ +goose ", b"--\xc2\xa0+goose\xe3\x80\x80", b"-- +goose -- "]) + written + (
        chance.choice(SPACES) if chance.random() < 0.3 else chance.choice([b"", b"", b" --", b" "])
    )  # fmt: skip


def _comment(chance: random.Random) -> bytes:
    return chance.choice([b"-- note", b"--", b"--note;", b"  -- note", b"\t--", b"-- it's", b"-- $1 ${", b"-- a\rb", b"\xc2\xa0-- n"])


def _any_line(chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.3:
        return chance.choice(SQL)
    if kind < 0.5:
        return _annotation(chance, chance.choice(ANNOTATIONS), 0.3)
    if kind < 0.58:
        return b"-- +goose " + chance.choice(BAD_ANNOTATIONS)
    if kind < 0.68:
        return b"".join(chance.choice([*SPACES, b"--", b";", b"a"]) for _ in range(chance.randint(0, 5)))
    if kind < 0.85:
        return b" ".join(chance.choice([_expansion(chance), b"text", b";"]) for _ in range(chance.randint(1, 4)))
    if kind < 0.95:
        return chance.choice(SPACES) + chance.choice(SQL) + chance.choice(SPACES)
    return _text(chance).replace(b"\n", b"")


def _lines(chance: random.Random, lines: list[bytes]) -> bytes:
    usual = chance.choice([b"\n", b"\n", b"\n", b"\r\n"])
    wild = chance.random() < 0.25
    data = b"".join(line + (chance.choice(ENDINGS) if wild and chance.random() < 0.3 else usual) for line in lines)
    return data.rstrip(b"\r\n") if chance.random() < 0.2 else data


def _mutated(chance: random.Random, data: bytes) -> bytes:
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(data))
        kind = chance.random()
        if kind < 0.3:
            data = data[:at] + data[at + chance.randint(1, 8) :]
        elif kind < 0.6:
            data = (
                data[:at]
                + chance.choice([*SPACES, b";", b"--", b"$", b"'", b"\n", b"+goose", chance.choice(SQL), _expansion(chance)])
                + data[at:]
            )
        elif kind < 0.8:
            data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        else:
            lines = data.split(b"\n")
            chance.shuffle(lines) if chance.random() < 0.3 else lines.insert(chance.randint(0, len(lines)), chance.choice(lines))
            data = b"\n".join(lines)
    return data


def _text(chance: random.Random) -> bytes:
    pieces = []
    for _ in range(chance.randint(0, 8)):
        kind = chance.random()
        if kind < 0.3:
            pieces.append(chr(chance.choice([chance.randrange(0x80), chance.randrange(0x800), chance.randrange(0xD800)])).encode())
        elif kind < 0.5:
            pieces.append(chr(chance.randrange(0xE000, 0x110000)).encode())
        elif kind < 0.8:
            pieces.append(bytes(chance.randrange(256) for _ in range(chance.randint(1, 4))))
        else:
            pieces.append(chance.choice(SPACES))
    return b"".join(pieces)
