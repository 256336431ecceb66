"""Go's classification of characters (white space, letters, numbers, printable ones) and Go's UTF-8 decoding.

goose decides with Go's `unicode` and `strings` packages, whose answers differ from `str.strip`, `str.split` and `str.isprintable`. This module answers
as Go 1.26 (Unicode 15.0) on every Python: the tables below hold the characters that Python 3.11 (Unicode 14.0) lacks, and those that only later
Pythons know. Text is either bytes, or a `str` decoded with surrogateescape, in which a lone surrogate stands for
one byte that isn't UTF-8, the same bytes that Go's decoder turns into U+FFFD one by one.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right

SPACE_CHARACTERS = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""Go's `unicode.IsSpace`. Unlike Python's, it lacks U+001C to U+001F."""

ASCII_SPACES = b"\t\n\v\f\r "
"""The white space of one byte, the same as for `bytes.strip` and `bytes.split`."""

WIDE_SPACES = tuple(character.encode() for character in SPACE_CHARACTERS if character > "\x7f")
"""The UTF-8 forms of the other white space. A match at an end of a byte string is always a whole character, because it includes the lead byte."""

REPLACEMENT = "\ufffd"
"""Go's `utf8.RuneError`: the character that stands for every invalid byte."""

_AFTER = (
    "558 58B-58C 5C8-5C9 88F 897 B53-B54 C5C CDC 1ACF-1AF0 1B4E-1B4F 1B7F 1C89-1C8A 208F 209D-209F 20C1-20C4 2427-2429 2B96 2E60-2E63 "
    "2FFC-2FFF 31E4-31E5 31EF A7CB-A7CF A7D2 A7D4 A7DA-A7DD A7E2 A7F1 AB6C-AB6D FBC3-FBD2 FD90-FD91 FDC8-FDCE 105C0-105F3 107BB-107BF "
    "10940-10959 10D40-10D65 10D69-10D85 10D8E-10D8F 10EC2-10EC7 10EC9-10EEE 10EF0-10EFC 11380-11389 1138B 1138E 11390-113B5 "
    "113B7-113C0 113C2 113C5 113C7-113CA 113CC-113D5 113D7-113D8 113E1-113E2 116D0-116E3 11B0A 11B60-11B67 11BC0-11BE1 11BF0-11BF9 "
    "11DB0-11DDB 11DE0-11DE9 11DF0-11DF1 11F5A 1246F 12475-1247F 12550-12686 13460-143FA 16100-16139 16D40-16D79 16EA0-16EB8 "
    "16EBB-16ED3 16FF2-16FF6 187F8-187FF 18CD6-18CDA 18CFF 18D09-18D20 18D80-18DF2 18E00-19191 191A0-191D2 1B123-1B128 1B168 "
    "1CC00-1CCFC 1CD00-1CEB3 1CEBA-1CED0 1CED2-1CED4 1CEDD-1CEFD 1D127-1D128 1D1EB-1D1FF 1D250-1D281 1D6A6 1DB00-1DB1C 1DF1F-1DF24 "
    "1DF2B-1DF81 1DF90-1DF96 1DFCD-1DFFF 1E5D0-1E5FA 1E5FF 1E6C0-1E6DE 1E6E0-1E6F5 1E6FE-1E6FF 1F1AE 1F6D8-1F6D9 1F777-1F77A "
    "1F7DA-1F7DB 1F7F1-1F7FF 1F8B2-1F8BB 1F8C0-1F8C1 1F8D0-1F8D8 1FA54-1FA57 1FA89-1FA8F 1FABE 1FAC6 1FAC8 1FACC-1FACD 1FADC-1FADD "
    "1FADF 1FAE9-1FAEB 1FAEF 1FAF9-1FAFA 1FBCB-1FBEF 1FBFA 2B73A-2B73F 2B81E 2CEA2-2CEAD 2EBF0-2EE5D 323B0-33479 3D000-3FC3F"
)
"""Assigned in Unicode 15.1 to 18.0: known to newer Pythons, unknown to Go 1.26."""

