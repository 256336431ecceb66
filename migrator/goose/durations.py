"""Go's durations, as `-timeout` and ClickHouse DSNs accept them (`1h13m`, `300ms`), and as goose prints the time that a migration took."""

from __future__ import annotations

import re

from migrator import errors

_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # MICRO SIGN
    "μs": 1_000,  # GREEK SMALL LETTER MU: Go accepts both
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}

_PART = r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)"  # compiled at first use: most starts read no duration

_LONGEST = (1 << 63) - 1  # a Go duration is an int64 of nanoseconds: about 292 years


def parse(text: str) -> float:
    """Returns the seconds of a Go duration (`time.ParseDuration`): `90s`, `1h13m`, `-1.5h`, `0`.

    Raises UsageError for anything else, including bare numbers.
    """
    body = text[1:] if text[:1] in ("-", "+") else text
    if body == "0":
        return 0.0
    total = 0
    position = 0
    while position < len(body):
        part = re.compile(_PART).match(body, position)
        if part is None or not (part[1] or part[2]):
            raise _invalid(text)
        unit = _NANOSECONDS[part[3]]
        fraction = part[2] or ""
        total += int(part[1] or "0") * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
        position = part.end()
    if not body or total > _LONGEST:
        raise _invalid(text)
    return (-total if text.startswith("-") else total) / 1_000_000_000


def _invalid(text: str) -> errors.UsageError:
    return errors.UsageError(
        f'invalid duration "{text}"',
        code="bad-duration",
        hint="write a number with its unit, as in 90s, 5m or 1h13m",
    )


def format_rounded(seconds: float) -> str:
    """Returns a duration as goose prints it after a migration: rounded to a hundredth of its unit (s, ms, µs; goose.md §5.4)."""
    nanoseconds = round(seconds * 1_000_000_000)
    for unit in (1_000_000_000, 1_000_000, 1_000):
        if nanoseconds > unit:
            step = unit // 100
            nanoseconds = (nanoseconds + step // 2) // step * step
            break
    return _format(nanoseconds)


def _format(nanoseconds: int) -> str:
    if nanoseconds == 0:
        return "0s"
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    for unit, limit in (("ns", 1_000), ("µs", 1_000_000), ("ms", 1_000_000_000)):
        if rest < limit:
            return f"{sign}{_decimal(rest, _NANOSECONDS[unit])}{unit}"
    minutes, below = divmod(rest, _NANOSECONDS["m"])
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(below, _NANOSECONDS['s'])}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else f"{sign}{text}"


def _decimal(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    if not fraction:
        return str(whole)
    return f"{whole}.{str(fraction).rjust(len(str(unit)) - 1, '0').rstrip('0')}"
