"""A condition under which a system call that programs may make is refused. No I/O."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass

ALL_BITS = 0xFFFFFFFF
"""The mask of a condition that compares all that the kernel looks at."""


@dataclass(frozen=True, slots=True)
class Condition:
    """An allowed `call` is answered `errno` when argument `index`, under `mask`, is one of
    `values`; with `inverted`, when the argument is none of them.

    EPERM means refused, and counted like the calls above. Other errors are everyday answers of the
    kernel, which programs expect and survive. `where`, an index and a value: the condition holds
    only where this argument too has this value, under `where_mask`; the filter compares both in one
    rule. With `bounded`, a name of `shim/bounded_calls.py`, the shim decides: a run may do so many
    of these calls.
    """

    call: str
    index: int
    mask: int
    values: tuple[int, ...]
    errno: int
    where: tuple[int, int] | None = None
    inverted: bool = False
    where_mask: int = ALL_BITS
    bounded: str = ""


def only(
    call: str,
    index: int,
    values: Iterable[int],
    errno: int,
    mask: int = ALL_BITS,
    where: tuple[int, int] | None = None,
) -> Condition:
    """The argument `index` is one of `values`; all others are answered `errno`."""
    return Condition(call, index, mask, tuple(values), errno, where, inverted=True)


def bounded(
    call: str,
    index: int,
    values: Iterable[int],
    name: str,
    where: tuple[int, int] | None = None,
    mask: int = ALL_BITS,
) -> Condition:
    """A run may do so many of the calls whose argument `index`, under `mask`, is one of `values`,
    as the shim has a bound for `name`."""
    return Condition(call, index, mask, tuple(values), errno.EPERM, where, bounded=name)
