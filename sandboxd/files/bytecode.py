"""Bytecode of replaced Python modules.

CPython takes a cached .pyc for that of its source when the time of change, in whole seconds, and
the size of the source are those of the .pyc. A module that is uploaded twice within a second can
have both in common with the earlier one, and a program would run that one. The bytecode of each
uploaded module is therefore removed. Only an upload needs this: an editor or a program that writes
sources in a session has the rules of any host.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from ..jail.syscalls import RESOLVE_NO_XDEV
from .beneath import look
from .paths import Name

_SOURCE, _BYTECODE, _CACHE = ".py", ".pyc", "__pycache__"


def remove_stale(home: int, names: Iterable[Name]) -> None:
    """Remove the bytecode of the modules among the files `names` below `home`.

    A program may have closed the directory, or changed it meanwhile: then its bytecode stays.
    """
    for name in names:
        if name[-1].endswith(_SOURCE):
            with contextlib.suppress(OSError):
                _remove(home, name[:-1], name[-1].removesuffix(_SOURCE))


def _remove(home: int, parents: Name, module: str) -> None:
    cache = look(home, (*parents, _CACHE), os.O_DIRECTORY, RESOLVE_NO_XDEV)
    try:
        listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=cache)
        try:
            # NAME.cpython-311.pyc, NAME.cpython-311.opt-1.pyc
            stale = [
                entry.name
                for entry in os.scandir(listing)
                if entry.name.startswith(f"{module}.") and entry.name.endswith(_BYTECODE)
            ]
        finally:
            os.close(listing)
        for name in stale:
            os.unlink(name, dir_fd=cache)
    finally:
        os.close(cache)
