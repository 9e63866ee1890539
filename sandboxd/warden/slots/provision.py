"""The provision of a slot: its directories and its scratch, for a session or a spare.

It is the twin of reclaim.py: background jobs do both, and both get data only (job_process.py).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ...config.settings import ScratchConfig
from ...jail.stage import stage
from . import flush
from .scratch import ScratchMaker
from .slots import commit


def provision(
    state_dir: str,
    kind: str,
    path: str,
    uid: int,
    size: int,
    inodes: int,
    session: str,
    places: Sequence[str] = (),
) -> None:
    """Make all that the slot at `path` has, on the disk when this returns: directories, a scratch
    of `size` bytes and `inodes`, in it the `places` of folders, the name of the `session`; "": a
    spare. The caller holds the lease of `uid`, and has the rest reclaimed after a StageError."""
    with stage("lease"):
        os.makedirs(f"{path}/runs", mode=0o700)
        os.mkdir(f"{path}/scratch", mode=0o700)
    ScratchMaker(ScratchConfig(kind), state_dir).make(path, uid, size, inodes)
    with stage("lease"):
        for place in places:  # no program of the session has run yet
            os.mkdir(f"{path}/scratch/work/{place}")
        flush.file_system(f"{path}/scratch")
        commit(path, session)
