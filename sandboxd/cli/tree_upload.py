"""The upload of a folder into a session."""

from __future__ import annotations

import fnmatch
import os
import time
from collections.abc import Iterator

from ..config import FilesConfig
from ..errors import ConfigError
from ..model import MIB
from .client import Client, LocalFile
from .reporter import Reporter

PROGRESS_S = 1.0
FILES = FilesConfig()
"""Bounds of one upload, as a daemon has them by default."""

VERSION_CONTROL = {".git", ".hg", ".svn"}


def collect(folder: str, exclude: list[str], say: Reporter) -> list[LocalFile]:
    """The files of `folder` by name, without those of version control and the excluded ones.

    Raises ConfigError for a file that is too large for an upload.
    """
    if not os.path.isdir(folder):
        raise ConfigError(f"{folder} is not a folder; name one to upload")
    files = []
    for path in _walk(folder):
        name = os.path.relpath(path, folder)
        if any(fnmatch.fnmatch(name, glob) for glob in exclude):
            continue
        real = os.path.realpath(path)
        if not real.startswith(f"{os.path.realpath(folder)}/") or not os.path.isfile(real):
            # Links are followed within the folder only: an untrusted author may have written them.
            say.warning(f"{path} is no file, or a link that leaves the folder; left out")
            continue
        size = os.stat(real).st_size
        if size > FILES.upload_size:
            raise ConfigError(
                f"{path} has {size / MIB:.1f} MiB; an upload takes {FILES.upload_size // MIB} MiB "
                f"a file at most; leave it out with --exclude '{name}'"
            )
        files.append(LocalFile(real, name, size))
    return files


def _walk(folder: str) -> Iterator[str]:
    for top, directories, names in os.walk(folder):
        directories[:] = sorted(d for d in directories if d not in VERSION_CONTROL)
        links = [d for d in directories if os.path.islink(os.path.join(top, d))]
        yield from (os.path.join(top, name) for name in sorted([*names, *links]))


def upload(client: Client, session: str, files: list[LocalFile], say: Reporter) -> None:
    """Upload `files`; long uploads report their progress."""
    total = sum(file.size for file in files)
    reported = time.monotonic()
    for start in range(0, len(files), FILES.upload_files):
        client.upload(session, files[start : start + FILES.upload_files])
        if time.monotonic() - reported > PROGRESS_S:
            reported = time.monotonic()
            done = min(start + FILES.upload_files, len(files))
            say.phase(f"uploaded {done} of {len(files)} files", uploaded=done)
    say.phase(f"uploaded {len(files)} files, {total:,} bytes", uploaded=len(files))
