"""The standard input of a program: this command's own, or a file; at a terminal or not."""

from __future__ import annotations

import argparse
import errno
import os
import stat
import sys

from ...errors import ConfigError
from .stdin_sender import InputSource


def source(name: str | None) -> InputSource:
    """The input of the file `name`; None or "-": of the command. Raises ConfigError."""
    if name in (None, "-"):
        return InputSource(None if sys.stdin is None else sys.stdin.fileno())
    try:
        fd = os.open(str(name), os.O_RDONLY)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        raise ConfigError(f"--stdin {name}: {error.strerror}") from None
    return InputSource(fd)


def is_interactive(args: argparse.Namespace, source: InputSource) -> bool:
    """Whether exec has a terminal: as the user says, or as this command has one itself."""
    if args.interactive is not None:
        return bool(args.interactive)
    writes_to_terminal = sys.stdout is not None and sys.stdout.isatty()
    return source.is_terminal and writes_to_terminal and not args.json
