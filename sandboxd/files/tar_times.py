"""The times in a tar, as the text of pax records: a float would lose nanoseconds. No I/O."""

from __future__ import annotations

import re

SECOND = 1_000_000_000
"""Nanoseconds of a second."""

_DECIMAL = re.compile(r"(-?)(\d{1,18})(?:\.(\d{0,40}))?", re.ASCII)


def decimal_seconds(ns: int) -> str:
    """Nanoseconds as the exact text of decimal seconds."""
    whole, rest = divmod(abs(ns), SECOND)
    return f"{'-' if ns < 0 else ''}{whole}.{rest:09d}"


def nanoseconds(text: str) -> int | None:
    """Decimal seconds, exactly, as nanoseconds rounded down. None: another text, or more digits
    than any time has."""
    match = _DECIMAL.fullmatch(text)
    if not match:
        return None
    fraction = (match[3] or "").ljust(10, "0")
    value = int(match[2]) * SECOND + int(fraction[:9])
    if not match[1]:
        return value
    return -value - bool(fraction[9:].strip("0"))
