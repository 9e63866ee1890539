"""The tables [folders] and [workspaces] of the configuration: files that outlive sessions."""

from __future__ import annotations

from dataclasses import dataclass

from ..model import GIB


@dataclass(frozen=True, slots=True)
class FoldersConfig:
    """Virtual folders: files that outlive sessions, each in a file system of its own size.

    size    bytes of a folder without a requested quota, and the largest quota of a request
    inodes  files and directories of a folder at most; a small folder has one for each 8 KiB
    count   folders of one owner
    token_s seconds for which the token of an upload or a download is valid
    """

    size: int = 10 * GIB
    inodes: int = 1 << 20
    count: int = 100
    token_s: float = 3600


@dataclass(frozen=True, slots=True)
class WorkspacesConfig:
    """Workspaces: directories of users of the host that their sessions see.

    paths  directories below which a user's own directories may be workspaces; none: no workspaces
    """

    paths: tuple[str, ...] = ()