_NEW_LETTERS = (
    "1123F-11240 11F02 11F04-11F10 11F12-11F33 1342F 13441-13446 1B132 1B155 1DF25-1DF2A 1E030-1E06D 1E4D0-1E4EB 2B739 31350-323AF"
)
_NEW_NUMBERS = "11F50-11F59 1D2C0-1D2D3 1E4F0-1E4F9"
_NEW_OTHERS = (
    "CF3 ECE 10EFD-10EFF 11241 11B00-11B09 11F00-11F01 11F03 11F34-11F3A 11F3E-11F4F 13440 13447-13455 1E08F 1E4EC-1E4EF 1F6DC "
    "1F774-1F776 1F77B-1F77F 1F7D9 1FA75-1FA77 1FA87-1FA88 1FAAD-1FAAF 1FABB-1FABD 1FABF 1FACE-1FACF 1FADA-1FADB 1FAE8 1FAF7-1FAF8"
)
"""Assigned in Unicode 15.0: letters, numbers, and other printable characters that Python 3.11 lacks."""


class _Ranges:
    """A set of code points kept as ranges."""

    def __init__(self, text: str) -> None:
        pairs = sorted(tuple(int(end, 16) for end in f"{item}-{item}".split("-")[:2]) for item in text.split())
        self.starts = [pair[0] for pair in pairs]
        self.ends = [pair[1] for pair in pairs]

    def __contains__(self, point: int) -> bool:
        index = bisect_right(self.starts, point) - 1
        return index >= 0 and point <= self.ends[index]


_after = _Ranges(_AFTER)
_new_letters = _Ranges(_NEW_LETTERS)
_new_numbers = _Ranges(_NEW_NUMBERS)
_new_others = _Ranges(_NEW_OTHERS)


def decode(data: bytes) -> str:
    """Decodes bytes to text; each byte that isn't UTF-8 becomes one lone surrogate."""
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """Encodes a text to bytes; the inverse of `decode`. Other lone surrogates, which no file can hold, are kept in their three-byte form."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return b"".join(
            character.encode("utf-8", "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass") for character in text
        )


def is_letter(character: str) -> bool:
    """Tells whether a character is a letter for Go (`unicode.IsLetter`)."""
    if character < "\x80":
        return character.isalpha()
    point = ord(character)
    if point in _after:
        return False
    return unicodedata.category(character)[0] == "L" or point in _new_letters


def is_number(character: str) -> bool:
    """Tells whether a character is a number for Go (`unicode.IsNumber`): digits, and number-like characters such as U+2163 and U+00BD."""
    if character < "\x80":
        return character.isdigit()
    point = ord(character)
    if point in _after:
        return False
    return unicodedata.category(character)[0] == "N" or point in _new_numbers


def is_printable(character: str) -> bool:
    """Tells whether a character is printable for Go (`strconv.IsPrint`): letters, marks, numbers, punctuation, symbols, and the ASCII space."""
    if character < "\x7f":
        return character >= " "
    point = ord(character)
    if point in _after:
        return False
    return character.isprintable() or point in _new_letters or point in _new_numbers or point in _new_others


def trim_bounds(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Returns the begin and end of `strings.TrimSpace(data[start:end])`, without copying."""
    while start < end:
        if data[start] in ASCII_SPACES:
            start += 1
        elif data[start] > 0x7F and data.startswith(WIDE_SPACES, start, end):
            start += 2 if data[start] == 0xC2 else 3
        else:
            break
    while start < end:
        if data[end - 1] in ASCII_SPACES:
            end -= 1
        elif data[end - 1] > 0x7F and data.endswith(WIDE_SPACES, start, end):
            end -= 2 if data[end - 2] == 0xC2 else 3
        else:
            break
    return start, end


def trim(data: bytes) -> bytes:
    """Trims white space as Go's `strings.TrimSpace` does."""
    data = data.strip()
    if data and (data[0] > 0x7F or data[-1] > 0x7F):
        start, end = trim_bounds(data, 0, len(data))
        return data[start:end]
    return data
