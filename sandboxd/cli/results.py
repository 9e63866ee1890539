"""The results of a run: the files that are downloaded after it."""

from __future__ import annotations

import os

from ..config import FilesConfig
from ..errors import ConfigError, Refused
from .client import Client
from .reporter import Reporter

FILES = FilesConfig()
"""Bounds of one download, as a daemon has them by default."""


def check_writable(into: str) -> None:
    """Raises ConfigError where results cannot be put."""
    parent = into if os.path.isdir(into) else os.path.dirname(os.path.abspath(into))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigError(f"--into {into}: {parent} is not a folder that can be written to")


def fetch(client: Client, session: str, paths: list[str], into: str, say: Reporter) -> bool:
    """Download the results; False, after a warning, when one of them is missing."""
    fetched = True
    for start in range(0, len(paths), FILES.download_files):
        try:
            for name in client.download(session, paths[start : start + FILES.download_files], into):
                say.phase(f"got {os.path.join(into, name)}", got=name)
        except Refused as error:
            say.warning(f"--get: {error}")
            fetched = False
    return fetched
